//! Rollouts that wait to begin, and those that begin by themselves.
//!
//! Keeps true (P9): one open rollout a service; the services of a release begin
//! in order, each when the one before it went well; a host that comes back
//! different from what it should run converges by a follow-up of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use cutover_core::rollout::{Event, Outcome, Rollout};
use cutover_core::spec::OnFailure;
use cutover_core::{HostId, RevisionNumber, ServiceId};
use cutover_proto::v1;

use super::Helm;
use super::deeds::Deeds;
use super::live::{Live, rollout_id};
use super::wake::Refusal;
use crate::planner::{self, Away, HostFacts, Planned, Runs, Wish};
use crate::store::{Key, Table};

/// A host whose earlier swap is still ending is waited for so long; then it is skipped and owes.
const BUSY_WITHIN: Duration = Duration::from_secs(120);
/// Hosts that are away are waited for so long, where somebody asked for that.
const AWAY_WITHIN: Duration = Duration::from_secs(600);

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be accepted; it begins later.
    Accepting,
    /// To be done now.
    Beginning,
}

/// Whether a queued rollout may begin.
enum Turn {
    Begin,
    Wait,
    Never(String),
}

impl Helm {
    /// Puts a rollout into the queue; it begins in this turn if nothing is before it.
    pub(super) fn enqueue(
        &mut self,
        service: &ServiceId,
        record: v1::RolloutRecord,
        deeds: &mut Deeds,
    ) -> Result<u64, Refusal> {
        let number = self.last_rollout + 1;
        let id = rollout_id(number);
        let name = id
            .parse()
            .map_err(|error: cutover_core::NameError| Refusal::Invalid(error.to_string()))?;
        self.last_rollout = number;
        let record = v1::RolloutRecord {
            service: service.to_string(),
            begun_unix_millis: deeds.unix_millis,
            boot_id: self.boot_id.clone(),
            ..record
        };
        deeds.change(|batch| batch.raise_counter(Key::of("rollout"), number));
        deeds.put(Table::Rollouts, Key::at(number), &record);
        let live = Live::new(number, name, service.clone(), record, deeds.now);
        self.live.insert(number, live);
        deeds.touched.insert(number);
        Ok(number)
    }

    /// The rollout of the service that is open or queued.
    fn unfinished(&self, service: &ServiceId) -> Option<&Live> {
        self.live
            .values()
            .find(|live| live.service == *service && live.outcome().is_none())
    }

    pub(super) fn is_busy(&self, service: &ServiceId) -> bool {
        self.unfinished(service).is_some()
    }

    /// Refuses while a rollout of the service is open or queued.
    pub(super) fn refuse_busy(&self, service: &ServiceId) -> Result<(), Refusal> {
        self.unfinished(service).map_or(Ok(()), |open| {
            Err(Refusal::Busy {
                service: service.to_string(),
                open: open.id.clone(),
            })
        })
    }

