//! One container's life once it is made: start, stop (which parks it), kill, remove.
//!
//! A container is found by its own name, and touched only when its labels say
//! that it is this host's; then by id, so that a name that changes hands in
//! between hits nobody.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};

use super::deadline::Limit;
use super::found::{engine_name, home_endpoint, labels_of, planned_address, state};
use super::leftover::Leftover;
use super::{Class, Docker, Error, Identity, State, filters, labels, present};

/// What is left of a removed container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// How it stood at the end.
    pub state: State,
    /// Its last lines, or why there are none.
    pub logs: String,
}

/// What the engine forgot has so long to end where the container is to start, or to go: it is none that drains, and what
/// waits for it has a deadline.
const NEVER_SERVED: Duration = Duration::from_secs(10);
/// Lines kept of a removed container's log.
const LAST_LINES: u32 = 200;
/// Bytes kept of a removed container's log.
const LAST_BYTES: usize = 32 * 1024;

impl Docker {
    /// Makes the container run, under its fixed name where it has one, and proves that it has its address.
    ///
    /// # Errors
    /// [`Class::NotFound`]: there is none, or its network is gone: create it again.
    /// [`Class::Conflict`]: a stranger has its address or fixed name, named in the error. [`Class::NoSpace`].
    /// [`Class::LeftOver`]: it ran without the engine's knowledge, and was ended: ask again.
    pub async fn start(&self, name: &str) -> Result<State, Error> {
        let doing = format!("starting container {name}");
        let Some(found) = self.owned(&doing, name).await? else {
            return Err(Error::refused(
                doing,
                Class::NotFound,
                "there is none of that name",
            ));
        };
        let id = found.id.clone().unwrap_or_default();
        let client = self.client(&doing)?;
        let answer = match state(found.state.as_ref()) {
            State::Running(_) => Ok(()),
            State::Paused(_) => {
                self.limited(self.limits().start, client.unpause_container(&id))
                    .await
            }
            State::Created(_) | State::Exited(_) | State::Dying => {
                let leftover = self.end_leftovers(&doing, &found, NEVER_SERVED).await?;
                if leftover == Leftover::Ended {
                    // Newer engines take the end of the old process for that of a new one, if that comes at once.
                    let found = "it ran without the engine's knowledge, and was stopped";
                    return Err(Error::refused(doing, Class::LeftOver, found));
                }
                self.take_fixed_name(&doing, &found).await?;
                let options = None::<StartContainerOptions>;
                self.limited(self.limits().start, client.start_container(&id, options))
                    .await
            }
        };
        match (self.told(&doing, answer), planned_address(&found)) {
            (Err(error), Some(address)) if error.class() == Class::Conflict => {
                return Err(match self.owner_of(address).await? {
                    Some(owner) => {
                        let found =
                            format!("address {address} is held by container {}", owner.container);
                        Error::refused(doing, Class::Conflict, found)
                    }
                    None => error,
                });
            }
            (answer, _) => answer?,
        }
        let Some(now) = self.inspect(&id).await? else {
            return Err(Error::refused(
                doing,
                Class::NotFound,
                "it was removed as soon as it was started",
            ));
        };
        let reached = state(now.state.as_ref());
        let actual =
            home_endpoint(&now).and_then(|endpoint| endpoint.ip_address.as_ref()?.parse().ok());
        if reached.is_up() && actual != planned_address(&now) {
            let found = format!("its address is {actual:?}, not {:?}", planned_address(&now));
            return Err(Error::refused(doing, Class::Conflict, found));
        }
        Ok(reached)
    }

    /// Parks the container: asks it to stop by its stop signal, kills it after `grace`, keeps it under its own name.
    ///
    /// `None`: there is none of that name.
    ///
    /// # Errors
    /// It is somebody else's, or the engine is down or hangs.
    pub async fn stop(&self, name: &str, grace: Duration) -> Result<Option<State>, Error> {
        self.park(name, None, grace).await
    }

