//! What happens after a change was accepted: say what was decided, see its
//! rollouts through, and say what is so now. Deploy, rollback, rm, drain and
//! abort end here.

use cutover_proto::v1::{DeployResponse, RolloutView, ServiceDecision};
use tokio::time::Instant;

use super::Cx;
use crate::args::{OnInterrupt, WaitFlags};
use crate::client::Client;
use crate::exit::{Exit, Wish, of_decision, of_rollout};
use crate::failure::{Failure, Kind};
use crate::interrupt::Interrupts;
use crate::render::{json, now, sentence};
use crate::watch::{self, Ended, Seen, Wanted};

/// What was asked for, which says what an aborted rollout means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Rollouts that shall commit.
    Forward,
    /// A rollback: a new rollout that shall commit, or the open one, which shall be aborted.
    Back,
}

/// Waits for the answer to a change. A first Ctrl-C waits on, to know what was begun; a second leaves.
pub(super) async fn decided<T>(
    cx: &Cx<'_>,
    interrupts: &mut Interrupts,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<(T, bool), Failure> {
    let mut answer = std::pin::pin!(answer);
    let mut interrupted = false;
    loop {
        tokio::select! {
            answer = &mut answer => return Ok((answer?, interrupted)),
            () = interrupts.next() => {
                if interrupted {
                    let what = "interrupted before the coordinator answered: it may have been accepted";
                    return Err(Failure::new(Kind::Interrupted, what).next("`cutover rollout ls` says what is so"));
                }
                interrupted = true;
                cx.output.say("waiting for the coordinator to say what was begun; Ctrl-C again to leave now");
            }
        }
    }
}

/// Sees through what was decided.
pub(super) async fn through(
    cx: &Cx<'_>,
    client: &mut Client,
    interrupts: &mut Interrupts,
    (response, interrupted): (DeployResponse, bool),
    flags: &WaitFlags,
    asked: Asked,
) -> Result<Exit, Failure> {
    for warning in &response.warnings {
        cx.output.warn(warning);
    }
    let waits = response
        .services
        .iter()
        .filter(|decision| !decision.rollout.is_empty());
    let ids: Vec<String> = waits.map(|decision| decision.rollout.clone()).collect();
    let stay = flags.detach || (interrupted && flags.on_interrupt == OnInterrupt::Detach);
    let seen = if stay || ids.is_empty() {
        None
    } else {
        let wanted = Wanted {
            ids,
            until: Instant::now() + flags.timeout,
            on_interrupt: flags.on_interrupt,
            interrupted,
        };
        let mut progress = cx.output.progress();
        let seen = watch::watch(client, wanted, &mut progress, interrupts).await;
        progress.end();
        Some(seen?)
    };
    let end = End::of(&response.services, seen, asked, interrupted);
    end.say(cx, &response);
    Ok(end.exit)
}

/// Said before a sentence that may be old.
pub(super) const LAST_HEARD: &str =
    "the coordinator is out of reach; this is how it stood when it was last heard";

/// What is so at the end, and what a script is told of it.
struct End {
    exit: Exit,
    sentences: Vec<String>,
    next: Vec<String>,
    views: Vec<RolloutView>,
    out_of_reach: bool,
}

impl End {
    fn of(
        decisions: &[ServiceDecision],
        seen: Option<Seen>,
        asked: Asked,
        interrupted: bool,
    ) -> Self {
        let watched = seen.is_some();
        let out_of_reach = seen.as_ref().is_some_and(|seen| seen.out_of_reach);
        let (ended, views) = match seen {
            Some(seen) => (seen.ended, seen.views),
            None if interrupted => (Ended::Interrupted, Vec::new()),
            None => (Ended::Settled, Vec::new()),
        };
        let mut end = Self {
            exit: Exit::Done,
            sentences: Vec::new(),
            next: Vec::new(),
            views,
            out_of_reach,
        };
        for decision in decisions {
            let view = end.views.iter().find(|view| view.id == decision.rollout);
            let (exit, sentence, next) = match view {
                Some(view) => {
                    let exit = of_rollout(view, wish(decision, view, asked));
                    (
                        exit,
                        sentence::of_rollout(view, now()),
                        sentence::next(view),
                    )
                }
                None if decision.rollout.is_empty() => (
                    of_decision(decision),
                    sentence::of_decision(decision),
                    String::new(),
                ),
                None => {
                    let id = &decision.rollout;
                    let exit = if watched { Exit::TimedOut } else { Exit::Done };
                    (
                        exit,
                        sentence::of_decision(decision),
                        format!("watch it with `cutover rollout watch {id}`"),
                    )
                }
            };
            end.exit = end.exit.worse(exit);
            end.sentences.push(sentence);
            end.next.push(next);
        }
        let over = |id: &String| {
            end.views
                .iter()
                .any(|view| view.id == *id && view.stage == "closed")
        };
        let mut begun = decisions
            .iter()
            .map(|decision| &decision.rollout)
            .filter(|id| !id.is_empty());
        let open = begun.any(|id| !over(id)); // also one of which nothing was heard yet
        if ended == Ended::Interrupted && open {
            end.exit = Exit::Interrupted;
        }
        end
    }

    fn say(&self, cx: &Cx<'_>, response: &DeployResponse) {
        if self.out_of_reach {
            cx.output.warn(LAST_HEARD);
        }
        for sentence in &self.sentences {
            cx.output.result(sentence);
        }
        for next in self.next.iter().filter(|next| !next.is_empty()) {
            cx.output.say(&format!("  next: {next}"));
        }
        if self.sentences.is_empty() {
            cx.output.say("there was nothing to do");
        }
        if cx.output.is_json() {
            let (release, warnings) = (&response.release, &response.warnings);
            let value = json::deploy::release(
                release,
                self.exit,
                &self.sentences,
                &response.services,
                &self.views,
                warnings,
            );
            cx.output.value(&value);
        }
    }
}

/// An open rollout that is aborted goes elsewhere than was decided; going back is what was wanted of it.
fn wish(decision: &ServiceDecision, view: &RolloutView, asked: Asked) -> Wish {
    match asked {
        Asked::Back if decision.to_revision != view.to_revision => Wish::Back,
        Asked::Back | Asked::Forward => Wish::Forward,
    }
}
