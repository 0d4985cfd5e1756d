//! Where an open swap is, and which fact leads where.
//!
//! Forward: fetching → making → starting → proving → smoking → prepared →
//! cutting → checking → serving → cooling → draining → parking → over.
//! Stop-first waits as prepared before anything starts; then: stopping →
//! starting → proving → smoking → cutting …
//! Back: (withdrawing → reviving →) returning → emptying → removing → over.

use crate::route::Weight;
use crate::swap::berth::Swap;
use crate::swap::fact::Fact;
use crate::swap::plan::{Kind, Target};

/// Where an open swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The candidate's image is had.
    Fetching,
    /// Its containers are made.
    Making,
    /// They are started.
    Starting,
    /// They must pass their readiness checks.
    Proving,
    /// They must answer their smoke checks.
    Smoking,
    /// Ready; waits for the coordinator.
    Prepared,
    /// The incumbent is stopped to make room.
    Stopping,
    /// The route changes, and nginx must be seen to follow.
    Cutting,
    /// The smoke checks are sent through nginx.
    Checking,
    /// The candidate serves and is observed; waits for the coordinator.
    Serving,
    /// The incumbent's warmth ends.
    Cooling,
    /// The incumbent finishes its connections.
    Draining,
    /// The incumbent is stopped and kept.
    Parking,
    /// The candidate is stopped to make room for the incumbent.
    Withdrawing,
    /// The incumbent is started and must pass.
    Reviving,
    /// The route goes back, and nginx must be seen to follow.
    Returning,
    /// The candidate finishes its connections.
    Emptying,
    /// The candidate's logs are kept and its containers removed.
    Removing,
}

