//! Rollouts under way: what they are told, what follows, and the orders that
//! their hosts are sent.
//!
//! Keeps true: event, facts, stored, then orders; orders are worked out anew
//! each time and never kept. A generation is durable before it is sent (P3, P4).

use std::collections::HashMap;

use cutover_core::rollout::{Event, Fact, Outcome, Stamped};
use cutover_core::swap::{SwapOrder, Target};
use cutover_core::{Generation, HostId, Moment, ServiceId};
use cutover_proto::v1;
use cutover_proto::v1::to_agent;
use prost::Message;

use super::Helm;
use super::deeds::Deeds;
use super::hear::by_hand;
use super::live::Live;
use super::sentences;
use crate::store::{Key, Table};

/// The last lines of a fallen candidate's log that are kept.
const LAST_LOG: usize = 4096;
/// Orders are said again this often within a lease, so that two may be lost.
pub(super) const ORDERS_PER_LEASE: u32 = 3;
/// Rollouts that are kept; the oldest go.
const ROLLOUTS_KEPT: u64 = 500;

impl Helm {
    /// The rollouts, open or owed, in which this host takes part.
    pub(super) fn rollouts_of(&self, host: &HostId) -> Vec<u64> {
        let of_host = self.live.values().filter(|live| live.has(host));
        of_host.map(|live| live.number).collect()
    }

    /// Tells a rollout what happened, and stores what follows.
    pub(super) fn tell(&mut self, number: u64, event: Event, deeds: &mut Deeds) {
        let Some(live) = self.live.get_mut(&number) else {
            return;
        };
        let Some(machine) = &mut live.machine else {
            return;
        };
        deeds.touched.insert(number);
        let facts = machine.handle(deeds.now, event);
        for stamped in facts {
            self.keep_fact(number, stamped, deeds);
        }
    }

    fn keep_fact(&mut self, number: u64, stamped: Stamped, deeds: &mut Deeds) {
        let Some(live) = self.live.get_mut(&number) else {
            return;
        };
        let (host, text) = sentences::of_fact(&stamped.fact, live);
        let mut wire = v1::RolloutFact::new(&stamped, deeds.unix_millis);
        wire.host.clone_from(&host);
        wire.text.clone_from(&text);
        deeds.put(Table::Facts, Key::at(number).number(live.sequence), &wire);
        live.sequence += 1;
        live.timeline.push(sentences::entry(&wire));
        if sentences::is_news(&stamped.fact) {
            deeds.event(v1::EventRecord {
                kind: "rollout".to_owned(),
                service: live.service.to_string(),
                host,
                rollout: live.id.to_string(),
                text,
                level: sentences::level(&stamped.fact).to_owned(),
                ..v1::EventRecord::default()
            });
        }
        let service = live.service.clone();
        let fact = stamped.fact;
        live.note(&fact);
        match fact {
            Fact::Ordered {
                host, generation, ..
            } => self.raise_fence(&host, &service, generation, deeds),
            Fact::Closed(outcome) => self.closed(number, outcome, deeds),
            Fact::WaveBegan { .. }
            | Fact::Reached { .. }
            | Fact::WasThere { .. }
            | Fact::Fell { .. }
            | Fact::BarrierPassed
            | Fact::CommitDecided { .. }
            | Fact::WaveEnded { .. }
            | Fact::Paused
            | Fact::Resumed
            | Fact::Held { .. }
            | Fact::RollbackDecided { .. }
            | Fact::Superseded
            | Fact::Rebooted => {}
        }
    }

    /// A generation is about to be given out: it is never given out again.
    pub(super) fn raise_fence(
        &mut self,
        host: &HostId,
        service: &ServiceId,
        generation: Generation,
        deeds: &mut Deeds,
    ) {
        let Some(known) = self.fleet.hosts.get_mut(host) else {
            return;
        };
        let desk = known.desks.entry(service.clone()).or_default();
        if generation > desk.record.fence.map_or(Generation::NONE, Into::into) {
            desk.record.fence = Some(generation.into());
            let key = Key::of(host.as_str()).text(service.to_string());
            deeds.put(Table::Desks, key, &desk.record);
        }
    }

