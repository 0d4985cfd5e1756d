//! What people on this host ask, with or without a coordinator, and questions of the coordinator's.

use std::time::Duration;

use cutover_core::spec::Order;
use cutover_core::swap::{Event, Kind, SwapOrder, SwapPlan, Target};
use cutover_core::{Moment, RevisionNumber, RolloutId, ServiceId};
use cutover_daemon::logging::chain;
use cutover_proto::v1;
use prost::Message;
use tokio::sync::oneshot;
use tracing::warn;

use crate::docker::Docker;
use crate::helm::Helm;
use crate::local::{self, Ask};
use crate::revisions::Revisions;

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

    fn hold(&mut self, now: Moment, service: &ServiceId, hold: bool) -> Result<String, String> {
        if !self.posts.contains_key(service) {
            return Err(format!("{service} is not on this host"));
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
    fn revert(&mut self, now: Moment, service: &ServiceId) -> Result<String, String> {
        warn!(%service, "somebody on this host asks for the old revision");
        let post = self
            .posts
            .get_mut(service)
            .ok_or_else(|| format!("{service} is not on this host"))?;
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
        let name = format!("by-hand-{}", now.as_nanos() / 1_000_000);
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
            retain: 5,
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