impl Phase {
    /// Its name, as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Making => "making",
            Self::Starting => "starting",
            Self::Proving => "proving",
            Self::Smoking => "smoking",
            Self::Prepared => "prepared",
            Self::Stopping => "stopping",
            Self::Cutting => "cutting",
            Self::Checking => "checking",
            Self::Serving => "serving",
            Self::Cooling => "cooling",
            Self::Draining => "draining",
            Self::Parking => "parking",
            Self::Withdrawing => "withdrawing",
            Self::Reviving => "reviving",
            Self::Returning => "returning",
            Self::Emptying => "emptying",
            Self::Removing => "removing",
        }
    }

    /// Every phase, forward ones first.
    pub const ALL: [Self; 18] = [
        Self::Fetching,
        Self::Making,
        Self::Starting,
        Self::Proving,
        Self::Smoking,
        Self::Prepared,
        Self::Stopping,
        Self::Cutting,
        Self::Checking,
        Self::Serving,
        Self::Cooling,
        Self::Draining,
        Self::Parking,
        Self::Withdrawing,
        Self::Reviving,
        Self::Returning,
        Self::Emptying,
        Self::Removing,
    ];

    /// Uncommitted, and not yet on the way back.
    #[must_use]
    pub const fn may_revert(self) -> bool {
        match self {
            Self::Fetching
            | Self::Making
            | Self::Starting
            | Self::Proving
            | Self::Smoking
            | Self::Prepared
            | Self::Stopping
            | Self::Cutting
            | Self::Checking
            | Self::Serving => true,
            Self::Cooling
            | Self::Draining
            | Self::Parking
            | Self::Withdrawing
            | Self::Reviving
            | Self::Returning
            | Self::Emptying
            | Self::Removing => false,
        }
    }

    /// An action of this phase that fails for good is a verdict on the candidate.
    pub(super) const fn may_fail(self) -> bool {
        match self {
            Self::Fetching
            | Self::Making
            | Self::Starting
            | Self::Smoking
            | Self::Checking
            | Self::Cutting => true,
            Self::Proving
            | Self::Prepared
            | Self::Stopping
            | Self::Serving
            | Self::Cooling
            | Self::Draining
            | Self::Parking
            | Self::Withdrawing
            | Self::Reviving
            | Self::Returning
            | Self::Emptying
            | Self::Removing => false,
        }
    }

    /// On the way back.
    #[must_use]
    pub const fn is_back(self) -> bool {
        match self {
            Self::Withdrawing
            | Self::Reviving
            | Self::Returning
            | Self::Emptying
            | Self::Removing => true,
            Self::Fetching
            | Self::Making
            | Self::Starting
            | Self::Proving
            | Self::Smoking
            | Self::Prepared
            | Self::Stopping
            | Self::Cutting
            | Self::Checking
            | Self::Serving
            | Self::Cooling
            | Self::Draining
            | Self::Parking => false,
        }
    }

    /// Before any request may reach the candidate: here the lease counts.
    pub(super) const fn is_preparing(self) -> bool {
        match self {
            Self::Fetching
            | Self::Making
            | Self::Starting
            | Self::Proving
            | Self::Smoking
            | Self::Prepared => true,
            Self::Stopping
            | Self::Cutting
            | Self::Checking
            | Self::Serving
            | Self::Cooling
            | Self::Draining
            | Self::Parking
            | Self::Withdrawing
            | Self::Reviving
            | Self::Returning
            | Self::Emptying
            | Self::Removing => false,
        }
    }

    /// Where `fact` leads from here; `None`: nowhere.
    pub(super) fn after(self, swap: &Swap, fact: &Fact) -> Option<Self> {
        let stop_first = swap.stop_first();
        let smoke = swap.plan.kind.candidate().is_some_and(|side| side.smoke);
        let ready = if stop_first {
            Self::Cutting
        } else {
            Self::Prepared
        };
        match (self, fact) {
            (phase, Fact::Sickened { .. } | Fact::Targeted(Target::Reverted))
                if phase.may_revert() =>
            {
                Some(swap.way_back())
            }
            (Self::Fetching, Fact::Fetched) => Some(Self::Making),
            (Self::Making, Fact::Made) => Some(if stop_first {
                Self::Prepared
            } else {
                Self::Starting
            }),
            (Self::Starting, Fact::Started) => Some(Self::Proving),
            (Self::Proving, Fact::Proved) => Some(if smoke { Self::Smoking } else { ready }),
            (Self::Smoking, Fact::Smoked) => Some(ready),
            (Self::Stopping, Fact::Stopped) => Some(match swap.plan.kind {
                Kind::Retire { .. } => Self::Cutting,
                Kind::First { .. } | Kind::Change { .. } => Self::Starting,
            }),
            (Self::Cutting, Fact::RouteProved) => Some(Self::Checking),
            (Self::Checking, Fact::Confirmed) => Some(Self::Serving),
            (Self::Cooling, Fact::Cooled) => Some(Self::Draining),
            (Self::Draining, Fact::Drained { .. }) => Some(Self::Parking),
            (Self::Withdrawing, Fact::Withdrawn) => Some(Self::Reviving),
            (Self::Reviving, Fact::Revived) => Some(Self::Returning),
            (Self::Returning, Fact::TrafficBack) => Some(Self::Emptying),
            (Self::Emptying, Fact::Emptied { .. }) => Some(Self::Removing),
            (Self::Prepared, Fact::Advanced) => Some(if stop_first {
                Self::Stopping
            } else {
                Self::Cutting
            }),
            (Self::Serving, Fact::Advanced) if swap.weight < swap.weight_wanted() => {
                Some(Self::Cutting)
            }
            (Self::Serving, Fact::Advanced) => Some(Self::Cooling),
            _ => None,
        }
    }
}

impl Swap {
    /// The share that the target asks for.
    pub(super) fn weight_wanted(&self) -> Weight {
        match self.target {
            Target::Serving(weight) => weight,
            Target::Prepared | Target::Committed | Target::Reverted => Weight::FULL,
        }
    }

    /// The first phase of the way back from here.
    fn way_back(&self) -> Phase {
        let makes_room = self.stop_first() && self.phase > Phase::Prepared || self.stopped;
        if makes_room && self.plan.kind.incumbent().is_some() {
            Phase::Withdrawing
        } else {
            Phase::Returning
        }
    }
}
