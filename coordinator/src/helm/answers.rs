//! Each question, and who answers it. Changes wait until the fleet has come back
//! after our own start: before that, every host would look away.

use cutover_core::Moment;

use super::deeds::Deeds;
use super::wake::{Question, Refusal};
use super::{Helm, SETTLING};

/// Changes that may wait for the fleet after our start.
const DEFERRED: usize = 64;

impl Helm {
    pub(super) fn answer(&mut self, question: Question, deeds: &mut Deeds) {
        if needs_fleet(&question) && !self.is_settled(deeds.now) && self.deferred.len() < DEFERRED {
            self.deferred.push(question);
            return;
        }
        match question {
            Question::Deploy(who, request, reply) => {
                self.deploy(who, *request, reply, deeds);
            }
            Question::Plan(who, request, reply) => self.plan(who, *request, reply, deeds),
            Question::Rollback(who, request, reply) => {
                let answer = self.rollback(&who, &request, deeds);
                deeds.answer(reply, answer);
            }
            Question::Remove(who, request, reply) => {
                let answer = self.remove(&who, &request, deeds);
                deeds.answer(reply, answer);
            }
            Question::DrainHost(who, request, reply) => {
                let answer = self.drain_host(&who, &request, deeds);
                deeds.answer(reply, answer);
            }
            Question::Watch(ids, reply) => {
                let answer = self.watch(&ids, deeds);
                deeds.answer(reply, answer);
            }
            Question::ListRollouts(request, reply) => {
                let answer = self.list_rollouts(&request);
                deeds.answer(reply, answer);
            }
            Question::ShowRollout(id, reply) => {
                let answer = self.show_rollout(&id);
                deeds.answer(reply, answer);
            }
            Question::Steer(who, steer, request, reply) => {
                let answer = self.steer(&who, steer, &request, deeds);
                deeds.answer(reply, answer);
            }
            Question::Status(request, reply) => {
                let answer = self.status(&request);
                deeds.answer(reply, answer);
            }
            Question::Containers(selector, reply) => {
                let answer = self.containers(&selector);
                deeds.answer(reply, answer);
            }
            Question::History(selector, reply) => {
                let answer = self.history(&selector);
                deeds.answer(reply, answer);
            }
            Question::Events(reply) => {
                let answer = Ok(self.events.subscribe());
                deeds.answer(reply, answer);
            }
            Question::Logs(query, reply) => {
                let answer = self.logs(&query, deeds);
                deeds.answer(reply, answer);
            }
            Question::MakeToken(who, request, reply) => {
                let answer = self.make_token(&who, request, deeds);
                deeds.answer(reply, answer);
            }
            Question::ListHosts(request, reply) => {
                let answer = self.list_hosts(&request);
                deeds.answer(reply, answer);
            }
            Question::LabelHost(who, request, reply) => {
                let answer = self.label_host(&who, request, deeds);
                deeds.answer(reply, answer);
            }
            Question::CordonHost(who, request, reply) => {
                let answer = self.cordon_host(&who, &request, deeds);
                deeds.answer(reply, answer);
            }
            Question::RemoveHost(who, request, reply) => {
                let answer = self.remove_host(&who, &request, deeds);
                deeds.answer(reply, answer);
            }
            Question::Holdings(reply) => {
                let answer = Ok(self.holdings());
                deeds.answer(reply, answer);
            }
            Question::Doctor(reply) => {
                let answer = Ok(self.doctor());
                deeds.answer(reply, answer);
            }
        }
    }

    /// Every host that may come back after our start has, or has had the time.
    pub(super) fn is_settled(&self, now: Moment) -> bool {
        now.since(self.begun) >= SETTLING
            || self
                .fleet
                .hosts
                .values()
                .all(|host| host.is_there() || host.record.cordoned)
    }

    pub(super) fn take_up_deferred(&mut self, deeds: &mut Deeds) {
        if !self.deferred.is_empty() && self.is_settled(deeds.now) {
            for question in std::mem::take(&mut self.deferred) {
                self.answer(question, deeds);
            }
        }
    }
}

fn needs_fleet(question: &Question) -> bool {
    match question {
        Question::Deploy(..)
        | Question::Plan(..)
        | Question::Rollback(..)
        | Question::Remove(..)
        | Question::DrainHost(..) => true,
        Question::Watch(..)
        | Question::ListRollouts(..)
        | Question::ShowRollout(..)
        | Question::Steer(..)
        | Question::Status(..)
        | Question::Containers(..)
        | Question::History(..)
        | Question::Events(..)
        | Question::Logs(..)
        | Question::MakeToken(..)
        | Question::ListHosts(..)
        | Question::LabelHost(..)
        | Question::CordonHost(..)
        | Question::RemoveHost(..)
        | Question::Holdings(..)
        | Question::Doctor(..) => false,
    }
}

/// The first line of what somebody gave as a reason, of a bounded length.
pub(super) fn reason(text: &str) -> String {
    const REASON: usize = 500;
    text.chars()
        .filter(|c| !c.is_control())
        .take(REASON)
        .collect()
}

/// A name that must be one.
pub(super) fn parse<T>(text: &str) -> Result<T, Refusal>
where
    T: std::str::FromStr<Err = cutover_core::NameError>,
{
    text.parse()
        .map_err(|error: cutover_core::NameError| Refusal::Invalid(error.to_string()))
}
