//! The actions that an agent performs with Docker, nginx and the registry.
//!
//! An action is a row of calls, one a replica; the agent may die between two,
//! and the engine may do what it was asked though nobody hears of it.

use cutover_core::swap::{Action, Event, Incarnation};

use crate::engine::halted;
use crate::fault::Fault;
use crate::host::{Container, Ender, State};
use crate::promises;
use crate::queue::Happening;
use crate::world::{MS, S, World};

/// An action under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doing {
    pub(crate) id: u64,
    pub(crate) host: usize,
    pub(crate) life: u64,
    pub(crate) service: usize,
    pub(crate) action: Action,
    /// The replica that the call under way is about, from 1.
    pub(crate) replica: u32,
    /// The life that the call found there, if it starts or stops one: it ends no other.
    pub(crate) found: Option<Incarnation>,
}

/// What a call came to; `Err`: whether trying again may help, and why.
pub(crate) type Came = Result<(), (bool, &'static str)>;

impl World {
    pub(crate) fn begin(&mut self, doing: Doing) {
        self.say(|| {
            format!(
                "h{} s{}    > {}",
                doing.host,
                doing.service,
                crate::agent::short(&format!("{:?}", doing.action))
            )
        });
        self.tally.count("actions", kind(doing.action));
        self.comes_round(doing);
        self.call(doing);
    }

    /// What hung answers again, now that it is told to stop.
    fn comes_round(&mut self, doing: Doing) {
        let Action::Halt {
            slot,
            revision,
            replica,
        } = doing.action
        else {
            return;
        };
        let (now, key) = (self.now, (doing.service, slot, revision, replica));
        if self.strikes(Fault::HungComesRound)
            && let Some(container) = self.hosts[doing.host].containers.get_mut(&key)
            && let State::Up { sick_from, .. } = &mut container.state
            && *sick_from <= now
        {
            *sick_from = u64::MAX;
            container.sick_at = now;
        }
    }

    /// Sends the next call of an action.
    fn call(&mut self, doing: Doing) {
        let life = self.life_at(doing);
        let (least, most) = match doing.action {
            // Some images are large, and some registries far away.
            Action::Fetch { .. } if self.chance.one_in(8) => (2_000, 15_000),
            Action::Fetch { .. } => (20, 300),
            Action::Make { .. } => (20, 100),
            Action::Start { .. } if life.is_none() && self.strikes(Fault::StartSlow) => {
                (1_000, 25_000)
            }
            Action::Start { .. } => (20, 150),
            Action::Smoke { .. } => (3, 1_500),
            Action::Prove(_) => (2, 30),
            // What hangs may take all of its grace.
            Action::Halt { .. } => (5, 3_000),
            // Some finish what they have begun.
            Action::Stop { .. } if self.chance.one_in(8) => (500, 4_000),
            Action::Stop { .. } => (5, 500),
            Action::Remove { .. } => (10, 80),
        };
        let after = self.chance.between(least * MS, most * MS);
        self.later(
            after,
            Happening::Act(Doing {
                found: life,
                ..doing
            }),
        );
    }

    /// The life that a call to start or to stop finds.
    fn life_at(&self, doing: Doing) -> Option<Incarnation> {
        let (Action::Start { slot, revision } | Action::Stop { slot, revision }) = doing.action
        else {
            return None;
        };
        let key = (doing.service, slot, revision, doing.replica);
        let container = self.hosts[doing.host].containers.get(&key);
        container.and_then(Container::up)
    }

    /// A call reaches what it is about.
    pub(crate) fn act(&mut self, doing: Doing) {
        if !self.hosts[doing.host].up {
            return;
        }
        if !self.lives(doing.host, doing.life) {
            // It was sent before its sender died.
            if self.chance.one_in(2) {
                // Long before, maybe: whoever came after it could not know.
                if matches!(doing.action, Action::Start { .. }) && self.faults.has(Fault::StartSlow)
                {
                    self.hosts[doing.host].haunted_until = self.now + S;
                }
                if doing.found == self.life_at(doing) {
                    promises::before_late_stop(self, doing.host, doing.service, doing.action);
                    self.late_effect(doing);
                }
            }
            return;
        }
        let result = self.come(doing);
        let replicas = self.services[doing.service].replicas;
        let rows = matches!(
            doing.action,
            Action::Make { .. }
                | Action::Start { .. }
                | Action::Stop { .. }
                | Action::Remove { .. }
        );
        match result {
            Some(Ok(())) if rows && doing.replica < replicas => {
                self.call(Doing {
                    replica: doing.replica + 1,
                    ..doing
                });
            }
            Some(result) => self.later(MS, Happening::Acted { doing, result }),
            None => self.later(
                S,
                Happening::Acted {
                    doing,
                    result: Err((true, "no answer in time")),
                },
            ),
        }
    }

    /// `None`: no answer comes.
    fn come(&mut self, doing: Doing) -> Option<Came> {
        if self.strikes(Fault::ActionFails) {
            return Some(Err((true, "it failed for a while")));
        }
        let judged = matches!(
            doing.action,
            Action::Fetch { .. } | Action::Make { .. } | Action::Start { .. }
        );
        if judged && self.strikes(Fault::ActionFailsForGood) {
            return Some(Err((false, "it failed for good")));
        }
        if self.strikes(Fault::ReplyLost) {
            let after = self.chance.between(MS, 6 * S);
            self.hosts[doing.host].haunted_until = self.now + 8 * S;
            self.later(after, Happening::LateEffect(doing));
            return None;
        }
        Some(self.effect(doing))
    }

    pub(crate) fn late_effect(&mut self, doing: Doing) {
        self.say(|| {
            format!(
                "h{} s{} late: {:?}",
                doing.host, doing.service, doing.action
            )
        });
        if let (Action::Stop { slot, revision } | Action::Halt { slot, revision, .. }, true) =
            (doing.action, self.hosts[doing.host].engine.up)
        {
            // Nobody asks for it any more: to those who are there it ends by itself.
            let replica = halted(doing.action).unwrap_or(doing.replica);
            let key = (doing.service, slot, revision, replica);
            self.end(doing.host, key, Ender::Itself, 0, true);
            return;
        }
        let _ = self.effect(doing);
    }

    pub(crate) fn acted(&mut self, doing: Doing, result: Came) {
        let Doing {
            id,
            host,
            life,
            service,
            action,
            ..
        } = doing;
        if !self.lives(host, life) {
            return;
        }
        if !matches!(action, Action::Prove(_) | Action::Smoke { .. })
            && self.see_now(host, service).is_err()
        {
            return;
        }
        let Ok(keeper) = self.keeper(host, service) else {
            return;
        };
        if !keeper.lays_down(action, id) {
            return;
        }
        let event = match result {
            Ok(()) => Event::Did(action),
            Err((transient, reason)) => Event::Failed(
                action,
                cutover_core::swap::Failure {
                    transient,
                    reason: reason.to_owned(),
                },
            ),
        };
        let _ = self.tell(host, service, event);
    }
}

fn kind(action: Action) -> &'static str {
    match action {
        Action::Fetch { .. } => "fetch",
        Action::Make { .. } => "make",
        Action::Start { .. } => "start",
        Action::Smoke { .. } => "smoke",
        Action::Prove(_) => "prove",
        Action::Halt { .. } => "halt",
        Action::Stop { .. } => "stop",
        Action::Remove { .. } => "remove",
    }
}
