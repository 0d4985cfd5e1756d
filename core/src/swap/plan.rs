//! What a swap is told at its beginning, and how far it shall go.

use std::fmt;
use std::time::Duration;

use crate::generation::Generation;
use crate::name::{RevisionNumber, RolloutId, ServiceId};
use crate::route::Weight;
use crate::spec::{Order, RestartPolicy, ServiceSpec};

/// How far a swap shall go; the coordinator's whole say in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// B is ready beside A and gets no traffic.
    Prepared,
    /// B gets this share of the requests; A stays warm.
    Serving(Weight),
    /// A is drained, stopped and parked; B is the host's current revision.
    Committed,
    /// All traffic is on A again, and B is gone.
    Reverted,
}

impl Target {
    /// Whether a swap that was sent to `self` may be sent on to `next`.
    ///
    /// Targets move forward only, or from any uncommitted place to reverted.
    #[must_use]
    pub fn leads_to(self, next: Self) -> bool {
        match (self, next) {
            (Self::Committed | Self::Reverted, _) => false,
            (_, Self::Reverted | Self::Committed) => true,
            (Self::Prepared, Self::Serving(_)) => true,
            (Self::Serving(now), Self::Serving(then)) => then > now,
            (Self::Prepared | Self::Serving(_), Self::Prepared) => false,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepared => f.pad("prepared"),
            Self::Serving(Weight::FULL) => f.pad("serving"),
            Self::Serving(weight) => write!(f, "serving {} %", weight.percent()),
            Self::Committed => f.pad("committed"),
            Self::Reverted => f.pad("reverted"),
        }
    }
}

/// One swap of one service on one host, as it was ordered. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapPlan {
    /// The service.
    pub service: ServiceId,
    /// The rollout it belongs to.
    pub rollout: RolloutId,
    /// Its generation: one generation, one swap.
    pub generation: Generation,
    /// From which revision to which.
    pub kind: Kind,
    /// Whether B may run beside A.
    pub order: Order,
    /// How long A may take to finish its connections after it was cooled.
    pub drain: Duration,
    /// How long B is watched while it serves, before the coordinator may commit.
    pub observe: Duration,
    /// Ended revisions that stay parked on the host, the incumbent included.
    pub retain: u32,
}

/// From which revision to which a swap goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ∅→B: the service is new on this host.
    First {
        /// B.
        candidate: Side,
    },
    /// A→B.
    Change {
        /// A.
        incumbent: Side,
        /// B.
        candidate: Side,
    },
    /// A→∅: the host no longer matches, or the service was removed.
    Retire {
        /// A.
        incumbent: Side,
    },
}

impl Kind {
    /// A, unless the service is new here.
    #[must_use]
    pub fn incumbent(&self) -> Option<&Side> {
        match self {
            Self::First { .. } => None,
            Self::Change { incumbent, .. } | Self::Retire { incumbent } => Some(incumbent),
        }
    }

    /// B, unless the service leaves.
    #[must_use]
    pub fn candidate(&self) -> Option<&Side> {
        match self {
            Self::First { candidate } | Self::Change { candidate, .. } => Some(candidate),
            Self::Retire { .. } => None,
        }
    }
}

/// What a machine must know of one revision: how many, and how they are proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The revision.
    pub revision: RevisionNumber,
    /// Containers; at least 1.
    pub replicas: u32,
    /// nginx sends requests to it.
    pub traffic: bool,
    /// It has smoke checks.
    pub smoke: bool,
    /// Healthy samples in a row that prove a replica.
    pub successes: u32,
    /// Unhealthy samples in a row that condemn a replica.
    pub failures: u32,
    /// Unhealthy samples in a row, once it is committed, after which a replica that hangs is
    /// started again; `None`: it is never.
    pub hangs_after: Option<u32>,
    /// The health deadline: from start to proved.
    pub within: Duration,
    /// A replica is proved only after it ran so long.
    pub settle: Duration,
    /// How long a replica may take to stop.
    pub stop_grace: Duration,
    /// What happens when a replica exits by itself.
    pub restart: RestartPolicy,
}

impl Side {
    /// What a machine must know of this revision.
    #[must_use]
    pub fn of(revision: RevisionNumber, spec: &ServiceSpec) -> Self {
        Self {
            revision,
            replicas: spec.replicas,
            traffic: !spec.traffic.is_empty(),
            smoke: !spec.smoke.is_empty(),
            successes: spec.ready.successes.max(1),
            failures: spec.ready.failures.max(1),
            hangs_after: spec
                .live
                .as_ref()
                .filter(|live| live.restart)
                .map(|live| live.failures.max(1)),
            within: spec.ready.within,
            settle: spec.ready.settle,
            stop_grace: spec.container.stop_grace,
            restart: spec.restart.clone(),
        }
    }
}
