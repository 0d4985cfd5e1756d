//! Slots, and what nginx sends where.
//!
//! A service has two slots on a host, each with its own fixed addresses. A
//! revision lives in one of them; the route names the slots that get requests.

use std::fmt;

/// One of the two places that a revision's replicas can have on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The first.
    Blue,
    /// The second.
    Green,
}

impl Slot {
    /// Both, blue first.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// The opposite one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// `blue` or `green`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Percent of new requests (of new connections for TCP): 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u8);

impl Weight {
    /// Everything.
    pub const FULL: Self = Self(100);

    /// `percent`, unless it is 0 or more than 100.
    #[must_use]
    pub const fn new(percent: u8) -> Option<Self> {
        if percent >= 1 && percent <= 100 {
            Some(Self(percent))
        } else {
            None
        }
    }

    /// The percentage, 1 to 100.
    #[must_use]
    pub const fn percent(self) -> u8 {
        self.0
    }
}

/// What nginx does with a service's requests on one host. Changing it is one
/// atomic rename (the cutover); it outlives agent, nginx and reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Nobody serves: 503 (TCP: closed at once).
    Nobody,
    /// All to one slot; the other is never asked.
    Alone(Slot),
    /// All to one slot; what it can't take, the other one (warm) answers.
    Warm(Slot),
    /// `weight` percent to `to`, the rest to its other slot; each backs the other.
    Split {
        /// The candidate's slot.
        to: Slot,
        /// Its share; below 100.
        weight: Weight,
    },
}

impl Route {
    /// Whether some request may reach `slot`, as backup included.
    #[must_use]
    pub fn reaches(self, slot: Slot) -> bool {
        match self {
            Self::Nobody => false,
            Self::Alone(only) => only == slot,
            Self::Warm(_) | Self::Split { .. } => true,
        }
    }

    /// The slot that most requests go to; at exactly half, the split's `to`.
    #[must_use]
    pub fn main(self) -> Option<Slot> {
        match self {
            Self::Nobody => None,
            Self::Alone(slot) | Self::Warm(slot) => Some(slot),
            Self::Split { to, weight } => Some(if weight.percent() >= 50 {
                to
            } else {
                to.other()
            }),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Alone(slot) => write!(f, "{slot}"),
            Self::Warm(slot) => write!(f, "{slot}, {} warm", slot.other()),
            Self::Split { to, weight } => {
                write!(f, "{to} {} %, {} the rest", weight.percent(), to.other())
            }
        }
    }
}
