//! This host's own judgement: what is proved, what is sick, and whether the candidate may stay.
//!
//! It keeps true: a replica is proved in the life in which it passed, and in no
//! other (P1); nobody is judged by what is not seen (P7).

use std::time::Duration;

use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::route::Slot;
use crate::swap::berth::{Berth, Settled, Swap};
use crate::swap::event::Incarnation;
use crate::swap::fact::Fact;
use crate::swap::phase::Phase;
use crate::swap::plan::Side;
use crate::swap::settle::{
    CUT_WITHIN, ENGINE_PATIENCE, FETCH_WITHIN, MAKE_WITHIN, SMOKE_WITHIN, START_WITHIN, STOP_SLACK,
    seconds,
};

impl Berth {
    /// A replica that has had its healthy samples in this life. One that is being halted has none: it may
    /// answer well again until it is gone, and would get requests.
    pub(super) fn newly_passed(&self, now: Moment) -> Option<Fact> {
        let settled = self
            .current
            .as_ref()
            .map(|settled| (&settled.side, settled.slot));
        let candidate = self.swap.as_ref().and_then(Swap::candidate);
        for (side, slot) in settled.into_iter().chain(candidate) {
            for replica in 1..=side.replicas {
                let news = self
                    .ripe(now, side, slot, replica)
                    .filter(|life| self.passed.get(&(slot, replica)) != Some(life))
                    .filter(|life| {
                        let halted = self.may_be_halted(now, slot, replica, *life);
                        guard(Guard::HaltedIsNotPassed, !halted)
                    });
                if let Some(incarnation) = news {
                    return Some(Fact::Passed {
                        slot,
                        replica,
                        incarnation,
                    });
                }
            }
        }
        None
    }

    /// The running life of a replica, when it has had enough healthy samples to pass.
    pub(super) fn ripe(
        &self,
        now: Moment,
        side: &Side,
        slot: Slot,
        replica: u32,
    ) -> Option<Incarnation> {
        let (successes, settle) = (side.successes, side.settle);
        self.sight
            .ripe(now, slot, side.revision, replica, successes, settle)
    }

    /// A committed replica that fails its liveness check, or did not pass again in time after it
    /// was started again; as long as its policy has attempts left. On the way back an incumbent
    /// that is awaited, too, whatever its policy says.
    pub(super) fn newly_hung(&self, now: Moment) -> Option<Fact> {
        if self.hold || self.sight.engine_lost.is_some() {
            return None;
        }
        if self.swap.is_some() {
            return self.awaited_hung(now);
        }
        let Settled { side, slot } = self.current.as_ref()?;
        let (slot, revision, failures) = (*slot, side.revision, side.hangs_after?);
        (1..=side.replicas).find_map(|replica| {
            let (incarnation, since, said) =
                self.sight.failing(slot, revision, replica, failures)?;
            let known = self.hung.get(&(slot, replica)).map(|hang| hang.incarnation);
            let passed = self.passed.get(&(slot, replica)) == Some(&incarnation);
            let begin = self.sight.excused_at.map_or(since, |at| at.max(since));
            let judged = passed || now >= begin + side.within;
            let tried = self.sight.attempts_of(slot, revision, replica);
            let left = side.restart.max_attempts.is_none_or(|most| tried < most);
            (known != Some(incarnation) && guard(Guard::CondemnOnlyPassed, judged) && left).then(
                || Fact::Hung {
                    slot,
                    replica,
                    incarnation,
                    why: if passed {
                        format!("it failed {failures} checks in a row: {said}")
                    } else {
                        format!("it was not healthy within {}: {said}", seconds(side.within))
                    },
                },
            )
        })
    }

    /// The incumbent that traffic must come back to, while nothing else serves.
    pub(super) fn awaited(&self) -> Option<&Settled> {
        let swap = self.swap.as_ref()?;
        let back =
            swap.phase == Phase::Returning || swap.phase == Phase::Reviving && swap.restarted;
        let serves = swap
            .candidate()
            .is_some_and(|(side, slot)| self.route.reaches(slot) && self.healthy(side, slot));
        self.current.as_ref().filter(|_| back && !serves)
    }

