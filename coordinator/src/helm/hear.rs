//! What hosts say: who is there, what runs there, and whether somebody else
//! commands them.
//!
//! Keeps true (P4): what a host knows and we do not is taken in before the first
//! order to it: a higher generation raises our epoch, a revision is asked for and
//! kept. A host that obeyed us and then a higher epoch has another coordinator.

use cutover_core::rollout::Event;
use cutover_core::swap::Report;
use cutover_core::{Generation, HostId, Moment, ServiceId};
use cutover_proto::v1;
use cutover_proto::v1::from_agent;

use super::Helm;
use super::deeds::Deeds;
use super::fleet::Session;
use super::sense;
use crate::roster::{Farewell, RosterEvent, SessionId};
use crate::store::{Key, Table};

/// How rollouts are named that began on a host, without a coordinator.
const BY_HAND: &str = "by-hand-";

impl Helm {
    pub(super) fn hear(&mut self, event: RosterEvent, deeds: &mut Deeds) {
        match event {
            RosterEvent::Connected {
                host,
                session,
                peer: _,
                hello,
            } => self.greet(&host, session, *hello, deeds),
            RosterEvent::Said {
                host,
                session,
                what,
            } => {
                let newest = self
                    .fleet
                    .host(&host)
                    .and_then(|host| host.session.as_ref());
                if newest.is_some_and(|newest| newest.id == session) {
                    self.said(&host, *what, deeds);
                }
            }
            RosterEvent::Disconnected { host, session, why } => {
                self.left(&host, session, &why, deeds);
            }
            RosterEvent::Quarantined { host, why } => deeds.event(v1::EventRecord {
                kind: "security".to_owned(),
                host: host.to_string(),
                text: why,
                level: "error".to_owned(),
                ..v1::EventRecord::default()
            }),
        }
    }

    fn greet(&mut self, id: &HostId, session: SessionId, hello: v1::Hello, deeds: &mut Deeds) {
        let Some(host) = self.fleet.hosts.get_mut(id) else {
            self.roster.end(id, Farewell::removed(id)); // removed between its question and its Hello
            return;
        };
        let known_before = host.greeted;
        host.greeted = true;
        host.session = Some(Session {
            id: session,
            sent: Default::default(),
        });
        host.clock = Some((Moment::from_nanos(hello.clock_nanos), deeds.now));
        host.record.agent_version = sense::version(&hello.agent_version);
        host.record.facts = sense::facts(hello.facts).collect();
        host.record.last_seen_unix_millis = deeds.unix_millis;
        host.record.clock_skew_millis = match hello.unix_millis {
            0 => 0, // an older agent, which does not say
            theirs => theirs.saturating_sub(deeds.unix_millis),
        };
        deeds.put(Table::Hosts, Key::of(id.as_str()), &host.record);
        deeds.event(host_event(id, "connected", "info"));
        if let Some(skew) = super::doctor::skew(host) {
            deeds.event(host_event(id, &skew, "warn"));
        }

        let mut told = Vec::new();
        for bytes in &hello.berths {
            if let Some(service) = self.report(id, bytes, known_before, deeds) {
                told.push(service);
            }
        }
        self.forget_what_is_gone(id, &told, deeds);
        // After the reports: they are as old as what they tell, and a lease counts from the clock.
        for number in self.rollouts_of(id) {
            let heard = Event::Heard {
                host: id.clone(),
                clock: Moment::from_nanos(hello.clock_nanos),
            };
            self.tell(number, heard, deeds);
        }
        self.returned.insert(id.clone());
    }

    /// What the host no longer mentions is not there any more (its journal was lost).
    fn forget_what_is_gone(&mut self, id: &HostId, told: &[ServiceId], deeds: &mut Deeds) {
        let Some(host) = self.fleet.hosts.get_mut(id) else {
            return;
        };
        for (service, desk) in &mut host.desks {
            if !told.contains(service) && (desk.said.is_some() || desk.record.current != 0) {
                desk.record.fence = Some(desk.fence().into());
                desk.said = None;
                desk.record.current = 0;
                desk.record.parked.clear();
                let key = Key::of(id.as_str()).text(service.to_string());
                deeds.put(Table::Desks, key, &desk.record);
            }
        }
    }

