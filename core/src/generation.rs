//! The fence against stale commands (promise P4).

use std::fmt;

/// Which wish of the coordinator a swap serves: one generation, one swap.
///
/// `epoch` rises whenever a coordinator cannot be sure that it knows the newest
/// number (restored, rebuilt); `number` rises with every swap on one host and
/// service. A host that has seen a generation ignores every lower one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// Which life of the coordinator's store; compared first.
    pub epoch: u64,
    /// Which swap of this host and service within the epoch.
    pub number: u64,
}

impl Generation {
    /// Before any order.
    pub const NONE: Self = Self {
        epoch: 0,
        number: 0,
    };

    /// The generation of the next swap, in an epoch at least as high as `epoch`.
    #[must_use]
    pub fn next(self, epoch: u64) -> Self {
        Self {
            epoch: self.epoch.max(epoch),
            number: self.number + 1,
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}
