//! Who was turned away, and why: in the log, but never so often that it fills.
//!
//! A peer that is refused may try again for ever, and anybody may try. So a
//! window of time has room for so many lines; the rest is counted and said when
//! the window is over. The last refusals are kept for `doctor`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{debug, warn};

/// So many refusals are logged in one window.
const LOGGED: u32 = 20;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(10);
/// So many are kept to be shown.
const KEPT: usize = 200;

/// One peer that was turned away.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// At which gate.
    pub gate: &'static str,
    /// From where.
    pub peer: SocketAddr,
    /// Who it was, or said it was, if it came so far.
    pub who: String,
    /// Why, with its causes.
    pub reason: String,
}

/// The refusals of all gates.
#[derive(Debug)]
pub struct Refusals(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    kept: VecDeque<Refusal>,
    window: Instant,
    logged: u32,
    silent: u32,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            kept: VecDeque::new(),
            window: Instant::now(),
            logged: 0,
            silent: 0,
        }))
    }
}

impl Refusals {
    /// Notes that `peer` was turned away.
    pub fn note(
        &self,
        gate: &'static str,
        peer: SocketAddr,
        who: &str,
        reason: &dyn std::error::Error,
    ) {
        let refusal = Refusal {
            at: SystemTime::now(),
            gate,
            peer,
            who: who.to_owned(),
            reason: chain(reason),
        };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.window.elapsed() >= WINDOW {
            if inner.silent > 0 {
                warn!(
                    refused = inner.silent,
                    "more peers were refused than are logged one by one"
                );
            }
            (inner.window, inner.logged, inner.silent) = (Instant::now(), 0, 0);
        }
        if inner.logged < LOGGED {
            inner.logged += 1;
            warn!(gate, %peer, who, reason = refusal.reason, "refused a peer");
        } else {
            inner.silent += 1;
            debug!(gate, %peer, who, reason = refusal.reason, "refused a peer");
        }
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(refusal);
    }

    /// The last ones, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Refusal> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kept
            .iter()
            .cloned()
            .collect()
    }
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}
