//! What a rollout is told at its beginning. Immutable; the host set is frozen here.

use std::time::Duration;

use crate::generation::Generation;
use crate::name::{HostId, RevisionNumber, RolloutId, ServiceId};
use crate::spec::{RolloutPolicy, Strategy};
use crate::swap::{Kind, Side, SwapPlan};

/// One rollout of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutPlan {
    /// Its name.
    pub id: RolloutId,
    /// The service.
    pub service: ServiceId,
    /// The coordinator's epoch when it was planned.
    pub epoch: u64,
    /// How it goes over the hosts.
    pub policy: RolloutPolicy,
    /// The hosts, in the order of their waves.
    pub hosts: Vec<HostPlan>,
    /// Hosts that were away when it was planned: owing from the start.
    pub skipped: Vec<HostId>,
    /// How long the coordinator's word counts on a host.
    pub lease: Duration,
    /// How long a host may take for one step of it before it counts as failed.
    pub progress: Duration,
    /// Ended revisions that stay parked on a host.
    pub retain: u32,
}

/// One host of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Which.
    pub host: HostId,
    /// From what to what.
    pub kind: Kind,
    /// The highest generation that is known of this host and service.
    pub fence: Generation,
}

impl RolloutPlan {
    /// Hosts that may be in change at once.
    #[must_use]
    pub fn wave_size(&self) -> usize {
        let all = self.hosts.len().max(1);
        match self.policy.strategy {
            Strategy::BlueGreen => all,
            Strategy::Rolling | Strategy::Recreate => match self.policy.wave as usize {
                0 => all,
                size => size.min(all),
            },
        }
    }

    /// How many waves there are.
    #[must_use]
    pub fn waves(&self) -> usize {
        self.hosts.len().div_ceil(self.wave_size())
    }

    /// The wave of the host at this place of the plan, from 0.
    #[must_use]
    pub fn wave_of(&self, index: usize) -> usize {
        index / self.wave_size()
    }

    /// The revision that is rolled out; `None`: the service is removed.
    #[must_use]
    pub fn to(&self) -> Option<RevisionNumber> {
        self.hosts
            .iter()
            .find_map(|host| host.kind.candidate())
            .map(|side| side.revision)
    }

    /// The swap of a host, forward.
    #[must_use]
    pub(super) fn swap(&self, host: &HostPlan, generation: Generation) -> SwapPlan {
        self.swap_of(host.kind.clone(), generation)
    }

    /// The swap that undoes a committed one.
    #[must_use]
    pub(super) fn counter_swap(&self, host: &HostPlan, generation: Generation) -> SwapPlan {
        self.swap_of(reversed(&host.kind), generation)
    }

    fn swap_of(&self, kind: Kind, generation: Generation) -> SwapPlan {
        SwapPlan {
            service: self.service.clone(),
            rollout: self.id.clone(),
            generation,
            kind,
            order: self.policy.order,
            drain: self.policy.drain,
            observe: self.policy.observe,
            retain: self.retain,
        }
    }
}

fn reversed(kind: &Kind) -> Kind {
    let swap = |incumbent: &Side, candidate: &Side| Kind::Change {
        incumbent: candidate.clone(),
        candidate: incumbent.clone(),
    };
    match kind {
        Kind::First { candidate } => Kind::Retire {
            incumbent: candidate.clone(),
        },
        Kind::Change {
            incumbent,
            candidate,
        } => swap(incumbent, candidate),
        Kind::Retire { incumbent } => Kind::First {
            candidate: incumbent.clone(),
        },
    }
}