    fn closed(&mut self, number: u64, outcome: Outcome, deeds: &mut Deeds) {
        let Some(live) = self.live.get_mut(&number) else {
            return;
        };
        live.record.set_outcome(outcome.into());
        live.record.ended_unix_millis = deeds.unix_millis;
        // A host forgets it with its next swap.
        live.record.traffic = counted(&self.fleet, live);
        deeds.put(Table::Rollouts, Key::at(number), &live.record);
        let to = live.record.to_revision;
        let kind = live.record.kind.clone();
        let service = live.service.clone();
        let changed = match outcome {
            Outcome::Committed => true,
            Outcome::Mixed => committed_somewhere(live),
            Outcome::Aborted | Outcome::RolledBack => false,
        };
        if changed && matches!(kind.as_str(), "deploy" | "rollback" | "remove") {
            self.now_current(&service, to, deeds);
        }
        self.metrics.ended(outcome);
        deeds.snapshot = true;
        self.drop_old_rollouts(number, deeds);
    }

    /// The service is at this revision from now on; 0: it is removed.
    pub(super) fn now_current(&mut self, service: &ServiceId, to: u64, deeds: &mut Deeds) {
        let known = self.services.services.entry(service.clone()).or_default();
        known.record.service = service.to_string();
        if known.record.current != to {
            known.record.previous = known.record.current;
            known.record.current = to;
        }
        known.record.removed = to == 0;
        known.record.unsure.clear();
        self.services.save(deeds, service);
    }

    fn drop_old_rollouts(&self, newest: u64, deeds: &mut Deeds) {
        let Some(oldest) = newest.checked_sub(ROLLOUTS_KEPT) else {
            return;
        };
        if !self.live.contains_key(&oldest) {
            deeds.change(|batch| {
                batch
                    .remove(Table::Rollouts, Key::at(oldest))
                    .remove_all(Table::Facts, Key::at(oldest))
            });
        }
    }

    /// The log of a candidate that fell outlives its container.
    pub(super) fn keep_last_log(&mut self, number: u64, host: &HostId, deeds: &mut Deeds) {
        let Some(live) = self.live.get_mut(&number) else {
            return;
        };
        let Some(said) = self.fleet.said(host, &live.service) else {
            return;
        };
        let ours = said
            .wire
            .swap
            .as_ref()
            .is_some_and(|swap| swap.rollout == live.id.as_str());
        if said.wire.last_log.is_empty() || !ours || live.last_logs.contains_key(host) {
            return;
        }
        let text = tail(&said.wire.last_log, LAST_LOG).to_owned();
        let record = v1::RolloutFact {
            unix_millis: deeds.unix_millis,
            last_log: Some(v1::LastLog {
                host: host.to_string(),
                text: text.clone(),
            }),
            ..v1::RolloutFact::default()
        };
        deeds.put(Table::Facts, Key::at(number).number(live.sequence), &record);
        live.sequence += 1;
        live.last_logs.insert(host.clone(), text);
        deeds.touched.insert(number);
    }

    /// Sends what the hosts of these rollouts have not been sent, and everything where it is time.
    pub(super) fn send_orders(&mut self, deeds: &Deeds) {
        let due = self.settings.lease / ORDERS_PER_LEASE;
        let numbers: Vec<u64> = self.live.keys().copied().collect();
        for number in numbers {
            let Some(live) = self.live.get_mut(&number) else {
                continue;
            };
            let again = deeds.now.since(live.renewed) >= due;
            if !again && !deeds.touched.contains(&number) {
                continue;
            }
            let Some(machine) = &live.machine else {
                continue;
            };
            let orders = machine.orders(deeds.now);
            if again {
                live.renewed = deeds.now;
            }
            let service = live.service.clone();
            for (host, order) in orders {
                self.send_order(&host, &service, &order, again);
            }
        }
        for (host, service) in &deeds.strays {
            self.send_stray(host, service, deeds.now);
        }
    }

    fn send_order(&mut self, host: &HostId, service: &ServiceId, order: &SwapOrder, again: bool) {
        let what = (order.generation, order.target);
        let session = self
            .fleet
            .hosts
            .get(host)
            .and_then(|host| host.session.as_ref());
        let Some(session) = session else { return };
        if !again && session.sent.get(service) == Some(&what) {
            return;
        }
        let revisions = self.revisions_for(host, service, order);
        let message = v1::SwapOrder::new(service, order, revisions);
        let sent = self.roster.send(
            host,
            to_agent::What::Order(v1::Order {
                order: message.encode_to_vec(),
            }),
        );
        match sent {
            Ok(()) => {
                self.metrics.orders.inc();
                let host = self.fleet.hosts.get_mut(host);
                if let Some(session) = host.and_then(|host| host.session.as_mut()) {
                    session.sent.insert(service.clone(), what);
                }
            }
            Err(error) => tracing::debug!(%host, %service, %error, "an order was not sent"),
        }
    }

