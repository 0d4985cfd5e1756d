//! Everything that can wake the loop.

use cutover_core::swap::{Action, Failure, Incarnation};
use cutover_core::{ServiceId, Slot};
use tokio::sync::oneshot;

use crate::docker::{Event, Listing};
use crate::helm::arrange::Sites;
use crate::helm::listing::Reading;
use crate::local::Ask;
use crate::session::LinkEvent;

/// Something happened.
#[derive(Debug)]
pub(crate) enum Wake {
    /// From the coordinator, or about the stream to it.
    Link(LinkEvent),
    /// From the container engine.
    Engine(Event),
    /// This host's containers, all of them, or why they could not be listed.
    Listed(Result<Listing, String>),
    /// A berth's action ended; then its containers were read.
    Acted {
        service: ServiceId,
        action: Action,
        result: Result<(), Failure>,
        found: Option<Reading>,
    },
    /// A replica's process is gone; the engine has not said so yet.
    Vanished {
        service: ServiceId,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
    },
    /// A probe was answered, or was not.
    Sampled(Sampled),
    /// Connections of a slot were counted.
    Counted {
        service: ServiceId,
        slot: Slot,
        open: u64,
    },
    /// The last lines of a candidate that may not stay.
    Logged { service: ServiceId, lines: String },
    /// nginx was told of all sites, or could not be; whoever wished it. Then: of which services it is not proved, and why.
    Arranged {
        sites: Sites,
        result: Result<Vec<(ServiceId, String)>, String>,
    },
    /// Requests were counted.
    Signalled(crate::signals::Counts),
    /// Somebody on this host asks.
    Asked(Ask, oneshot::Sender<String>),
    /// A task ended that should not have.
    Ended(&'static str),
}

/// One sample of one replica.
#[derive(Debug)]
pub(crate) struct Sampled {
    pub(crate) service: ServiceId,
    pub(crate) slot: Slot,
    pub(crate) revision: cutover_core::RevisionNumber,
    pub(crate) replica: u32,
    pub(crate) incarnation: Incarnation,
    pub(crate) healthy: bool,
    pub(crate) evidence: String,
}
