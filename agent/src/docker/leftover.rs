//! What runs in a container of which the engine says that it does not run.
//!
//! An engine that is killed while it starts a container comes back and knows nothing of a process that lives on: it may
//! serve, and its container can be neither started nor removed. Keeps true: nothing is ended that the engine knows of.

use std::io;

use super::found::state;
use super::process::Process;
use super::{Class, Docker, Error};

impl Docker {
    /// Ends what runs in a container that does not run, as far as the engine knows.
    ///
    /// # Errors
    /// The engine is down or hangs, or a process outlives SIGKILL ([`Class::Timeout`]).
    pub(super) async fn end_leftovers(&self, doing: &str, id: &str) -> Result<(), Error> {
        let doing = format!("{doing}: ending what the engine forgot of it");
        let failed = |error: io::Error| Error::file(doing.as_str(), error);
        let looked = {
            let id = id.to_owned();
            tokio::task::spawn_blocking(move || Process::all(&id)).await
        };
        let found = looked.map_err(io::Error::other).flatten().map_err(failed)?;
        if found.is_empty() {
            return Ok(());
        }
        // The engine answers nothing about a container while it starts it: what is its own is said to run by now.
        let now = self.inspect(id).await?;
        if now.is_some_and(|now| state(now.state.as_ref()).is_up()) {
            return Ok(());
        }
        let numbers: Vec<u32> = found.iter().map(Process::number).collect();
        tracing::warn!(
            container = id,
            processes = ?numbers,
            "it runs, and the engine does not know of it: it is ended"
        );
        for process in &found {
            process.kill();
        }
        let limit = self.limits().end.length;
        let end = async {
            for process in found {
                process.gone().await?;
            }
            Ok(())
        };
        match tokio::time::timeout(limit, end).await {
            Ok(ended) => ended.map_err(failed),
            Err(_elapsed) => {
                let found = format!("of processes {numbers:?}, one outlives SIGKILL by {limit:?}");
                Err(Error::refused(doing, Class::Timeout, found))
            }
        }
    }
}
