//! Between the wire (and the disk) and what is meant.
//!
//! Out is always possible; in is checked: whatever is absent that must be
//! there, or says what no name, number or address may say, is [`Malformed`].
//! Nothing here decides.

mod policy;
mod rollout;
mod spec;
mod swap;

use std::time::Duration;

use cutover_core::{Moment, NameError};

pub use swap::{phase_named, route_text};

/// Bytes that say something impossible: written by another version, or damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing or makes no sense")]
pub struct Malformed(pub &'static str);

impl From<NameError> for Malformed {
    fn from(_: NameError) -> Self {
        Self("a name")
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const fn duration(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

const fn moment(nanos: u64) -> Moment {
    Moment::from_nanos(nanos)
}

/// A part that must be there.
fn need<T>(part: Option<T>, what: &'static str) -> Result<T, Malformed> {
    part.ok_or(Malformed(what))
}

fn port(number: u32) -> Result<u16, Malformed> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or(Malformed("a port"))
}
