//! What happens to this host's containers, as it happens.
//!
//! Kept true: whenever something may have been missed, the stream says
//! [`Event::Gap`], and everything that happens after the gap is told. The engine
//! keeps only its last 256 events and loses them when it restarts, so a gap is
//! filled by listing, never by replay. An engine that hangs ends no stream;
//! a ping in quiet times notices it.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptionsBuilder;
use futures::{Stream, StreamExt};

use super::{Docker, Error, Health, Identity, filters, labels};

/// Something happened on the engine.
#[derive(Debug)]
pub enum Event {
    /// The engine answers (again). What happened before this was missed: list now.
    Gap,
    /// The engine can't be heard any more: it went away or hangs. A gap follows when it is back.
    Away(Error),
    /// A container was started.
    Started(Who),
    /// A container's process ended.
    Died(Death),
    /// The kernel killed a process in it for its memory; the container may live on.
    OutOfMemory(Who),
    /// Somebody froze it.
    Paused(Who),
    /// Somebody thawed it.
    Unpaused(Who),
    /// A container was removed.
    Removed(Who),
    /// The engine's own health check came to another verdict.
    HealthChanged(Who, Health),
    /// A network was removed, whosever it was.
    NetworkRemoved(String),
    /// The engine read its configuration again.
    Reloaded,
}

/// The container that something happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The name by which the operations here know it.
    pub name: String,
    /// The engine's id.
    pub id: String,
    /// Which replica of what it is; or the label that makes no sense.
    pub identity: Result<Identity, String>,
    /// When, by the engine's clock.
    pub at: SystemTime,
}

/// The end of a container's process: of the life that began last before [`Who::at`].
///
/// Deaths are told late when the engine is busy: one whose time lies before the start of
/// the life that is known ([`super::State::Running`], by the same clock) is an older life's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Whose.
    pub who: Who,
    /// Its exit code, if the engine said one.
    pub code: Option<i64>,
    /// The signal that ended it, as its exit code says.
    pub signal: Option<i64>,
    /// Whether the engine still answered right after. It does not while it shuts down and
    /// stops its containers; then this death is no fault of the container's. When it did
    /// not, [`Event::Away`] or [`Event::Gap`] follows within the ping's deadline: judge then.
    pub engine_stays: bool,
}

/// Between two pings while nothing happens.
const QUIET: Duration = Duration::from_secs(10);
/// How long a dying engine may take to refuse a call.
const STAYS: Duration = Duration::from_millis(500);
/// Until the first attempt to reconnect; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Between two attempts to reconnect, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

impl Docker {
    /// Everything that happens from now on; begins with [`Event::Gap`] (or [`Event::Away`]) and never ends.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + use<> {
        let ear = Ear {
            docker: self.clone(),
            live: None,
            heard_away: false,
            in_doubt: false,
            wait: Duration::ZERO,
        };
        futures::stream::unfold(ear, |mut ear| async move { Some((ear.next().await, ear)) })
    }
}

type Live = Pin<Box<dyn Stream<Item = Result<EventMessage, bollard::errors::Error>> + Send>>;

struct Ear {
    docker: Docker,
    live: Option<Live>,
    heard_away: bool,
    /// The engine was silent when something died: is it leaving?
    in_doubt: bool,
    wait: Duration,
}

impl Ear {
    async fn next(&mut self) -> Event {
        loop {
            let Some(live) = &mut self.live else {
                if let Some(event) = self.reconnect().await {
                    return event;
                }
                continue;
            };
            if std::mem::take(&mut self.in_doubt) {
                match self.docker.ping().await {
                    // It was only slow; the death may be judged by what is listed now.
                    Ok(()) => return Event::Gap,
                    Err(error) => return self.lost(error),
                }
            }
            let doing = "listening to the engine's events";
            let error = match tokio::time::timeout(QUIET, live.next()).await {
                Ok(Some(Ok(message))) => match understood(&self.docker, message).await {
                    Some(event) => {
                        self.in_doubt = matches!(&event, Event::Died(death) if !death.engine_stays);
                        return event;
                    }
                    None => continue,
                },
                Ok(Some(Err(error))) => Error::engine(doing, error),
                Ok(None) => Error::refused(
                    doing,
                    super::Class::Unreachable,
                    "the engine ended the stream",
                ),
                Err(_quiet) => match self.docker.ping().await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
            };
            return self.lost(error);
        }
    }

