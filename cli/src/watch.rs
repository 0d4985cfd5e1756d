//! Seeing rollouts through: watching them by id until they are over, hold, or
//! nobody waits any more.
//!
//! Kept true: a lost connection ends nothing and proves nothing. It is said, and
//! made again until the time is over; only what the coordinator said counts.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_proto::tls::chance;
use cutover_proto::v1::{RolloutRequest, RolloutView, WatchRequest};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tonic::{Code, Status, Streaming};

use crate::args::OnInterrupt;
use crate::client::{Asking, Client};
use crate::failure::{Failure, Kind};
use crate::interrupt::Interrupts;
use crate::render::now;
use crate::render::progress::Progress;

/// Before the first and at most before a later attempt to reach the coordinator again.
const SOONEST: Duration = Duration::from_millis(250);
const LATEST: Duration = Duration::from_secs(5);
/// For one attempt, whatever the network does.
const ATTEMPT: Duration = Duration::from_secs(15);
/// A picture that shows seconds is redrawn more often than that.
const TICK: Duration = Duration::from_millis(250);

/// Which rollouts, how long, and what Ctrl-C does.
pub(crate) struct Wanted {
    pub(crate) ids: Vec<String>,
    pub(crate) until: Instant,
    pub(crate) on_interrupt: OnInterrupt,
    /// A person said stop before there was anything to watch.
    pub(crate) interrupted: bool,
}

/// Why nobody waits any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All are over, or wait for a person.
    Settled,
    /// The time was over.
    TimedOut,
    /// A person said stop.
    Interrupted,
}

/// How they stood when nobody waited any more.
pub(crate) struct Seen {
    pub(crate) ended: Ended,
    /// The coordinator was out of reach in the end: so they stood when it was last heard.
    pub(crate) out_of_reach: bool,
    /// In the order in which they were wanted; one that was never heard of is missing.
    pub(crate) views: Vec<RolloutView>,
}

/// Watches until all are settled, the time is over or a person says stop.
pub(crate) async fn watch(
    client: &mut Client,
    wanted: Wanted,
    progress: &mut Progress<'_>,
    interrupts: &mut Interrupts,
) -> Result<Seen, Failure> {
    let mut watch = Watch {
        wanted,
        views: BTreeMap::new(),
        aborting: false,
        backoff: SOONEST,
        out_of_reach: false,
    };
    let ended = watch.run(client, progress, interrupts).await?;
    let out_of_reach = watch.out_of_reach;
    let mut views = watch.views;
    let views = watch.wanted.ids.iter().filter_map(|id| views.remove(id));
    Ok(Seen {
        ended,
        out_of_reach,
        views: views.collect(),
    })
}

struct Watch {
    wanted: Wanted,
    views: BTreeMap<String, RolloutView>,
    aborting: bool,
    backoff: Duration,
    out_of_reach: bool,
}

/// What woke us.
enum Wake {
    Update(Box<RolloutView>),
    Lost(Option<Status>),
    Tick,
    Interrupt,
    TimeOver,
}

impl Watch {
    async fn run(
        &mut self,
        client: &mut Client,
        progress: &mut Progress<'_>,
        interrupts: &mut Interrupts,
    ) -> Result<Ended, Failure> {
        let mut ticks = interval(TICK);
        if self.wanted.interrupted && !self.interrupted(client, progress).await {
            return Ok(Ended::Interrupted);
        }
        let mut stream = self.open(client).await;
        loop {
            if settled(&self.wanted.ids, &self.views) {
                return Ok(Ended::Settled);
            }
            let wake = match &mut stream {
                Err(status) => Wake::Lost(Some(status.clone())),
                Ok(stream) => tokio::select! {
                    biased; // an update that is there counts before time and person
                    message = stream.message() => match message {
                        Ok(Some(view)) => Wake::Update(Box::new(view)),
                        Ok(None) => Wake::Lost(None),
                        Err(status) => Wake::Lost(Some(status)),
                    },
                    () = interrupts.next() => Wake::Interrupt,
                    () = sleep_until(self.wanted.until) => Wake::TimeOver,
                    _ = ticks.tick() => Wake::Tick,
                },
            };
            match wake {
                Wake::Update(view) => {
                    self.backoff = SOONEST;
                    progress.update(&view, now());
                    self.views.insert(view.id.clone(), *view);
                }
                Wake::Tick => progress.tick(now()),
                Wake::TimeOver => return Ok(Ended::TimedOut),
                Wake::Interrupt => {
                    if !self.interrupted(client, progress).await {
                        return Ok(Ended::Interrupted);
                    }
                }
                Wake::Lost(status) => {
                    if let Some(status) = status
                        && refuses(client, &status)
                    {
                        return Err(client.refused(Asking::Look, "watching the rollout", status));
                    }
                    if let Some(ended) = self.reach_again(client, progress, interrupts).await {
                        return Ok(ended);
                    }
                    stream = self.open(client).await;
                }
            }
        }
    }

