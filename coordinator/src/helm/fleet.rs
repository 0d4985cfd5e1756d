//! The hosts as the loop knows them: their records, sessions, clocks, and what
//! they last said of each service.
//!
//! Keeps true: a report older than the known one changes nothing; what is kept
//! of a host outlives its session.

use std::collections::BTreeMap;

use cutover_core::swap::{Report, Target};
use cutover_core::{Generation, HostId, Moment, RevisionNumber, ServiceId};
use cutover_proto::v1;

use crate::roster::SessionId;

/// Every enrolled host.
#[derive(Default)]
pub(super) struct Fleet {
    pub(super) hosts: BTreeMap<HostId, Host>,
}

/// One host.
#[derive(Default)]
pub(super) struct Host {
    pub(super) record: v1::HostRecord,
    pub(super) session: Option<Session>,
    /// A host that spoke in this process's life: what it obeys is known.
    pub(super) greeted: bool,
    /// Its boot-time clock, and when that was heard.
    pub(super) clock: Option<(Moment, Moment)>,
    pub(super) desks: BTreeMap<ServiceId, Desk>,
}

/// A live session, and what it was told.
pub(super) struct Session {
    pub(super) id: SessionId,
    /// The newest order of each service that this session was sent.
    pub(super) sent: BTreeMap<ServiceId, (Generation, Target)>,
}

/// One service on one host.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) record: v1::DeskRecord,
    pub(super) said: Option<Said>,
    /// An open swap that no rollout knows: this generation asks it back.
    pub(super) stray: Option<Generation>,
}

/// What a host last said of a service.
pub(super) struct Said {
    pub(super) wire: v1::BerthReport,
    pub(super) report: Report,
}

impl Fleet {
    pub(super) fn host(&self, host: &HostId) -> Option<&Host> {
        self.hosts.get(host)
    }

    pub(super) fn desk(&self, host: &HostId, service: &ServiceId) -> Option<&Desk> {
        self.hosts.get(host)?.desks.get(service)
    }

    pub(super) fn said(&self, host: &HostId, service: &ServiceId) -> Option<&Said> {
        self.desk(host, service)?.said.as_ref()
    }

    /// Hosts where the service is, or was.
    pub(super) fn with<'a>(
        &'a self,
        service: &'a ServiceId,
    ) -> impl Iterator<Item = (&'a HostId, &'a Host, &'a Desk)> {
        self.hosts
            .iter()
            .filter_map(move |(id, host)| Some((id, host, host.desks.get(service)?)))
    }
}

impl Host {
    pub(super) fn is_there(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn state(&self) -> &'static str {
        if !self.record.quarantined_with.is_empty() {
            "quarantined"
        } else if self.record.cordoned {
            "cordoned"
        } else if self.is_there() {
            "ready"
        } else {
            "away"
        }
    }

    /// What its clock shows at `now`.
    pub(super) fn clock_at(&self, now: Moment) -> Option<Moment> {
        self.clock.map(|(clock, heard)| clock + now.since(heard))
    }
}

impl Desk {
    pub(super) fn fence(&self) -> Generation {
        let kept: Generation = self.record.fence.map_or(Generation::NONE, Into::into);
        let said = self
            .said
            .as_ref()
            .map_or(Generation::NONE, |said| said.report.fence);
        kept.max(said).max(self.stray.unwrap_or(Generation::NONE))
    }

    pub(super) fn current(&self) -> Option<RevisionNumber> {
        RevisionNumber::new(self.record.current)
    }

    /// The swap that is open there, of which rollout.
    pub(super) fn open_swap(&self) -> Option<&cutover_core::swap::SwapReport> {
        let swap = self.said.as_ref()?.report.swap.as_ref()?;
        swap.phase.is_some().then_some(swap)
    }

    /// Takes in a report; false: a newer one is known.
    pub(super) fn hear(&mut self, wire: v1::BerthReport, report: Report) -> bool {
        let older = self
            .said
            .as_ref()
            .is_some_and(|known| known.report.stamp > report.stamp);
        if older {
            return false;
        }
        self.said = Some(Said { wire, report });
        true
    }

    /// Brings the record up to what was said; says whether it changed.
    pub(super) fn catch_up(&mut self) -> bool {
        let Some(said) = &self.said else { return false };
        let now = v1::DeskRecord {
            fence: Some(self.fence().into()),
            current: said.wire.current,
            parked: said.wire.parked.clone(),
        };
        let changed = now != self.record;
        self.record = now;
        changed
    }
}
