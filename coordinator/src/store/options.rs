//! How a store is opened: what the coordinator's configuration may say of it.
//!
//! Keeps true: what is not durable is never the default.
//!
//! Does not know where the store lies.

use super::probe::Probe;

/// How the store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the database is looked at first.
    pub probe: Probe,
    /// Whether a damaged store is made anew from its newest good snapshot, or only reported.
    pub rebuild: bool,
    /// How many events are kept.
    pub events_kept: usize,
    /// How many bytes of disk must stay free; with less, nothing is written.
    pub reserve: u64,
    /// How many bytes the database may keep in memory.
    pub cache: u64,
    pub(super) file_sync: bool,
}

impl Options {
    /// The defaults, with this way to look at the database.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            rebuild: true,
            events_kept: 10_000,
            reserve: 16 << 20,
            cache: 16 << 20,
            file_sync: true,
        }
    }

    /// Leaves out what makes a write survive a power cut, for the test that shows
    /// that it would notice.
    #[doc(hidden)]
    #[must_use]
    pub fn losing_everything_in_a_power_cut(mut self) -> Self {
        self.file_sync = false;
        self
    }
}
