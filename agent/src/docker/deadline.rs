//! How long each kind of call may take, and why so long.

use std::time::Duration;

/// A deadline with its name, which the error says when it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) length: Duration,
}

/// How long each kind of call may take. Past it the engine counts as hung.
#[derive(Clone, Debug)]
pub struct Deadlines {
    pub(super) ping: Limit,
    pub(super) ask: Limit,
    pub(super) glance: Limit,
    pub(super) make: Limit,
    pub(super) start: Limit,
    pub(super) stop: Limit,
    pub(super) end: Limit,
    pub(super) remove: Limit,
    pub(super) registry: Limit,
    pub(super) progress: Limit,
    pub(super) pull: Limit,
}

const fn limit(name: &'static str, seconds: u64) -> Limit {
    Limit {
        name,
        length: Duration::from_secs(seconds),
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            // Answered from memory; a busy host's engine still takes seconds to be scheduled.
            ping: limit("ping", 5),
            // Lists and inspections: a millisecond, seconds while a removal holds a lock.
            ask: limit("ask", 15),
            // One inspection of a list: a container on which the engine hangs must not hold up what is known of the others.
            glance: limit("glance", 5),
            // Creating copies the image's content into new volumes.
            make: limit("make", 60),
            // Starting sets up mounts, network and log driver.
            start: limit("start", 60),
            // Beyond the container's own grace: the kill that follows it, and unmounting.
            stop: limit("stop", 20),
            // A process that was sent SIGKILL gives its memory back, and may wait for a disk.
            end: limit("end", 5),
            // Removing deletes the container's whole writable layer.
            remove: limit("remove", 60),
            // The engine asks a registry for a digest; its own limits are below this.
            registry: limit("registry", 60),
            // A pull whose stream says nothing for so long has stalled.
            progress: limit("progress", 120),
            // A pull of any size.
            pull: limit("pull", 1800),
        }
    }
}

impl Deadlines {
    /// Every deadline at most `length`: for tests that hang the engine on purpose.
    #[must_use]
    pub fn at_most(length: Duration) -> Self {
        let mut all = Self::default();
        let Self {
            ping,
            ask,
            glance,
            make,
            start,
            stop,
            end,
            remove,
            registry,
            progress,
            pull,
        } = &mut all;
        for limit in [
            ping, ask, glance, make, start, stop, end, remove, registry, progress, pull,
        ] {
            limit.length = limit.length.min(length);
        }
        all
    }
}