    /// Begins what may begin. One beginning may free the next, so it looks until nothing moves.
    pub(super) fn advance_queue(&mut self, deeds: &mut Deeds) {
        loop {
            let queued: Vec<u64> = self
                .live
                .values()
                .filter(|live| live.is_queued())
                .map(|live| live.number)
                .collect();
            let mut moved = false;
            for number in queued {
                match self.turn_of(number, deeds) {
                    Turn::Wait => {}
                    Turn::Never(why) => {
                        self.never_begins(number, Outcome::Aborted, why, deeds);
                        moved = true;
                    }
                    Turn::Begin => {
                        self.begin(number, deeds);
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn turn_of(&mut self, number: u64, deeds: &mut Deeds) -> Turn {
        let Some(live) = self.live.get(&number) else {
            return Turn::Wait;
        };
        let (service, release, position) = (
            live.service.clone(),
            live.record.release.clone(),
            live.record.position,
        );
        let before = self
            .live
            .values()
            .filter(|other| other.record.release == release && other.record.position < position);
        for other in before {
            match other.outcome() {
                None => return Turn::Wait,
                Some(_) if other.went_well() => {}
                Some(_) => {
                    return Turn::Never(format!(
                        "not begun: {} ({}) of the same release did not succeed",
                        other.service, other.id
                    ));
                }
            }
        }
        // What left memory went well, or this one would have been ended with it.
        let open = self
            .live
            .values()
            .find(|other| other.service == service && other.is_open())
            .map(|other| other.number);
        if let Some(open) = open {
            if self
                .live
                .get(&number)
                .is_some_and(|live| live.record.supersede)
            {
                let why = format!("superseded by {}", rollout_id(number));
                self.tell(open, Event::AbortAsked(why), deeds);
                let still = self.live.get(&open).is_some_and(Live::is_open);
                if !still {
                    return self.turn_of(number, deeds);
                }
            }
            return Turn::Wait;
        }
        let earlier = self
            .live
            .values()
            .any(|other| other.service == service && other.is_queued() && other.number < number);
        // Just started, it does not know yet who is there, and what still ends on whom.
        if earlier || !self.is_settled(deeds.now) || self.waits_for_hosts(number, deeds) {
            return Turn::Wait;
        }
        Turn::Begin
    }

    fn waits_for_hosts(&self, number: u64, deeds: &Deeds) -> bool {
        let Some(live) = self.live.get(&number) else {
            return false;
        };
        let waited = deeds.now.since(live.queued);
        let busy = self
            .fleet
            .with(&live.service)
            .any(|(_, host, desk)| host.is_there() && desk.open_swap().is_some());
        let away = live.record.wait_for_away
            && self
                .fleet
                .hosts
                .values()
                .any(|host| !host.record.cordoned && !host.is_there());
        busy && waited < BUSY_WITHIN || away && waited < AWAY_WITHIN
    }

    pub(super) fn never_begins(
        &mut self,
        number: u64,
        outcome: Outcome,
        why: String,
        deeds: &mut Deeds,
    ) {
        let Some(live) = self.live.get_mut(&number) else {
            return;
        };
        live.record.never_begun = why.clone();
        live.record.set_outcome(outcome.into());
        live.record.ended_unix_millis = deeds.unix_millis;
        live.timeline.push(v1::TimelineEntry {
            unix_millis: deeds.unix_millis,
            host: String::new(),
            text: why.clone(),
        });
        deeds.put(Table::Rollouts, Key::at(number), &live.record);
        deeds.touched.insert(number);
        deeds.event(v1::EventRecord {
            kind: "rollout".to_owned(),
            service: live.service.to_string(),
            rollout: live.id.to_string(),
            text: why,
            ..v1::EventRecord::default()
        });
        let (service, to, kind) = (
            live.service.clone(),
            live.record.to_revision,
            live.record.kind.clone(),
        );
        let current = matches!(kind.as_str(), "deploy" | "rollback" | "remove");
        if outcome == Outcome::Committed && current {
            self.now_current(&service, to, deeds);
        }
    }

    fn begin(&mut self, number: u64, deeds: &mut Deeds) {
        match self.plan_of(number) {
            Err(why) => self.never_begins(number, Outcome::Aborted, why, deeds),
            Ok(Planned::AlreadyThere) => {
                let why = "every host is there already".to_owned();
                self.never_begins(number, Outcome::Committed, why, deeds);
            }
            Ok(Planned::Plan(mut plan)) => {
                if self
                    .live
                    .get(&number)
                    .is_some_and(|live| live.record.kind == "rollback")
                {
                    plan.policy.on_failure = OnFailure::Hold; // never a rollback of a rollback
                }
                let Some(service) = self.live.get(&number).map(|live| live.service.clone()) else {
                    return;
                };
                let older: Vec<u64> = self
                    .live
                    .values()
                    .filter(|other| other.service == service && other.outcome().is_some())
                    .filter(|other| other.machine.is_some())
                    .map(|other| other.number)
                    .collect();
                for older in older {
                    self.tell(older, Event::SupersedeAsked, deeds);
                    if let Some(older) = self.live.get_mut(&older) {
                        older.superseded = true;
                    }
                }
                let hosts: Vec<HostId> = plan.hosts.iter().map(|host| host.host.clone()).collect();
                if let Some(live) = self.live.get_mut(&number) {
                    live.record.plan = Some(plan.as_ref().into());
                    live.record.boot_id.clone_from(&self.boot_id);
                    deeds.put(Table::Rollouts, Key::at(number), &live.record);
                    live.machine = Some(Rollout::begin(*plan, deeds.now));
                    live.renewed = deeds.now;
                }
                self.introduce(number, &hosts, deeds);
                self.tell(number, Event::Ticked, deeds);
            }
        }
    }

    /// Tells a rollout that has just begun what is known of its hosts.
    fn introduce(&mut self, number: u64, hosts: &[HostId], deeds: &mut Deeds) {
        let Some(service) = self.live.get(&number).map(|live| live.service.clone()) else {
            return;
        };
        for id in hosts {
            let Some(host) = self.fleet.host(id).filter(|host| host.is_there()) else {
                continue;
            };
            let clock = host.clock_at(deeds.now);
            let said = host.desks.get(&service).and_then(|desk| desk.said.as_ref());
            let reported = said.map(|said| said.report.clone());
            if let Some(report) = reported {
                self.tell(number, Event::Reported(id.clone(), Box::new(report)), deeds);
            }
            // After the report: its moment is older than the clock.
            if let Some(clock) = clock {
                let host = id.clone();
                self.tell(number, Event::Heard { host, clock }, deeds);
            }
        }
    }

    fn plan_of(&mut self, number: u64) -> Result<Planned, String> {
        let live = self.live.get(&number).ok_or("it is gone")?;
        let (service, record) = (live.service.clone(), live.record.clone());
        let only: BTreeSet<HostId> = record
            .only
            .iter()
            .filter_map(|host| host.parse().ok())
            .collect();
        let away = match record.kind.as_str() {
            "follow-up" | "drain" => Away::SkipAny,
            _ => Away::Skip,
        };
        self.plan_service(
            &service,
            rollout_id(number),
            record.to_revision,
            (!record.only.is_empty()).then_some(&only),
            away,
            Stage::Beginning,
        )
        .map_err(|refusal| format!("not begun: {refusal}"))
    }

    /// Plans a rollout of a service to a revision that is kept; 0: away with it.
    pub(super) fn plan_service(
        &mut self,
        service: &ServiceId,
        id: String,
        to: u64,
        only: Option<&BTreeSet<HostId>>,
        away: Away,
        stage: Stage,
    ) -> Result<Planned, Refusal> {
        let hosts = self.host_facts(service, stage)?;
        let current = self
            .services
            .get(service)
            .map_or(0, |known| known.record.current);
        // The policy of what goes, where nothing comes.
        let ruling = if to > 0 {
            to
        } else {
            current.max(self.newest_running(service))
        };
        let (epoch, lease, retain) = (
            self.store.epoch(),
            self.settings.lease,
            self.settings.retain,
        );
        let missing = || Refusal::NotFound(format!("there is no revision {service}@{ruling}"));
        let (_, spec) = self
            .services
            .revision(&self.store, service, ruling)?
            .ok_or_else(missing)?;
        let wish = Wish {
            id: id
                .parse()
                .map_err(|error: cutover_core::NameError| Refusal::Invalid(error.to_string()))?,
            service: service.clone(),
            epoch,
            to: RevisionNumber::new(to).map(|number| (number, spec)),
            policy: spec.policy.clone(),
            only,
            away,
            lease,
            retain,
        };
        planner::plan(wish, &hosts).map_err(|refusal| Refusal::Refused(refusal.to_string()))
    }

    fn newest_running(&self, service: &ServiceId) -> u64 {
        let running = self
            .fleet
            .with(service)
            .map(|(_, _, desk)| desk.record.current);
        running.max().unwrap_or(0)
    }

    /// Every host as a plan sees it. A host with an open swap is `idle` no more: a rollout that
    /// begins leaves it out, one that is only accepted will have waited for it by then.
    pub(super) fn host_facts(
        &mut self,
        service: &ServiceId,
        stage: Stage,
    ) -> Result<Vec<HostFacts>, Refusal> {
        let mut facts = Vec::new();
        for (id, host) in &self.fleet.hosts {
            if !host.record.quarantined_with.is_empty() {
                continue;
            }
            let desk = host.desks.get(service);
            let idle = desk.is_none_or(|desk| desk.open_swap().is_none());
            let runs = match desk.and_then(super::fleet::Desk::current) {
                None => Runs::Nothing,
                Some(number) => self
                    .services
                    .revision(&self.store, service, number.get())?
                    .map_or(Runs::Unknown(number), |(_, spec)| {
                        Runs::Revision(planner::side_of(spec, number))
                    }),
            };
            facts.push(HostFacts {
                host: id.clone(),
                labels: host.record.labels.clone().into_iter().collect(),
                cordoned: host.record.cordoned,
                present: host.is_there() && (stage == Stage::Accepting || idle),
                runs,
                fence: desk.map_or(cutover_core::Generation::NONE, super::fleet::Desk::fence),
            });
        }
        Ok(facts)
    }

    /// Begins follow-ups for hosts that came back different from what they should run.
    pub(super) fn follow_up(&mut self, deeds: &mut Deeds) {
        if self.returned.is_empty() || !self.is_settled(deeds.now) {
            return;
        }
        let services: Vec<ServiceId> = self.services.services.keys().cloned().collect();
        let mut later = BTreeSet::new();
        for service in services {
            let needing = self.needing(&service);
            if needing.is_empty() {
                continue;
            }
            let taken = self
                .live
                .values()
                .any(|live| live.service == service && live.outcome().is_none());
            if taken {
                later.extend(needing); // looked at again when that is over
                continue;
            }
            let current = self
                .services
                .get(&service)
                .map_or(0, |known| known.record.current);
            let names: Vec<&str> = needing.iter().map(HostId::as_str).collect();
            let first = needing
                .first()
                .and_then(|host| self.fleet.desk(host, &service));
            let from = first.map_or(0, |desk| desk.record.current);
            let record = v1::RolloutRecord {
                who: "coordinator".to_owned(),
                reason: format!("{} should run it as the others do", names.join(", ")),
                to_revision: current,
                from_revision: from,
                kind: "follow-up".to_owned(),
                only: needing.iter().map(ToString::to_string).collect(),
                ..v1::RolloutRecord::default()
            };
            if let Err(error) = self.enqueue(&service, record, deeds) {
                tracing::error!(%service, %error, "a follow-up could not be made");
            }
        }
        self.returned = later;
    }

    /// Hosts among those that came back where something else runs than should.
    fn needing(&mut self, service: &ServiceId) -> Vec<HostId> {
        let Some(known) = self.services.get(service) else {
            return Vec::new();
        };
        let record = known.record.clone();
        if !record.unsure.is_empty() || (record.current == 0 && !record.removed) {
            return Vec::new();
        }
        let spec = match self.services.revision(&self.store, service, record.current) {
            Ok(Some((_, spec))) => Some(spec.clone()),
            Ok(None) if record.current == 0 => None,
            Ok(None) | Err(_) => return Vec::new(), // said when it is asked for
        };
        let needs = |id: &&HostId| {
            let Some(host) = self.fleet.host(id).filter(|host| host.is_there()) else {
                return false;
            };
            let desk = host.desks.get(service);
            let runs = desk.map_or(0, |desk| desk.record.current);
            let labels = host.record.labels.clone().into_iter().collect();
            let fits = spec
                .as_ref()
                .is_some_and(|spec| planner::matches(spec, id, &labels));
            let different = if fits {
                runs != record.current
            } else {
                runs != 0 && record.removed
            };
            // It has tried this revision and went back by itself, or a person on the host brought
            // another one back: a person decides.
            let declined =
                desk.is_some_and(|desk| declined(desk, record.current) || went_by_hand(desk));
            let owed = self
                .live
                .values()
                .any(|live| live.service == *service && live.is_owed() && live.owes(id));
            let idle = desk.is_none_or(|desk| desk.open_swap().is_none());
            let barred = host.record.cordoned || !host.record.quarantined_with.is_empty();
            different && !declined && !owed && !barred && idle
        };
        self.returned.iter().filter(needs).cloned().collect()
    }
}

/// What runs there was brought there by a person on the host.
pub(super) fn went_by_hand(desk: &super::fleet::Desk) -> bool {
    desk.said.as_ref().is_some_and(|said| {
        let ended = said
            .report
            .swap
            .as_ref()
            .filter(|swap| swap.phase.is_none());
        super::hear::by_hand(&said.report)
            && ended.is_some_and(|swap| swap.candidate == said.report.current)
    })
}

fn declined(desk: &super::fleet::Desk, revision: u64) -> bool {
    let swap = desk
        .said
        .as_ref()
        .and_then(|said| said.report.swap.as_ref());
    swap.is_some_and(|swap| {
        swap.phase.is_none()
            && swap.reverting
            && swap.why.is_some()
            && swap
                .candidate
                .is_some_and(|number| number.get() == revision)
    })
}
