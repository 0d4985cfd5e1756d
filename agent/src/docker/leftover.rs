//! What runs in a container of which the engine says that it does not run.
//!
//! An engine that is killed while it starts a container comes back and knows nothing of a process that lives on: it may
//! serve, and its container can be neither started nor removed. Keeps true: nothing is ended that the engine knows of,
//! and it is asked to stop first, as the engine would.

use std::io;
use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use nix::sys::signal::Signal as Named;
use rustix::process::Signal;

use super::found::state;
use super::process::Process;
use super::{Class, Docker, Error};

/// What a second look found in a container that did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    Nothing,
    /// The engine started it meanwhile: it is none.
    Known,
    Ended,
}

impl Docker {
    /// Stops what runs in a container that does not run, as far as the engine knows.
    ///
    /// `grace` is how long it has after its stop signal.
    ///
    /// # Errors
    /// The engine is down or hangs; [`Class::LeftOver`]: a process can't be ended, or outlives SIGKILL.
    pub(super) async fn end_leftovers(
        &self,
        doing: &str,
        container: &ContainerInspectResponse,
        grace: Duration,
    ) -> Result<Leftover, Error> {
        let id = container.id.clone().unwrap_or_default();
        let doing = format!("{doing}: ending what the engine forgot of it");
        // It says nothing of the version: it is this host's trouble, and is tried again.
        let failed = |error: &dyn std::error::Error| {
            Error::refused(doing.as_str(), Class::LeftOver, error.to_string())
        };
        let looked = {
            let id = id.clone();
            tokio::task::spawn_blocking(move || Process::all(&id)).await
        };
        let found = looked.map_err(io::Error::other).flatten();
        let found = found.map_err(|error| failed(&error))?;
        if found.is_empty() {
            return Ok(Leftover::Nothing);
        }
        // The engine answers nothing about a container while it starts it: what is its own is said to run by now.
        let now = self.inspect(&id).await?;
        if now.is_some_and(|now| state(now.state.as_ref()).is_up()) {
            return Ok(Leftover::Known);
        }
        let numbers: Vec<u32> = found.iter().map(Process::number).collect();
        tracing::warn!(
            container = id,
            processes = ?numbers,
            "it runs, and the engine does not know of it: it is stopped"
        );
        // Nobody is waited for who can't be asked: in a sandbox the first process is not to be seen.
        let first = found.iter().find(|process| process.is_first());
        if let (Some(first), Some(signal)) = (first, stop_signal(container)) {
            first.send(signal).map_err(|error| failed(&error))?;
            if let Ok(stopped) = tokio::time::timeout(grace, gone(&found)).await {
                stopped.map_err(|error| failed(&error))?;
                return Ok(Leftover::Ended);
            }
        }
        for process in &found {
            process.send(Signal::KILL).map_err(|error| failed(&error))?;
        }
        let limit = self.limits().end;
        match tokio::time::timeout(limit.length, gone(&found)).await {
            Ok(ended) => ended
                .map(|()| Leftover::Ended)
                .map_err(|error| failed(&error)),
            Err(_elapsed) => {
                let found = format!(
                    "one of the processes {numbers:?} outlives SIGKILL by {:?} (deadline \"{}\")",
                    limit.length, limit.name
                );
                Err(Error::refused(doing, Class::LeftOver, found))
            }
        }
    }
}

async fn gone(processes: &[Process]) -> io::Result<()> {
    for process in processes {
        process.gone().await?;
    }
    Ok(())
}

/// The signal by which a container is asked to stop; `None`: one that can't be sent from here.
fn stop_signal(container: &ContainerInspectResponse) -> Option<Signal> {
    let config = container.config.as_ref();
    match config.and_then(|config| config.stop_signal.as_deref()) {
        None | Some("") => Some(Signal::TERM),
        Some(text) => named(text),
    }
}

/// As the engine reads it: `SIGQUIT`, `QUIT` or `3`. Real-time signals (`RTMIN+3`) are not among them.
fn named(text: &str) -> Option<Signal> {
    let number = text.parse::<i32>().ok().or_else(|| {
        let upper = text.to_ascii_uppercase();
        let long = format!("SIG{}", upper.trim_start_matches("SIG"));
        long.parse::<Named>().ok().map(|signal| signal as i32)
    })?;
    Signal::from_named_raw(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_signal_is_read_as_the_engine_reads_it() {
        for (text, signal) in [
            ("SIGQUIT", Some(Signal::QUIT)),
            ("quit", Some(Signal::QUIT)),
            ("3", Some(Signal::QUIT)),
            ("SIGWINCH", Some(Signal::WINCH)),
            ("nonsense", None),
            ("SIGRTMIN+3", None),
            ("0", None),
        ] {
            assert_eq!(named(text), signal, "{text}");
        }
    }
}
