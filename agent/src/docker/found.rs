//! What containers of this host there are, and how they stand.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
    HealthStatusEnum,
};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use cutover_core::ServiceId;
use futures::StreamExt;

use super::deadline::Limit;
use super::{Class, Docker, Error, Identity, filters, labels, present};

/// A container that carries this host's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name by which the operations here know it.
    pub name: String,
    /// The engine's id; another one means another container.
    pub id: String,
    /// Which replica of what it is; or the label that makes no sense, and then it is nobody's to touch.
    pub identity: Result<Identity, String>,
    /// How it stands.
    pub state: State,
    /// Its fixed address on Cutover's network.
    pub address: Option<Ipv4Addr>,
    /// Its first process, where the engine runs; `None`: it has none.
    pub process: Option<u32>,
    /// The image that it was made from, `sha256:…`.
    pub image_id: String,
}

/// Containers of this host, as far as the engine told.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that it told of.
    pub found: Vec<Found>,
    /// Those that are there, and that it did not tell of.
    pub unknown: Vec<Unknown>,
}

/// A container that is there; how it stands is not known.
#[derive(Debug)]
pub struct Unknown {
    /// The engine's name for it.
    pub name: String,
    /// Which replica of what it is; or the label that makes no sense.
    pub identity: Result<Identity, String>,
    /// Why it is not known.
    pub why: Error,
}

/// How a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Never ran; the text says why a start failed, if one was tried.
    Created(String),
    /// Runs since.
    Running(SystemTime),
    /// Frozen by somebody; runs since.
    Paused(SystemTime),
    /// Ran and ended.
    Exited(Exit),
    /// The engine is removing it, or failed to.
    Dying,
}

/// How a container's last run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 and more: that many plus a signal.
    pub code: i64,
    /// The kernel killed it for its memory.
    pub out_of_memory: bool,
    /// What the engine had to say about it, mostly nothing.
    pub error: String,
    /// When.
    pub at: SystemTime,
}

/// What the engine's own health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has none.
    None,
    /// No verdict yet.
    Starting,
    /// Healthy.
    Healthy,
    /// Unhealthy.
    Unhealthy,
}

impl State {
    /// Whether it has a process, frozen or not.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Paused(_))
    }
}

/// Inspections at a time, while listing; the engine answers one in under a millisecond.
const INSPECTIONS: usize = 4;

impl Docker {
    /// Every container that carries this host's label, whatever its state.
    ///
    /// # Errors
    /// The engine is down or hangs. What it does not say of one container alone is in the answer.
    pub async fn list(&self) -> Result<Listing, Error> {
        self.listing(vec![format!("{}={}", labels::HOST, self.host())])
            .await
    }

    /// As [`Docker::list`], of one service.
    ///
    /// # Errors
    /// As of [`Docker::list`].
    pub async fn list_of(&self, service: &ServiceId) -> Result<Listing, Error> {
        self.listing(vec![
            format!("{}={}", labels::HOST, self.host()),
            format!("{}={}", labels::APP, service.app),
            format!("{}={}", labels::SERVICE, service.service),
        ])
        .await
    }

    async fn listing(&self, wanted: Vec<String>) -> Result<Listing, Error> {
        let doing = "listing this host's containers";
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
        let mut asked = futures::stream::iter(self.told(doing, answer)?)
            .map(|summary| async move {
                let id = summary.id.clone().unwrap_or_default();
                let limit = self.limits().glance;
                (summary, self.inspect_within(&id, limit).await)
            })
            .buffered(INSPECTIONS);
        let mut listing = Listing::default();
        while let Some((summary, answer)) = asked.next().await {
            match answer {
                // What was removed in between is not there.
                Ok(inspect) => listing.found.extend(inspect.as_deref().map(found)),
                Err(error) if error.class() == Class::Unreachable => return Err(error),
                Err(why) => listing.unknown.push(unknown(summary, why)),
            }
        }
        Ok(listing)
    }

    /// How one container of this host stands; `None`: there is none of that name.
    ///
    /// # Errors
    /// It is somebody else's, or the engine is down or hangs.
    pub async fn look(&self, name: &str) -> Result<Option<Found>, Error> {
        Ok(self
            .owned(&format!("looking at container {name}"), name)
            .await?
            .as_deref()
            .map(found))
    }

    /// What the engine's own health check says of a container; [`Health::None`] too when there is no such container.
    ///
    /// # Errors
    /// It is somebody else's, or the engine is down or hangs.
    pub async fn health(&self, name: &str) -> Result<Health, Error> {
        let found = self
            .owned(&format!("asking for the health of container {name}"), name)
            .await?;
        let status = found.and_then(|found| found.state?.health?.status);
        Ok(match status {
            None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => Health::None,
            Some(HealthStatusEnum::STARTING) => Health::Starting,
            Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
            Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        })
    }