    /// Until when this life of an awaited replica may take to pass; `None`: it has passed, or runs not.
    /// An engine may have started it long before, against orders: nobody probed it then.
    fn awaited_until(&self, side: &Side, slot: Slot, replica: u32) -> Option<Moment> {
        let (life, since) = self.sight.life(slot, side.revision, replica)?;
        let made_room = self.swap.as_ref().filter(|swap| swap.stopped);
        let awaited = made_room.map(|swap| swap.since);
        let excuses = [self.sight.excused_at, awaited];
        let begin = excuses.into_iter().flatten().fold(since, Moment::max);
        let passed = self.passed.get(&(slot, replica)) == Some(&life);
        (!passed).then_some(begin + side.within)
    }

    /// When the first awaited replica is late.
    pub(super) fn awaited_late_at(&self) -> Option<Moment> {
        let Settled { side, slot } = self.awaited()?;
        (1..=side.replicas)
            .filter_map(|replica| self.awaited_until(side, *slot, replica))
            .min()
    }

    /// A replica of the awaited incumbent that fails its checks, or did not pass in time.
    fn awaited_hung(&self, now: Moment) -> Option<Fact> {
        let Settled { side, slot } = self.awaited()?;
        let (slot, failures) = (*slot, side.failures);
        (1..=side.replicas).find_map(|replica| {
            let (incarnation, _) = self.sight.life(slot, side.revision, replica)?;
            let known = self.hung.get(&(slot, replica)).map(|hang| hang.incarnation);
            if known == Some(incarnation) {
                return None;
            }
            let failing = self.sight.failing(slot, side.revision, replica, failures);
            let why = match (self.awaited_until(side, slot, replica), failing) {
                (Some(until), _) if now >= until => {
                    format!("it was not healthy within {}", seconds(side.within))
                }
                (None, Some((_, _, said))) => {
                    format!("it failed {failures} checks in a row: {said}")
                }
                (Some(_) | None, _) => return None,
            };
            Some(Fact::Hung {
                slot,
                replica,
                incarnation,
                why,
            })
        })
    }

    /// Whether all replicas run and have passed in this life of theirs.
    pub(super) fn proved(&self, side: &Side, slot: Slot) -> bool {
        (1..=side.replicas).all(|replica| self.passed_now(side, slot, replica))
    }

    /// Whether a replica runs and has passed in this life of its. One whose process is gone is not
    /// condemned before the engine says how it ended, but nothing is sent to it where another can serve.
    pub(super) fn passed_now(&self, side: &Side, slot: Slot, replica: u32) -> bool {
        let life = self.sight.present(slot, side.revision, replica);
        let passed = self.passed.get(&(slot, replica)).copied();
        life.is_some() && guard(Guard::PassedInThisLife, life == passed)
    }

    /// Whether a replica can take requests: it has passed, and does not fail its checks.
    pub(super) fn able(&self, side: &Side, slot: Slot, replica: u32) -> bool {
        let failures = side
            .hangs_after
            .filter(|_| self.swap.is_none())
            .unwrap_or(side.failures);
        let fails = self.sight.failing(slot, side.revision, replica, failures);
        self.passed_now(side, slot, replica) && fails.is_none()
    }

    /// Whether all replicas are proved and none fails its probes.
    pub(super) fn healthy(&self, side: &Side, slot: Slot) -> bool {
        self.proved(side, slot) && self.sickness(side, slot).is_none()
    }

    fn sickness(&self, side: &Side, slot: Slot) -> Option<String> {
        (1..=side.replicas).find_map(|replica| {
            // What must pass again has its health deadline for it.
            let life = self.sight.running(slot, side.revision, replica);
            let passed = life.is_none() || life == self.passed.get(&(slot, replica)).copied();
            self.sight
                .sickness(slot, side.revision, replica, side.failures)
                .filter(|_| guard(Guard::CondemnOnlyPassed, passed))
        })
    }

    /// Whether the incumbent can take all traffic now. With none, there is nothing to take.
    pub(super) fn incumbent_ready(&self) -> bool {
        self.current
            .as_ref()
            .is_none_or(|settled| self.healthy(&settled.side, settled.slot))
    }