    async fn open(&self, client: &mut Client) -> Result<Streaming<RolloutView>, Status> {
        let open = |id: &&String| {
            self.views
                .get(*id)
                .is_none_or(|view| view.stage != "closed")
        };
        let rollouts = self.wanted.ids.iter().filter(open).cloned().collect();
        match timeout(ATTEMPT, client.api().watch(WatchRequest { rollouts })).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer")),
        }
    }

    /// Says that the coordinator is out of reach, and tries until it is back; or until there is another end.
    async fn reach_again(
        &mut self,
        client: &mut Client,
        progress: &mut Progress<'_>,
        interrupts: &mut Interrupts,
    ) -> Option<Ended> {
        let words = "lost the connection to the coordinator; the rollout goes on, trying again";
        progress.note(words, now());
        self.out_of_reach = true;
        loop {
            let pause = self.backoff.mul_f64(0.5 + 0.5 * chance().unwrap_or(0.5));
            self.backoff = (self.backoff * 2).min(LATEST);
            let again = async {
                sleep(pause).await;
                timeout(ATTEMPT, client.reconnect()).await
            };
            tokio::select! {
                reached = again => match reached {
                    Ok(Ok(())) => {
                        self.out_of_reach = false;
                        progress.note("connected to the coordinator again", now());
                        return None;
                    }
                    Ok(Err(_)) | Err(_) => progress.tick(now()),
                },
                // Nothing can be aborted without the coordinator; what was begun goes on.
                () = interrupts.next() => return Some(Ended::Interrupted),
                () = sleep_until(self.wanted.until) => return Some(Ended::TimedOut),
            }
        }
    }

    /// A person said stop: whether there is still something to wait for.
    async fn interrupted(&mut self, client: &mut Client, progress: &mut Progress<'_>) -> bool {
        if self.wanted.on_interrupt == OnInterrupt::Detach || self.aborting {
            return false;
        }
        self.aborting = true;
        for id in &self.wanted.ids {
            if self
                .views
                .get(id)
                .is_some_and(|view| view.stage == "closed")
            {
                continue;
            }
            progress.note(
                &format!("aborting {id}; Ctrl-C again leaves it alone"),
                now(),
            );
            let asked = RolloutRequest {
                id: id.clone(),
                reason: "interrupted".to_owned(),
            };
            let doing = format!("aborting {id}");
            let answer = client
                .ask(Asking::Change, &doing, asked, async |api, q| {
                    api.abort_rollout(q).await
                })
                .await;
            match answer {
                Ok(view) => {
                    progress.update(&view, now());
                    self.views.insert(view.id.clone(), view);
                }
                // It may be over by now; what the stream says next tells.
                Err(failure) => progress.note(&failure.chain(), now()),
            }
        }
        true
    }
}

/// The coordinator itself says no: asking again changes nothing.
fn refuses(client: &Client, status: &Status) -> bool {
    !client.was_lost(status)
        && matches!(
            status.code(),
            Code::NotFound
                | Code::InvalidArgument
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::Unimplemented
        )
}

/// Whether there is nothing to wait for: all are over, hold, or are queued behind one that holds.
fn settled(ids: &[String], views: &BTreeMap<String, RolloutView>) -> bool {
    let stages: Vec<&str> = ids
        .iter()
        .map(|id| views.get(id).map_or("", |view| view.stage.as_str()))
        .collect();
    let holds = stages.contains(&"holding");
    stages
        .iter()
        .all(|stage| matches!(*stage, "closed" | "holding") || (holds && *stage == "queued"))
}

/// The failure that says that nothing was heard at all.
pub(crate) fn never_heard(id: &str) -> Failure {
    let what = format!("{id} was accepted, but nothing was heard of it");
    Failure::new(Kind::TimedOut, what).next(format!("`cutover rollout show {id}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_what_a_person_must_decide() {
        let ids = ["a", "b"].map(str::to_owned);
        let settled = |stages: [&str; 2]| {
            let views = ids
                .iter()
                .zip(stages)
                .filter(|(_, stage)| !stage.is_empty());
            let views = views.map(|(id, stage)| {
                let view = RolloutView {
                    stage: stage.to_owned(),
                    ..RolloutView::default()
                };
                (id.clone(), view)
            });
            super::settled(&ids, &views.collect())
        };
        assert!(settled(["closed", "closed"]));
        assert!(settled(["closed", "holding"]));
        assert!(settled(["holding", "queued"]));
        assert!(!settled(["closed", "queued"]));
        assert!(!settled(["closed", "forward"]));
        assert!(!settled(["closed", ""]), "never heard of is not over");
    }
}
