//! What people on this host ask, with or without a coordinator, and questions of the coordinator's.

use std::time::Duration;

use cutover_core::spec::Order;
use cutover_core::swap::{Event, Kind, SwapOrder, SwapPlan, SwapReport, Target};
use cutover_core::{Moment, RevisionNumber, RolloutId, ServiceId};
use cutover_daemon::logging::chain;
use cutover_proto::v1;
use prost::Message;
use tokio::sync::oneshot;
use tracing::warn;

use crate::docker::Docker;
use crate::helm::Helm;
use crate::local::{self, Ask, Not};
use crate::revisions::Revisions;

/// How rollouts are named that began here, without a coordinator.
const BY_HAND: &str = "by-hand-";
/// How long a swap that somebody on the host began may take without a coordinator.
const BY_HAND_LEASE: Duration = Duration::from_secs(24 * 3600);

impl Helm {
    pub(super) fn asked(&mut self, now: Moment, ask: Ask, answer: oneshot::Sender<String>) {
        let text = match ask {
            Ask::Status => {
                let connected = self.connected;
                local::status(connected, &self.accounts(now))
            }
            Ask::Revert(service) => local::said(self.revert(now, &service)),
            Ask::Hold(service, hold) => local::said(self.hold(now, &service, hold)),
        };
        // Who asked may be gone.
        drop(answer.send(text));
    }

    fn hold(&mut self, now: Moment, service: &ServiceId, hold: bool) -> Result<String, Not> {
        if !self.posts.contains_key(service) {
            return Err(Not::Here(service.clone()));
        }
        self.tell(now, service, Event::HoldAsked(hold));
        self.tend(now);
        Ok(if hold {
            format!("{service} is held: nothing moves by itself")
        } else {
            format!("{service} may move again")
        })
    }

    /// Brings the old revision back: of an open swap by reverting it, of a committed one by a swap of our own.
    fn revert(&mut self, now: Moment, service: &ServiceId) -> Result<String, Not> {
        warn!(%service, "somebody on this host asks for the old revision");
        let post = self
            .posts
            .get_mut(service)
            .ok_or_else(|| Not::Here(service.clone()))?;
        let last = post.berth.report(self.parts.start, now).swap;
        if let Some(why) = last.and_then(|swap| by_hand_already(service, &swap)) {
            return Err(why.into());
        }
        if post.berth.open_plan().is_some() {
            self.tell(now, service, Event::RevertAsked);
            self.tend(now);
            let route = self.posts.get(service).map(|post| post.berth.route());
            return Ok(format!(
                "{service} goes back; nginx sends to {}",
                route.map_or_else(String::new, |route| route.to_string())
            ));
        }
        let current = post
            .berth
            .current()
            .cloned()
            .ok_or_else(|| format!("nothing of {service} runs here"))?;
        let before = post
            .berth
            .parked()
            .first()
            .cloned()
            .ok_or_else(|| format!("{service} has no earlier revision on this host"))?;
        let spec = post
            .spec(&self.parts.revisions, before.side.revision)
            .map_err(|error| chain(&error))?;
        let name = format!("{BY_HAND}{}", now.as_nanos() / 1_000_000);
        let rollout: RolloutId = name.parse().map_err(|error| chain(&error))?;
        let generation = post.berth.fence().next(post.berth.fence().epoch);
        let (from, to) = (current.side.revision, before.side.revision);
        let plan = SwapPlan {
            service: service.clone(),
            rollout,
            generation,
            kind: Kind::Change {
                incumbent: current.side,
                candidate: before.side,
            },
            order: if spec.policy.order == Order::StopFirst {
                Order::StopFirst
            } else {
                Order::StartFirst
            },
            drain: spec.policy.drain,
            observe: Duration::ZERO,
            retain: post.berth.retain(),
        };
        let order = SwapOrder {
            plan: Some(Box::new(plan)),
            generation,
            target: Target::Committed,
            lease_until: now + BY_HAND_LEASE,
        };
        self.tell(now, service, Event::Ordered(order));
        self.tend(now);
        Ok(format!(
            "{service} goes back from @{from} to @{to}; `cutover-agent status` shows how far it is"
        ))
    }
}

