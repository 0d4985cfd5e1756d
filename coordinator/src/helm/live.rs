//! One rollout as the loop holds it: its record, its machine once it has begun,
//! and the facts that are stored of it.

use std::collections::BTreeMap;

use cutover_core::rollout::{Fact, Outcome, Rollout};
use cutover_core::{HostId, Moment, RolloutId, ServiceId};
use cutover_proto::v1;
use tokio::sync::watch;

/// A rollout that is queued, open, or over with hosts that are owing.
pub(super) struct Live {
    pub(super) number: u64,
    pub(super) id: RolloutId,
    pub(super) service: ServiceId,
    pub(super) record: v1::RolloutRecord,
    /// None: it is queued.
    pub(super) machine: Option<Rollout>,
    pub(super) timeline: Vec<v1::TimelineEntry>,
    /// It was decided that every host goes back.
    pub(super) went_back: bool,
    /// How many records lie under its key among the facts.
    pub(super) sequence: u64,
    pub(super) last_logs: BTreeMap<HostId, String>,
    /// A newer rollout speaks for its hosts.
    pub(super) superseded: bool,
    /// When all standing orders were sent last.
    pub(super) renewed: Moment,
    /// Since when it waits to begin.
    pub(super) queued: Moment,
    pub(super) watch: watch::Sender<v1::RolloutView>,
}

impl Live {
    pub(super) fn new(
        number: u64,
        id: RolloutId,
        service: ServiceId,
        record: v1::RolloutRecord,
        now: Moment,
    ) -> Self {
        let (watch, _) = watch::channel(v1::RolloutView::default());
        Self {
            number,
            id,
            service,
            record,
            machine: None,
            timeline: Vec::new(),
            went_back: false,
            superseded: false,
            sequence: 0,
            last_logs: BTreeMap::new(),
            renewed: Moment::ZERO,
            queued: now,
            watch,
        }
    }

    /// Remembers what the machine does not tell.
    pub(super) fn note(&mut self, fact: &Fact) {
        self.went_back |= matches!(fact, Fact::RollbackDecided { .. });
        self.superseded |= *fact == Fact::Superseded;
    }

    /// How it ended, once it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.record.outcome().try_into().ok()
    }

    pub(super) fn is_open(&self) -> bool {
        self.machine.is_some() && self.outcome().is_none()
    }

    pub(super) fn is_queued(&self) -> bool {
        self.machine.is_none() && self.outcome().is_none()
    }

    /// Over, and some host has not got where it shall go.
    pub(super) fn is_owed(&self) -> bool {
        self.outcome().is_some()
            && !self.superseded
            && self
                .machine
                .as_ref()
                .is_some_and(|machine| machine.view().hosts.iter().any(|host| host.owing))
    }

    /// Whether this host is one of those.
    pub(super) fn owes(&self, host: &HostId) -> bool {
        self.machine.as_ref().is_some_and(|machine| {
            let view = machine.view();
            view.hosts
                .iter()
                .any(|seat| seat.host == *host && seat.owing)
        })
    }

    pub(super) fn has(&self, host: &HostId) -> bool {
        self.machine
            .as_ref()
            .is_some_and(|machine| machine.plan().hosts.iter().any(|plan| plan.host == *host))
    }

    /// It went forward to its end: nobody fell, and nothing was taken back.
    pub(super) fn went_well(&self) -> bool {
        match (self.outcome(), &self.machine) {
            (Some(Outcome::Committed), _) => true,
            (Some(Outcome::Mixed), Some(machine)) => {
                !self.went_back && machine.view().hosts.iter().all(|host| host.fell.is_none())
            }
            (Some(Outcome::Mixed | Outcome::Aborted | Outcome::RolledBack) | None, _) => false,
        }
    }
}

/// The name of the rollout with this number.
pub(super) fn rollout_id(number: u64) -> String {
    format!("r{number}")
}

/// The number in a rollout's name.
pub(super) fn rollout_number(id: &str) -> Option<u64> {
    id.strip_prefix('r')?.parse().ok()
}