    fn lost(&mut self, error: Error) -> Event {
        self.live = None;
        self.heard_away = true;
        Event::Away(error)
    }

    async fn reconnect(&mut self) -> Option<Event> {
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        // The subscription begins here, not when the engine gets to it: what
        // happens between the gap and then is replayed.
        let since = SystemTime::now();
        let opened = match self.docker.ping().await {
            Ok(()) => self.subscribe(since),
            Err(error) => Err(error),
        };
        match opened {
            Ok(live) => {
                self.live = Some(live);
                self.heard_away = false;
                self.wait = FIRST_WAIT;
                Some(Event::Gap)
            }
            Err(_) if self.heard_away => None,
            Err(error) => {
                self.heard_away = true;
                Some(Event::Away(error))
            }
        }
    }

    fn subscribe(&self, since: SystemTime) -> Result<Live, Error> {
        let since = since
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let list = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        // Without these, each health check of each container on the host would be three events.
        // The engine can't filter by our label here: it would drop networks and the daemon.
        let wanted = filters([
            ("type", list(&["container", "network", "daemon"])),
            (
                "event",
                list(&[
                    "start",
                    "die",
                    "oom",
                    "pause",
                    "unpause",
                    "destroy",
                    "health_status",
                    "reload",
                ]),
            ),
        ]);
        let options = EventsOptionsBuilder::default()
            .since(&since)
            .filters(&wanted)
            .build();
        let client = self.docker.client("listening to the engine's events")?;
        Ok(Box::pin(client.events(Some(options))))
    }
}

/// What a message means to this host; `None`: nothing.
async fn understood(docker: &Docker, message: EventMessage) -> Option<Event> {
    let action = message.action.unwrap_or_default();
    let actor = message.actor.unwrap_or_default();
    let attributes = actor.attributes.unwrap_or_default();
    match message.typ {
        Some(EventMessageTypeEnum::DAEMON) => {
            return (action == "reload").then_some(Event::Reloaded);
        }
        Some(EventMessageTypeEnum::NETWORK) => {
            let name = attributes.get("name").cloned().unwrap_or_default();
            return (action == "destroy").then_some(Event::NetworkRemoved(name));
        }
        Some(EventMessageTypeEnum::CONTAINER) => {}
        Some(_) | None => return None,
    }
    if attributes.get(labels::HOST).map(String::as_str) != Some(docker.host().as_str()) {
        return None;
    }
    let who = Who {
        name: attributes
            .get(labels::NAME)
            .or_else(|| attributes.get("name"))
            .cloned()
            .unwrap_or_default(),
        id: actor.id.unwrap_or_default(),
        identity: Identity::read(&attributes),
        at: at(message.time_nano),
    };
    match action.as_str() {
        "start" => Some(Event::Started(who)),
        "die" => Some(Event::Died(death(docker, who, &attributes).await)),
        "oom" => Some(Event::OutOfMemory(who)),
        "pause" => Some(Event::Paused(who)),
        "unpause" => Some(Event::Unpaused(who)),
        "destroy" => Some(Event::Removed(who)),
        "health_status: healthy" => Some(Event::HealthChanged(who, Health::Healthy)),
        "health_status: unhealthy" => Some(Event::HealthChanged(who, Health::Unhealthy)),
        "health_status: starting" => Some(Event::HealthChanged(who, Health::Starting)),
        _ => None,
    }
}

async fn death(docker: &Docker, who: Who, attributes: &HashMap<String, String>) -> Death {
    let code = attributes
        .get("exitCode")
        .and_then(|code| code.parse::<i64>().ok());
    let answered = tokio::time::timeout(STAYS, docker.ping()).await;
    Death {
        who,
        code,
        signal: code
            .filter(|code| (129..=192).contains(code))
            .map(|code| code - 128),
        engine_stays: matches!(answered, Ok(Ok(()))),
    }
}

fn at(nanos: Option<i64>) -> SystemTime {
    let nanos = nanos
        .and_then(|nanos| u64::try_from(nanos).ok())
        .unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}
