//! Ctrl-C, and the SIGTERM with which a CI system ends a job.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Kind};

/// Hears the person who says stop, from when it is made.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Listens; from now on the signals end nothing by themselves.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let hear = |kind| {
            signal(kind).map_err(|e| Failure::because(Kind::Unexpected, "listening to Ctrl-C", e))
        };
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one; cancelling it loses none.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
