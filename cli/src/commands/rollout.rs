//! `cutover rollout …`

use std::time::Duration;

use cutover_proto::v1::{ListRolloutsRequest, RolloutRequest, RolloutView};
use tokio::time::Instant;

use super::Cx;
use super::see::LAST_HEARD;
use crate::args::{OnInterrupt, RolloutVerb, Steered};
use crate::client::{Asking, Client};
use crate::exit::{Exit, Wish, of_rollout};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::progress::Progress;
use crate::render::{json, now, sentence, tables};
use crate::watch::{self, Ended, Wanted};

/// `cutover rollout …`
pub(super) async fn run(cx: &Cx<'_>, verb: RolloutVerb) -> Result<Exit, Failure> {
    let mut client = cx.connect().await?;
    match verb {
        RolloutVerb::Ls {
            service,
            open,
            limit,
        } => {
            let service = cx.maybe_service(service.as_deref(), &mut client).await?;
            let request = ListRolloutsRequest {
                service,
                open_only: open,
                limit,
            };
            let rollouts = list(&mut client, request).await?;
            let values: Vec<_> = rollouts.iter().map(json::rollout::rollout).collect();
            cx.output
                .show(&values, || tables::rollouts(&rollouts, cx.output.zone()));
            Ok(Exit::Done)
        }
        RolloutVerb::Show { id } => {
            let doing = format!("showing {id}");
            let request = RolloutRequest {
                id,
                reason: String::new(),
            };
            let view = client
                .ask(Asking::Look, &doing, request, async |api, q| {
                    api.show_rollout(q).await
                })
                .await?;
            cx.output.show(&json::rollout::rollout(&view), || {
                tables::rollout(&view, cx.output.zone())
            });
            Ok(Exit::Done)
        }
        RolloutVerb::Watch { ids, timeout } => watch_them(cx, &mut client, ids, timeout).await,
        RolloutVerb::Pause(which) => {
            let (doing, request) = steer("pausing", which);
            let asked = client.ask(Asking::Change, &doing, request, async |api, q| {
                api.pause_rollout(q).await
            });
            Ok(say(
                cx,
                &asked.await?,
                "is paused: hosts finish what they do, and no other begins",
            ))
        }
        RolloutVerb::Resume(which) => {
            let (doing, request) = steer("resuming", which);
            let asked = client.ask(Asking::Change, &doing, request, async |api, q| {
                api.resume_rollout(q).await
            });
            Ok(say(cx, &asked.await?, "goes on"))
        }
        RolloutVerb::Abort {
            which,
            detach,
            timeout,
        } => {
            let (doing, request) = steer("aborting", which);
            let asked = client.ask(Asking::Change, &doing, request, async |api, q| {
                api.abort_rollout(q).await
            });
            let view = asked.await?;
            if detach {
                return Ok(say(cx, &view, "goes back"));
            }
            see_back(cx, &mut client, view, timeout).await
        }
    }
}

fn steer(doing: &str, which: Steered) -> (String, RolloutRequest) {
    let doing = format!("{doing} {}", which.id);
    let request = RolloutRequest {
        id: which.id,
        reason: which.reason,
    };
    (doing, request)
}

fn say(cx: &Cx<'_>, view: &RolloutView, what: &str) -> Exit {
    cx.output.show(&json::rollout::rollout(view), || {
        if view.stage == "closed" {
            sentence::of_rollout(view, now())
        } else {
            format!("{} ({}) {what}", view.id, view.service)
        }
    });
    Exit::Done
}

async fn list(
    client: &mut Client,
    request: ListRolloutsRequest,
) -> Result<Vec<RolloutView>, Failure> {
    let asked = client.ask(Asking::Look, "listing rollouts", request, async |api, q| {
        api.list_rollouts(q).await
    });
    Ok(asked.await?.rollouts)
}

/// `cutover rollout watch`: with JSON a line for each change, else as a deploy shows it.
async fn watch_them(
    cx: &Cx<'_>,
    client: &mut Client,
    mut ids: Vec<String>,
    timeout: Duration,
) -> Result<Exit, Failure> {
    if ids.is_empty() {
        let request = ListRolloutsRequest {
            open_only: true,
            limit: u32::MAX,
            ..ListRolloutsRequest::default()
        };
        ids = list(client, request)
            .await?
            .into_iter()
            .map(|view| view.id)
            .collect();
        ids.reverse(); // the oldest began first
    }
    if ids.is_empty() {
        cx.output.say("no rollout is open");
        return Ok(Exit::Done);
    }
    let mut interrupts = Interrupts::listen()?;
    let wanted = Wanted {
        ids: ids.clone(),
        until: Instant::now() + timeout,
        on_interrupt: OnInterrupt::Detach,
        interrupted: false,
    };
    let mut progress = if cx.output.is_json() {
        Progress::stream(cx.output)
    } else {
        cx.output.progress()
    };
    let seen = watch::watch(client, wanted, &mut progress, &mut interrupts).await;
    progress.end();
    let seen = seen?;
    if seen.out_of_reach {
        cx.output.warn(LAST_HEARD);
    }
    let mut exit = Exit::Done;
    for id in &ids {
        let Some(view) = seen.views.iter().find(|view| view.id == *id) else {
            return Err(watch::never_heard(id));
        };
        exit = exit.worse(of_rollout(view, Wish::Forward));
        cx.output.result(&sentence::of_rollout(view, now()));
    }
    Ok(match seen.ended {
        Ended::Interrupted => Exit::Interrupted,
        Ended::Settled | Ended::TimedOut => exit,
    })
}

/// After an abort: until every host is back.
async fn see_back(
    cx: &Cx<'_>,
    client: &mut Client,
    view: RolloutView,
    timeout: Duration,
) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let wanted = Wanted {
        ids: vec![view.id.clone()],
        until: Instant::now() + timeout,
        on_interrupt: OnInterrupt::Detach,
        interrupted: false,
    };
    let mut progress = cx.output.progress();
    progress.update(&view, now());
    let seen = watch::watch(client, wanted, &mut progress, &mut interrupts).await;
    progress.end();
    let seen = seen?;
    if seen.out_of_reach {
        cx.output.warn(LAST_HEARD);
    }
    let view = seen.views.into_iter().next().unwrap_or(view);
    let exit = match seen.ended {
        Ended::Interrupted => Exit::Interrupted,
        Ended::Settled | Ended::TimedOut => of_rollout(&view, Wish::Back),
    };
    let sentence = sentence::of_rollout(&view, now());
    cx.output.result(&sentence);
    if cx.output.is_json() {
        let value = json::deploy::release("", exit, &[sentence], &[], &[view], &[]);
        cx.output.value(&value);
    }
    Ok(exit)
}