    /// Both sides' revisions, unless the host showed that it has this swap.
    fn revisions_for(
        &mut self,
        host: &HostId,
        service: &ServiceId,
        order: &SwapOrder,
    ) -> Vec<v1::Revision> {
        let knows = self.fleet.said(host, service).is_some_and(|said| {
            let swap = said.report.swap.as_ref();
            swap.is_some_and(|swap| swap.generation == order.generation)
        });
        let Some(plan) = order.plan.as_ref().filter(|_| !knows) else {
            return Vec::new();
        };
        let sides = [plan.kind.incumbent(), plan.kind.candidate()];
        let numbers = sides.into_iter().flatten().map(|side| side.revision.get());
        let numbers: Vec<u64> = numbers.collect();
        let found = numbers.into_iter().filter_map(|number| {
            match self.services.revision(&self.store, service, number) {
                Ok(found) => found.map(|(revision, _)| revision.clone()),
                Err(error) => {
                    tracing::error!(%service, number, %error, "a revision could not be read");
                    None
                }
            }
        });
        found.collect()
    }

    /// Marks an open swap that no rollout here knows: it is to be taken back.
    pub(super) fn find_strays(&mut self, deeds: &mut Deeds) {
        for (host, service) in deeds.strays.clone() {
            let Some(desk) = self.fleet.desk(&host, &service) else {
                continue;
            };
            let Some(swap) = desk.open_swap() else {
                continue;
            };
            let ours = self
                .live
                .values()
                .any(|live| live.id == swap.rollout && live.has(&host) && live.service == service);
            let by_hand = desk.said.as_ref().is_some_and(|said| by_hand(&said.report));
            if ours || by_hand || desk.stray.is_some() {
                continue;
            }
            let epoch = self.store.epoch().max(self.raise_to.unwrap_or(0));
            let generation = desk.fence().next(epoch);
            let text = format!(
                "a swap of rollout {} is open, which is not known here: it is taken back",
                swap.rollout
            );
            deeds.event(v1::EventRecord {
                kind: "rollout".to_owned(),
                service: service.to_string(),
                host: host.to_string(),
                text,
                level: "warn".to_owned(),
                ..v1::EventRecord::default()
            });
            self.raise_fence(&host, &service, generation, deeds);
            let host = self.fleet.hosts.get_mut(&host);
            if let Some(desk) = host.and_then(|host| host.desks.get_mut(&service)) {
                desk.stray = Some(generation);
            }
        }
    }

    fn send_stray(&mut self, host: &HostId, service: &ServiceId, now: Moment) {
        let Some(known) = self.fleet.host(host) else {
            return;
        };
        let stray = known.desks.get(service).and_then(|desk| desk.stray);
        let (Some(generation), Some(clock)) = (stray, known.clock_at(now)) else {
            return;
        };
        let order = SwapOrder {
            plan: None,
            generation,
            target: Target::Reverted,
            lease_until: clock + self.settings.lease,
        };
        // Twice at least: the first time raises the host's fence, the second time it obeys.
        self.send_order(host, service, &order, true);
    }

    /// Lets go of what is over, once everybody was told.
    pub(super) fn let_go(&mut self) {
        self.live
            .retain(|_, live| live.outcome().is_none() || live.is_owed());
    }
}

/// What nginx counted of this rollout's swaps, by host.
fn counted(fleet: &super::fleet::Fleet, live: &Live) -> HashMap<String, v1::TrafficReport> {
    let hosts = live
        .machine
        .iter()
        .flat_map(|machine| &machine.plan().hosts);
    let said = hosts.filter_map(|plan| Some((&plan.host, fleet.said(&plan.host, &live.service)?)));
    let ours = said.filter(|(_, said)| {
        let swap = said.wire.swap.as_ref();
        swap.is_some_and(|swap| swap.rollout == live.id.as_str())
    });
    ours.filter_map(|(host, said)| Some((host.to_string(), said.wire.traffic?)))
        .collect()
}

fn committed_somewhere(live: &Live) -> bool {
    let Some(machine) = &live.machine else {
        return false;
    };
    let view = machine.view();
    let kept = |host: &cutover_core::rollout::HostView| {
        use cutover_core::rollout::Fate;
        matches!(host.fate, Fate::Committed | Fate::There) || host.target == Some(Target::Committed)
    };
    !live.went_back && (view.hosts.is_empty() || view.hosts.iter().any(kept))
}

/// The end of a text, of so many bytes at most.
fn tail(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