    /// A container by the engine's name or id, whosever it is.
    pub(super) async fn inspect(
        &self,
        key: &str,
    ) -> Result<Option<Box<ContainerInspectResponse>>, Error> {
        self.inspect_within(key, self.limits().ask).await
    }

    async fn inspect_within(
        &self,
        key: &str,
        limit: Limit,
    ) -> Result<Option<Box<ContainerInspectResponse>>, Error> {
        let doing = format!("looking at container {key}");
        let options = None::<InspectContainerOptions>;
        let inspecting = self.client(&doing)?.inspect_container(key, options);
        let answer = self.limited(limit, inspecting).await;
        Ok(present(self.told(&doing, answer))?.map(Box::new))
    }
}

fn unknown(summary: ContainerSummary, why: Error) -> Unknown {
    let name = summary.names.unwrap_or_default().into_iter().next();
    Unknown {
        name: name.unwrap_or_default().trim_start_matches('/').to_owned(),
        identity: Identity::read(&summary.labels.unwrap_or_default()),
        why,
    }
}

pub(super) fn found(inspect: &ContainerInspectResponse) -> Found {
    let labels = labels_of(inspect);
    Found {
        name: labels
            .and_then(|labels| labels.get(labels::NAME))
            .cloned()
            .unwrap_or_else(|| engine_name(inspect)),
        id: inspect.id.clone().unwrap_or_default(),
        identity: labels.map_or_else(|| Err("it has no labels".to_owned()), Identity::read),
        state: state(inspect.state.as_ref()),
        address: planned_address(inspect),
        process: inspect
            .state
            .as_ref()
            .and_then(|state| u32::try_from(state.pid?).ok())
            .filter(|process| *process > 0),
        image_id: inspect.image.clone().unwrap_or_default(),
    }
}

pub(super) fn labels_of(inspect: &ContainerInspectResponse) -> Option<&HashMap<String, String>> {
    inspect.config.as_ref()?.labels.as_ref()
}

pub(super) fn engine_name(inspect: &ContainerInspectResponse) -> String {
    inspect
        .name
        .as_deref()
        .unwrap_or_default()
        .trim_start_matches('/')
        .to_owned()
}

/// The network it was made for, as the engine keeps it.
pub(super) fn home_endpoint(
    inspect: &ContainerInspectResponse,
) -> Option<&bollard::models::EndpointSettings> {
    let home = inspect.host_config.as_ref()?.network_mode.as_ref()?;
    inspect
        .network_settings
        .as_ref()?
        .networks
        .as_ref()?
        .get(home)
}

/// The address that it was made with, whether it runs or not.
pub(super) fn planned_address(inspect: &ContainerInspectResponse) -> Option<Ipv4Addr> {
    home_endpoint(inspect)?
        .ipam_config
        .as_ref()?
        .ipv4_address
        .as_ref()?
        .parse()
        .ok()
}

pub(super) fn state(state: Option<&ContainerState>) -> State {
    use ContainerStateStatusEnum as Status;
    let Some(state) = state else {
        return State::Dying;
    };
    let since = || wall(state.started_at.as_deref());
    match state.status.unwrap_or(Status::EMPTY) {
        Status::CREATED => State::Created(state.error.clone().unwrap_or_default()),
        Status::RUNNING | Status::STOPPING => State::Running(since()),
        Status::PAUSED => State::Paused(since()),
        Status::EXITED | Status::RESTARTING => State::Exited(Exit {
            code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
            error: state.error.clone().unwrap_or_default(),
            at: wall(state.finished_at.as_deref()),
        }),
        Status::REMOVING | Status::DEAD | Status::EMPTY => State::Dying,
    }
}

/// The engine's time (`2026-11-22T10:14:00.123456789Z`, always UTC); the epoch for what is none.
fn wall(text: Option<&str>) -> SystemTime {
    let parse = || {
        let (date, time) = text?.strip_suffix('Z')?.split_once('T')?;
        let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
        let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u64>().ok());
        let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
        let nanos = format!("{fraction:0<9}").get(..9)?.parse::<u32>().ok()?;
        let days = u64::try_from(days_since_epoch(year, month, day)).ok()?;
        let seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
    };
    parse().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Days from 1970-01-01 in the Gregorian calendar, counted in years that begin in March.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> u64 {
        wall(Some(text))
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs()
    }

    #[test]
    fn the_engines_times_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:01Z"), 1);
        assert_eq!(seconds("2000-02-29T12:00:00.5Z"), 951_825_600);
        assert_eq!(seconds("2026-11-22T10:14:00.123456789Z"), 1_795_342_440);
        assert_eq!(
            wall(Some("0001-01-01T00:00:00Z")),
            SystemTime::UNIX_EPOCH,
            "never"
        );
        assert_eq!(wall(Some("yesterday")), SystemTime::UNIX_EPOCH);
    }
}