    /// This host's own verdict on the candidate, in a sentence.
    pub(super) fn verdict(&self, now: Moment, swap: &Swap) -> Option<String> {
        if self.hold || !swap.phase.may_revert() {
            return None;
        }
        let word = now < self.lease_until.max(self.patient_until) || !self.sight.looked;
        if self.hangs_on_lease(swap) && !guard(Guard::PreparedWithinLease, word) {
            return Some("the coordinator was away for longer than the lease".to_owned());
        }
        let waited = self.at_its_step(now, swap);
        let late = |limit: Duration, what: &str| {
            let because = self
                .effort
                .trouble
                .as_ref()
                .map_or_else(String::new, |trouble| format!(": {trouble}"));
            (waited >= limit).then(|| format!("{what} within {}{because}", seconds(limit)))
        };
        match swap.phase {
            Phase::Fetching => late(FETCH_WITHIN, "the image was not had"),
            Phase::Making => late(MAKE_WITHIN, "the containers could not be made"),
            Phase::Starting => late(START_WITHIN, "the containers did not start"),
            Phase::Proving => self.unprovable(now, swap),
            // Until it is prepared, its restart policy counts.
            Phase::Smoking => late(SMOKE_WITHIN, "the smoke checks were not answered")
                .or_else(|| self.unprovable(now, swap)),
            Phase::Checking => late(SMOKE_WITHIN, "the smoke checks were not answered")
                .or_else(|| self.judged(now, swap)),
            Phase::Stopping => {
                let grace = swap
                    .plan
                    .kind
                    .incumbent()
                    .map_or(Duration::ZERO, |side| side.stop_grace);
                late(grace + STOP_SLACK, "the incumbent did not stop")
            }
            Phase::Cutting => late(CUT_WITHIN, "nginx did not follow the changed route")
                .or_else(|| self.judged(now, swap)),
            Phase::Prepared | Phase::Serving => self.judged(now, swap),
            Phase::Cooling
            | Phase::Draining
            | Phase::Parking
            | Phase::Withdrawing
            | Phase::Reviving
            | Phase::Returning
            | Phase::Emptying
            | Phase::Removing => None,
        }
    }

    /// No request has reached the candidate, and the incumbent is untouched.
    pub(super) fn hangs_on_lease(&self, swap: &Swap) -> bool {
        let uncut = swap.phase == Phase::Cutting && !swap.cut && swap.candidate().is_some();
        (swap.phase.is_preparing() || uncut) && !swap.stopped
    }

    /// Why a candidate that is being proved can't be any more.
    fn unprovable(&self, now: Moment, swap: &Swap) -> Option<String> {
        let (side, slot) = swap.candidate()?;
        if self.sight.engine_lost.is_none() && self.sight.looked {
            for replica in 1..=side.replicas {
                let dead = self.sight.running(slot, side.revision, replica).is_none();
                if dead
                    && self
                        .sight
                        .restart_at(slot, side.revision, replica, &side.restart)
                        .is_none()
                {
                    return self
                        .sight
                        .sickness(slot, side.revision, replica, side.failures);
                }
            }
        }
        let begin = self
            .sight
            .excused_at
            .map_or(swap.since, |excused| excused.max(swap.since));
        let late = now >= begin + side.within && !self.proved(side, slot);
        late.then(|| {
            let probed = self.sight.last_evidence(side.revision);
            let said = match probed {
                Some(said) => format!("; the last probe said: {said}"),
                // One that does not live long enough to be asked says it by its end.
                None => self
                    .sickness(side, slot)
                    .map_or_else(String::new, |sick| format!("; {sick}")),
            };
            let restarts = match self.sight.attempts(side.revision) {
                0 => String::new(),
                n => format!("; restarted {n} times"),
            };
            format!(
                "@{} was not healthy within {}{said}{restarts}",
                side.revision,
                seconds(side.within)
            )
        })
    }

    /// The verdict on a candidate that was proved: a reflex, once it serves.
    fn judged(&self, now: Moment, swap: &Swap) -> Option<String> {
        let (side, slot) = swap.candidate()?;
        if !self.sight.looked || swap.stop_first() && !swap.stopped {
            return None;
        }
        if let Some(lost) = self.sight.engine_lost
            && !guard(Guard::JudgeWithEngine, false)
        {
            return (now >= lost + ENGINE_PATIENCE)
                .then(|| "the container engine stayed away".to_owned());
        }
        if let Some(why) = self.sickness(side, slot) {
            return Some(why);
        }
        let begin = self
            .sight
            .excused_at
            .map_or(swap.since, |at| at.max(swap.since))
            .max(self.sight.looked_at);
        let overdue = !self.proved(side, slot) && now >= begin + side.within;
        overdue.then(|| {
            format!(
                "@{} was not healthy again within {}",
                side.revision,
                seconds(side.within)
            )
        })
    }
}