    fn said(&mut self, id: &HostId, what: from_agent::What, deeds: &mut Deeds) {
        match what {
            from_agent::What::Report(report) => {
                self.metrics.reports.inc();
                self.tick_clock(id, report.clock_nanos, deeds.now);
                self.report(id, &report.report, true, deeds);
            }
            from_agent::What::Facts(facts) => {
                self.tick_clock(id, facts.clock_nanos, deeds.now);
                if let Some(host) = self.fleet.hosts.get_mut(id) {
                    host.record.facts.extend(sense::facts(facts.facts));
                    if sense::too_many(&host.record.facts) {
                        host.record.facts.clear(); // an agent that makes up names; the next Hello says all
                    }
                    deeds.put(Table::Hosts, Key::of(id.as_str()), &host.record);
                }
            }
            from_agent::What::Answer(answer) => self.answered(id, answer, deeds),
            from_agent::What::Bye(_) => {} // its end follows
            from_agent::What::Hello(_) | from_agent::What::Renewed(_) => {} // never: the link keeps them
        }
    }

    fn tick_clock(&mut self, id: &HostId, nanos: u64, now: Moment) {
        if let Some(host) = self.fleet.hosts.get_mut(id).filter(|_| nanos > 0) {
            host.clock = Some((Moment::from_nanos(nanos), now));
        }
    }

    fn left(&mut self, id: &HostId, session: SessionId, why: &str, deeds: &mut Deeds) {
        let Some(host) = self.fleet.hosts.get_mut(id) else {
            return;
        };
        if host
            .session
            .as_ref()
            .is_none_or(|newest| newest.id != session)
        {
            return;
        }
        host.session = None;
        host.record.last_seen_unix_millis = deeds.unix_millis;
        deeds.put(Table::Hosts, Key::of(id.as_str()), &host.record);
        deeds.event(host_event(id, &format!("left: {why}"), "warn"));
        for number in self.rollouts_of(id) {
            self.tell(number, Event::Left(id.clone()), deeds);
        }
        self.unanswered(id, deeds);
    }

    /// Takes in one account of one service. Gives the service, unless the bytes make no sense.
    fn report(
        &mut self,
        id: &HostId,
        bytes: &[u8],
        obeyed_us: bool,
        deeds: &mut Deeds,
    ) -> Option<ServiceId> {
        let sensible = sense::report(bytes).and_then(|(wire, report)| {
            self.can_be(id, &wire, &report.service)?;
            Ok((wire, report))
        });
        let (wire, report) = match sensible {
            Ok(both) => both,
            Err(error) => {
                tracing::warn!(host = %id, error, "a report that makes no sense");
                return None;
            }
        };
        let service = report.service.clone();
        self.compare_generations(id, &report, obeyed_us);
        self.compare_revisions(id, &wire, deeds);
        let host = self.fleet.hosts.get_mut(id)?;
        let desk = host.desks.entry(service.clone()).or_default();
        let known: Vec<String> = desk
            .said
            .as_ref()
            .map_or_else(Vec::new, |said| said.wire.warnings.clone());
        let warnings = wire.warnings.clone();
        if !desk.hear(wire, report.clone()) {
            return Some(service);
        }
        for warning in warnings.into_iter().filter(|now| !known.contains(now)) {
            deeds.event(v1::EventRecord {
                kind: "host".to_owned(),
                service: service.to_string(),
                host: id.to_string(),
                text: warning,
                level: "warn".to_owned(),
                ..v1::EventRecord::default()
            });
        }
        if desk.open_swap().is_none() {
            desk.stray = None;
        }
        if desk.catch_up() {
            let key = Key::of(id.as_str()).text(service.to_string());
            deeds.put(Table::Desks, key, &desk.record);
        }
        for number in self.rollouts_of(id) {
            let ours = self
                .live
                .get(&number)
                .is_some_and(|live| live.service == service);
            if ours {
                let reported = Event::Reported(id.clone(), Box::new(report.clone()));
                self.tell(number, reported, deeds);
                self.keep_last_log(number, id, deeds);
            }
        }
        deeds.strays.insert((id.clone(), service.clone()));
        Some(service)
    }