/// Why this swap is not taken back by hand: it is somebody's way back itself, and what they fled from would return.
fn by_hand_already(service: &ServiceId, swap: &SwapReport) -> Option<String> {
    if !swap.rollout.as_str().starts_with(BY_HAND) {
        return None;
    }
    let (from, to) = (swap.incumbent?, swap.candidate?);
    match (swap.phase, swap.reached) {
        (Some(_), _) => Some(format!(
            "{service} goes back from @{from} to @{to} already, because somebody on this host asked for it; \
             to revert that would bring @{from} back. `cutover-agent status` shows how far it is"
        )),
        (None, Some(Target::Committed)) => Some(format!(
            "{service} went back from @{from} to @{to} already, because somebody on this host asked for it; \
             to revert that would bring @{from} back. For another revision use `cutover deploy` or `cutover rollback`"
        )),
        // It failed: what was fled from still runs, and the next try is as good as the first.
        (None, Some(Target::Prepared | Target::Serving(_) | Target::Reverted) | None) => None,
    }
}

/// Answers a question of the coordinator's; the sentence of a failure is read by an operator.
pub(super) async fn answered(
    docker: &Docker,
    revisions: &Revisions,
    question: &[u8],
) -> Result<Vec<u8>, String> {
    let unknown =
        || "this agent does not know that question; is it older than the coordinator?".to_owned();
    let question = v1::Question::decode(question).map_err(|_| unknown())?;
    match question.what.ok_or_else(unknown)? {
        v1::question::What::ResolveImage(wanted) => {
            let resolved = docker
                .resolve_image(&wanted.image, None)
                .await
                .map_err(|error| chain(&error))?;
            Ok(v1::Resolved {
                reference: resolved.as_str().to_owned(),
            }
            .encode_to_vec())
        }
        v1::question::What::TellRevision(wanted) => {
            let service: ServiceId = wanted.service.parse().map_err(|error| chain(&error))?;
            let number = RevisionNumber::new(wanted.number).ok_or("there is no revision 0")?;
            Ok(revisions
                .wire(&service, number)
                .map_err(|error| chain(&error))?
                .encode_to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helm::bed::{Bed, service};
    use cutover_core::Slot;

    fn targets(bed: &Bed) -> Option<(Target, Option<String>)> {
        let post = bed.helm.posts.get(&service())?;
        let swap = post.berth.report(1, Moment::ZERO).swap?;
        Some((post.berth.target()?, swap.why))
    }

    #[tokio::test]
    async fn a_revert_by_hand_is_not_reverted_by_hand() {
        let mut bed = Bed::new();
        let now = Moment::from_millis(5000);
        bed.list(now, &[(7, Slot::Blue, false), (8, Slot::Green, true)]);
        let said = bed.helm.revert(now, &service()).expect("it goes back");
        assert!(said.contains("from @8 to @7"), "{said}");
        assert_eq!(targets(&bed), Some((Target::Committed, None)));

        // Somebody presses it again while the first is on its way.
        let said = bed
            .helm
            .revert(now, &service())
            .expect_err("once is enough");
        let said = format!("{said:?}");
        assert!(
            said.contains("from @8 to @7 already") && said.contains("cutover-agent status"),
            "{said}"
        );
        assert_eq!(
            targets(&bed),
            Some((Target::Committed, None)),
            "the sick revision comes back"
        );
    }

    #[tokio::test]
    async fn a_revert_by_hand_keeps_as_many_revisions_as_the_swap_before_it() {
        let mut bed = Bed::new();
        let now = Moment::from_millis(5000);
        bed.list(now, &[(7, Slot::Blue, false), (8, Slot::Green, true)]);
        assert!(bed.ended_by_hand(now, Target::Reverted));
        bed.helm.revert(now, &service()).expect("it goes back");
        let post = bed.helm.posts.get(&service()).expect("it is here");
        let kept = post.berth.open_plan().map(|plan| plan.retain);
        assert_eq!(kept, Some(3));
    }

    #[tokio::test]
    async fn a_revert_by_hand_that_is_over_is_not_taken_back_by_the_next_one() {
        let mut bed = Bed::new();
        let now = Moment::from_millis(5000);
        bed.list(now, &[(7, Slot::Blue, true), (8, Slot::Green, false)]);
        let (went, failed) = (bed.ended_by_hand(now, Target::Committed), {
            let mut other = Bed::new();
            other.list(now, &[(7, Slot::Blue, false), (8, Slot::Green, true)]);
            other.ended_by_hand(now, Target::Reverted);
            other.helm.revert(now, &service())
        });
        assert!(went, "the swap is over");
        let said = bed
            .helm
            .revert(now, &service())
            .expect_err("once is enough");
        let said = format!("{said:?}");
        assert!(
            said.contains("went back from @8 to @7 already") && said.contains("cutover deploy"),
            "{said}"
        );
        assert_eq!(targets(&bed), None, "a swap is open again");
        // One that failed may be tried again.
        assert!(failed.expect("it goes back").contains("from @8 to @7"));
    }
}
