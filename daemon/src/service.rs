//! What systemd and a terminal tell a service, and what it tells systemd.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// Tells systemd that the service is up. Without systemd, nothing happens.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd that the service ends on purpose.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog; called by the loop itself, so that a loop that hangs is noticed.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// How often the watchdog must be fed; `None`: systemd does not watch.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Waits until the process is asked to end (SIGTERM, SIGINT).
///
/// # Errors
/// When the signals can't be listened to.
pub async fn asked_to_end() -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