    /// Whether a host can say that of a service.
    fn can_be(
        &self,
        id: &HostId,
        wire: &v1::BerthReport,
        service: &ServiceId,
    ) -> Result<(), String> {
        let desks = self.fleet.host(id).map(|host| &host.desks);
        if desks.is_some_and(|d| !d.contains_key(service) && d.len() >= sense::SERVICES) {
            return Err(format!(
                "{service}: a host has at most {} services",
                sense::SERVICES
            ));
        }
        let newest = self.services.get(service).map_or(0, |s| s.record.newest);
        let epoch = self.store.epoch().max(self.raise_to.unwrap_or(0));
        sense::numbers(wire, newest, epoch).map_err(|why| format!("{service}: {why}"))
    }

    /// Whether somebody else has given orders there.
    fn compare_generations(&mut self, id: &HostId, report: &Report, obeyed_us: bool) {
        let known = self
            .fleet
            .desk(id, &report.service)
            .map_or(Generation::NONE, super::fleet::Desk::fence);
        let ours = self.store.epoch().max(self.raise_to.unwrap_or(0));
        if report.fence.epoch > ours && obeyed_us {
            self.deposed = Some(format!(
                "{id} obeys another coordinator, of epoch {} (ours is {ours})",
                report.fence.epoch
            ));
        } else if report.fence.epoch > ours
            || report.fence > known && report.fence.epoch == ours && !by_hand(report)
        {
            tracing::warn!(host = %id, service = %report.service, seen = %report.fence, %known,
                "the host has seen a generation that is not known here: the epoch rises");
            self.raise_to = Some(report.fence.epoch + 1);
        }
    }

    /// Whether it holds revisions that we do not know.
    fn compare_revisions(&mut self, id: &HostId, wire: &v1::BerthReport, deeds: &mut Deeds) {
        let Ok(service) = wire.service.parse::<ServiceId>() else {
            return;
        };
        let candidate = wire.swap.as_ref().map_or(0, |swap| swap.candidate);
        let held = wire.parked.iter().copied().chain([wire.current, candidate]);
        for number in held.filter(|number| *number > 0) {
            let newest = self.services.get(&service).map_or(0, |s| s.record.newest);
            if number > newest {
                self.services.note_number(deeds, &service, number);
                self.doubt(&service, id, number, deeds);
            }
        }
        if wire.current > 0 {
            let known = self.services.revision(&self.store, &service, wire.current);
            if matches!(known, Ok(None)) {
                self.ask_revision(id, &service, wire.current, deeds);
            }
        }
    }

    fn doubt(&mut self, service: &ServiceId, host: &HostId, number: u64, deeds: &mut Deeds) {
        let why =
            format!("{host} holds {service}@{number}, which is newer than anything known here");
        if let Some(known) = self.services.services.get_mut(service)
            && known.record.unsure.is_empty()
        {
            known.record.unsure.clone_from(&why);
        }
        self.services.save(deeds, service);
        deeds.event(v1::EventRecord {
            kind: "store".to_owned(),
            service: service.to_string(),
            host: host.to_string(),
            text: format!(
                "{why}; nothing is done to the service by itself until the next deploy or rollback"
            ),
            level: "warn".to_owned(),
            ..v1::EventRecord::default()
        });
    }
}

/// A swap that a person began on the host itself: a fact, not another coordinator.
pub(super) fn by_hand(report: &Report) -> bool {
    let swap = report.swap.as_ref();
    swap.is_some_and(|swap| swap.rollout.as_str().starts_with(BY_HAND))
}

pub(super) fn host_event(host: &HostId, text: &str, level: &str) -> v1::EventRecord {
    v1::EventRecord {
        kind: "host".to_owned(),
        host: host.to_string(),
        text: text.to_owned(),
        level: level.to_owned(),
        ..v1::EventRecord::default()
    }
}