    /// As [`Self::stop`], of this very replica: one of its name in the other slot is none.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub async fn stop_replica(
        &self,
        identity: &Identity,
        grace: Duration,
    ) -> Result<Option<State>, Error> {
        let name = self.name_of(identity);
        self.park(&name, Some(identity), grace).await
    }

    async fn park(
        &self,
        name: &str,
        only: Option<&Identity>,
        grace: Duration,
    ) -> Result<Option<State>, Error> {
        let doing = format!("stopping container {name}");
        let Some(found) = self.owned(&doing, name).await? else {
            return Ok(None);
        };
        if is_another(only, &found) {
            return Ok(None);
        }
        let id = found.id.clone().unwrap_or_default();
        let before = state(found.state.as_ref());
        if !before.is_up() && self.end_leftovers(&doing, &found, grace).await? != Leftover::Known {
            self.leave_fixed_name(&doing, &found).await?;
            return Ok(Some(before));
        }
        let client = self.client(&doing)?;
        if let State::Paused(_) = before {
            // What is frozen can't hear the signal.
            let answer = self
                .limited(self.limits().stop, client.unpause_container(&id))
                .await;
            let _thawed_or_died_meanwhile = self.told(&doing, answer);
        }
        let seconds = i32::try_from(whole_seconds(grace)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let stop = self.limits().stop;
        // The engine answers when the container has stopped: the deadline begins after its grace.
        let limit = Limit {
            length: grace.saturating_add(stop.length),
            ..stop
        };
        let answer = self
            .limited(limit, client.stop_container(&id, Some(options)))
            .await;
        present(self.told(&doing, answer))?;
        self.leave_fixed_name(&doing, &found).await?;
        Ok(self
            .inspect(&id)
            .await?
            .map(|after| state(after.state.as_ref())))
    }

    /// Sends a signal (`SIGKILL`, `SIGHUP`) to the container's first process; done when it does not run.
    ///
    /// # Errors
    /// It is somebody else's, or the engine is down or hangs.
    pub async fn kill(&self, name: &str, signal: &str) -> Result<(), Error> {
        let doing = format!("sending {signal} to container {name}");
        let Some(found) = self.owned(&doing, name).await? else {
            return Ok(());
        };
        let id = found.id.unwrap_or_default();
        let options = KillContainerOptionsBuilder::default()
            .signal(signal)
            .build();
        let answer = self
            .limited(
                self.limits().stop,
                self.client(&doing)?.kill_container(&id, Some(options)),
            )
            .await;
        match present(self.told(&doing, answer)) {
            Err(error) if error.class() == Class::NotRunning => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Removes a container that does not run, with its files; volumes stay, named or not.
    ///
    /// What it logged last is read before. `None`: there is none of that name.
    ///
    /// # Errors
    /// [`Class::Conflict`]: it runs, or is somebody else's. [`Class::LeftOver`]: it runs without the engine's knowledge,
    /// and can't be ended.
    pub async fn remove(&self, name: &str) -> Result<Option<Remains>, Error> {
        self.discard(name, None).await
    }

    /// As [`Self::remove`], of this very replica: one of its name in the other slot is none, and keeps its files.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub async fn remove_replica(&self, identity: &Identity) -> Result<Option<Remains>, Error> {
        let name = self.name_of(identity);
        self.discard(&name, Some(identity)).await
    }

    async fn discard(&self, name: &str, only: Option<&Identity>) -> Result<Option<Remains>, Error> {
        let doing = format!("removing container {name}");
        let Some(found) = self.owned(&doing, name).await? else {
            self.forget_files(name).await?;
            return Ok(None);
        };
        if is_another(only, &found) {
            return Ok(None);
        }
        let state = state(found.state.as_ref());
        if state.is_up() {
            return Err(Error::refused(
                doing,
                Class::Conflict,
                "it runs; stop it first",
            ));
        }
        let logs = match self.logs_tail(name, LAST_LINES, LAST_BYTES).await {
            Ok(logs) => logs,
            Err(error) => format!("(no logs: {})", chain(&error)),
        };
        self.delete(&doing, &found).await?;
        self.forget_files(name).await?;
        Ok(Some(Remains { state, logs }))
    }

    /// The container of this host that goes by `name`; a stranger's is an error that names its owner.
    pub(super) async fn owned(
        &self,
        doing: &str,
        name: &str,
    ) -> Result<Option<Box<ContainerInspectResponse>>, Error> {
        let direct = self.inspect(name).await?;
        if direct
            .as_ref()
            .is_some_and(|found| self.knows_as(found, name))
        {
            return Ok(direct);
        }
        // The engine may know it by the user's fixed name.
        let label = |key: &str, value: &str| format!("{key}={value}");
        let wanted = vec![
            label(labels::HOST, self.host().as_str()),
            label(labels::NAME, name),
        ];
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters([("label", wanted)]))
            .build();
        let answer = self
            .limited(
                self.limits().ask,
                self.client(doing)?.list_containers(Some(options)),
            )
            .await;
        if let Some(id) = self
            .told(doing, answer)?
            .into_iter()
            .find_map(|summary| summary.id)
        {
            return self.inspect(&id).await;
        }
        match direct {
            None => Ok(None),
            Some(stranger) => Err(Error::refused(
                doing,
                Class::Conflict,
                self.stranger_is(&stranger),
            )),
        }
    }

    fn knows_as(&self, found: &ContainerInspectResponse, name: &str) -> bool {
        let label = |key| {
            labels_of(found)
                .and_then(|labels| labels.get(key))
                .map(String::as_str)
        };
        label(labels::HOST) == Some(self.host().as_str()) && label(labels::NAME) == Some(name)
    }

    /// Who it is that bears a name that should be ours, in words.
    pub(super) fn stranger_is(&self, stranger: &ContainerInspectResponse) -> String {
        let name = engine_name(stranger);
        let id: String = stranger
            .id
            .as_deref()
            .unwrap_or_default()
            .chars()
            .take(12)
            .collect();
        let labels = labels_of(stranger);
        match labels.and_then(|labels| labels.get(labels::HOST)) {
            None => format!("container {name} ({id}) was not made by Cutover"),
            Some(host) if host != self.host().as_str() => {
                format!("container {name} ({id}) belongs to host {host}")
            }
            Some(_) => match labels.map(Identity::read) {
                Some(Err(why)) => format!("nothing says what container {name} ({id}) is: {why}"),
                Some(Ok(_)) | None => {
                    format!("container {name} ({id}) is another one of this host's")
                }
            },
        }
    }

    pub(super) async fn delete(
        &self,
        doing: &str,
        container: &ContainerInspectResponse,
    ) -> Result<(), Error> {
        self.end_leftovers(doing, container, NEVER_SERVED).await?;
        let id = container.id.as_deref().unwrap_or_default();
        // Never force (it would kill), never "v" (it would remove anonymous volumes).
        let options = RemoveContainerOptionsBuilder::default().build();
        let answer = self
            .limited(
                self.limits().remove,
                self.client(doing)?.remove_container(id, Some(options)),
            )
            .await;
        match present(self.told(doing, answer)) {
            Err(error) if error.says("already in progress") => self.await_removal(doing, id).await,
            answer => answer.map(drop),
        }
    }

    /// Waits for a removal that somebody else began.
    async fn await_removal(&self, doing: &str, id: &str) -> Result<(), Error> {
        let client = self.client(doing)?;
        let gone = async {
            while client
                .inspect_container(id, None::<InspectContainerOptions>)
                .await
                .is_ok()
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        let answer = self.limited(self.limits().remove, gone).await;
        self.told(doing, answer)
    }
}

/// Names carry no slot: what a swap could not make because the name was taken may be what serves.
fn is_another(only: Option<&Identity>, found: &ContainerInspectResponse) -> bool {
    let Some(identity) = only else { return false };
    let same = labels_of(found)
        .and_then(|labels| Identity::read(labels).ok())
        .is_some_and(|other| {
            other.service == identity.service
                && other.revision == identity.revision
                && other.slot == identity.slot
                && other.replica == identity.replica
        });
    if !same {
        let (name, slot) = (engine_name(found), identity.slot);
        tracing::warn!(name, %slot, "the container of that name belongs elsewhere; it is left alone");
    }
    !same
}

pub(super) fn whole_seconds(length: Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
