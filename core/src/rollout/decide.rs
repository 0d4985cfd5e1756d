//! Which fact follows next from where a rollout stands, at this moment.

use std::time::Duration;

use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::name::HostId;
use crate::rollout::fact::{Fact, Outcome};
use crate::rollout::seat::{Fate, Seat, Standing};
use crate::rollout::{Rollout, Stage};
use crate::route::Weight;
use crate::spec::{CommitRule, OnFailure, Strategy};
use crate::swap::Target;

const SERVING: Target = Target::Serving(Weight::FULL);

impl Rollout {
    /// The next fact that follows by itself; `None`: nothing does.
    pub(super) fn next_fact(&self, now: Moment) -> Option<Fact> {
        if self.superseded {
            return None;
        }
        let decided = self.learned(now).or_else(|| self.carry_out());
        decided.or_else(|| match &self.stage {
            Stage::Planned => (!self.paused).then_some(self.first()),
            Stage::Forward {
                wave,
                barrier_passed,
                over,
            } => self
                .over_budget()
                .or_else(|| self.forward(now, *wave, *barrier_passed, *over)),
            Stage::Holding { .. } => None,
            Stage::Back { asked, .. } => self.back(now, *asked),
            Stage::Closed { .. } => None,
        })
    }

    fn first(&self) -> Fact {
        if self.plan.hosts.is_empty() {
            Fact::Closed(self.forward_outcome())
        } else {
            Fact::WaveBegan { wave: 0 }
        }
    }

    /// What was decided is ordered whatever happens to the rollout meanwhile.
    fn carry_out(&self) -> Option<Fact> {
        let decided: Vec<_> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.decided && seat.fell.is_none())
            .filter(|(_, seat)| seat.order.is_some_and(|order| !order.counter))
            .collect();
        if let Some(fact) = self.raise(&decided, Target::Committed) {
            return Some(fact);
        }
        // Counter-swaps are judged like any swap: they serve, are watched, then commit,
        // those of hosts that are owing, too.
        let watched = |order: &Standing, seat: &Seat| order.counter && seat.is_watched();
        self.seats.iter().find_map(|(host, seat)| {
            let order = seat
                .order
                .filter(|order| order.target.leads_to(Target::Committed) && watched(order, seat))?;
            Some(Fact::Ordered {
                host: host.clone(),
                generation: order.generation,
                target: Target::Committed,
                counter: true,
            })
        })
    }

    /// Hosts whose candidate may not stay. One that fell after its commit was decided
    /// is listed, and takes nobody back with it.
    pub(super) fn fallen(&self) -> usize {
        self.seats
            .values()
            .filter(|seat| seat.fell.is_some() && guard(Guard::DecidedTakesNobody, !seat.decided))
            .count()
    }

    /// More hosts fell than may.
    fn over_budget(&self) -> Option<Fact> {
        let fallen = self.fallen().saturating_sub(self.forgiven);
        if fallen <= self.plan.policy.failure_budget as usize {
            return None;
        }
        // The first to fall says why.
        let (host, reason) = self
            .seats
            .iter()
            .filter(|(_, seat)| guard(Guard::DecidedTakesNobody, !seat.decided))
            .find_map(|(host, seat)| Some((host, seat.fell.as_ref()?)))?;
        let why = format!("{host}: {reason}");
        Some(match self.plan.policy.on_failure {
            OnFailure::Rollback => Fact::RollbackDecided { why, asked: false },
            OnFailure::Hold => Fact::Held { why },
        })
    }

    fn forward(&self, now: Moment, wave: usize, barrier_passed: bool, over: bool) -> Option<Fact> {
        if over {
            return self.after_wave(now, wave);
        }
        let upright: Vec<_> = self
            .members(wave)
            .filter(|(_, seat)| seat.fell.is_none() && !seat.runs_candidate())
            .collect();
        if let Some(fact) = self.take_back_fallen() {
            return Some(fact);
        }
        if !self.paused {
            let target = if self.has_barrier() && !barrier_passed {
                Target::Prepared
            } else {
                SERVING
            };
            if let Some(fact) = self.raise(&upright, target) {
                return Some(fact);
            }
            if self.has_barrier() && !barrier_passed && !upright.is_empty() {
                let third = self.plan.lease / 3;
                let all = upright.iter().all(|(_, seat)| {
                    guard(Guard::BarrierWhenWell, seat.is_well_at(Target::Prepared))
                        && guard(Guard::BarrierWhenFresh, seat.is_fresh(now, third))
                });
                return all.then_some(Fact::BarrierPassed);
            }
            if let Some(fact) = self.decide(&upright, wave) {
                return Some(fact);
            }
        }

        let done = self
            .members(wave)
            .all(|(_, seat)| self.settled(now, seat, wave));
        guard(Guard::WaveIsSettled, done).then_some(Fact::WaveEnded { wave })
    }

    /// A host whose candidate may not stay goes back, whatever the others do.
    fn take_back_fallen(&self) -> Option<Fact> {
        self.seats
            .iter()
            .filter(|(_, seat)| seat.fell.is_some() && guard(Guard::DecidedStays, !seat.decided))
            .filter(|(_, seat)| seat.fate() == Fate::Open)
            .find_map(|(host, seat)| {
                let order = seat
                    .order
                    .filter(|order| order.target.leads_to(Target::Reverted))?;
                let (generation, target) = (order.generation, Target::Reverted);
                Some(Fact::Ordered {
                    host: host.clone(),
                    generation,
                    target,
                    counter: false,
                })
            })
    }

    fn has_barrier(&self) -> bool {
        self.plan.policy.strategy == Strategy::BlueGreen
    }

    fn members(&self, wave: usize) -> impl Iterator<Item = (&HostId, &Seat)> {
        self.seats.iter().filter(move |(_, seat)| seat.wave == wave)
    }

    /// Orders the first host that has not been sent as far as `target`.
    fn raise(&self, hosts: &[(&HostId, &Seat)], target: Target) -> Option<Fact> {
        hosts.iter().find_map(|(host, seat)| {
            let generation = match seat.order {
                None => seat.fence().next(self.plan.epoch),
                Some(order) if !order.counter && order.target.leads_to(target) => order.generation,
                Some(_) => return None,
            };
            Some(Fact::Ordered {
                host: (*host).clone(),
                generation,
                target,
                counter: false,
            })
        })
    }

    /// The commit decision: only when every host of the batch reported healthy serving since its window's end.
    fn decide(&self, upright: &[(&HostId, &Seat)], wave: usize) -> Option<Fact> {
        let last = wave + 1 == self.plan.waves();
        let at_end = self.has_barrier() || self.plan.policy.commit == CommitRule::AtEnd;
        let batch: Vec<(&HostId, &Seat)> = match (at_end, last) {
            (true, false) => return None,
            (true, true) => self
                .seats
                .iter()
                .filter(|(_, seat)| seat.fell.is_none() && seat.fate() == Fate::Open)
                .collect(),
            (false, _) => upright
                .iter()
                .copied()
                .filter(|(_, seat)| seat.fate() == Fate::Open)
                .collect(),
        };
        let undecided: Vec<HostId> = batch
            .iter()
            .filter(|(_, seat)| !seat.decided)
            .map(|(host, _)| (*host).clone())
            .collect();
        let all = batch
            .iter()
            .all(|(_, seat)| seat.decided || seat.is_watched() && seat.away_since.is_none());
        (!undecided.is_empty() && guard(Guard::CommitWhenWatched, all))
            .then_some(Fact::CommitDecided { hosts: undecided })
    }

    /// Whether the wave need not wait for this host any more.
    fn settled(&self, now: Moment, seat: &Seat, wave: usize) -> bool {
        let at_end = self.has_barrier() || self.plan.policy.commit == CommitRule::AtEnd;
        let last = wave + 1 == self.plan.waves();
        match seat.fate() {
            Fate::Untouched => false,
            Fate::Committed | Fate::There | Fate::Back | Fate::Stuck => true,
            Fate::Open if seat.fell.is_some() => self.gone(now, seat) || self.is_late(now, seat),
            Fate::Open if seat.decided => self.gone(now, seat) || self.is_late(now, seat),
            Fate::Open => at_end && !last && seat.is_watched(),
        }
    }

    fn after_wave(&self, now: Moment, wave: usize) -> Option<Fact> {
        if wave + 1 == self.plan.waves() {
            // Committing at the end: earlier waves settle now.
            if !self.paused
                && let Some(fact) = self.decide(&[], wave)
            {
                return Some(fact);
            }
            let done = self
                .seats
                .values()
                .all(|seat| self.settled(now, seat, wave));
            return done.then(|| Fact::Closed(self.forward_outcome()));
        }
        let begun = self
            .wave_ended
            .is_none_or(|ended| now >= ended + self.plan.policy.delay);
        (begun && !self.paused).then_some(Fact::WaveBegan { wave: wave + 1 })
    }

    fn forward_outcome(&self) -> Outcome {
        let all = self.plan.skipped.is_empty() && self.seats.values().all(Seat::runs_candidate);
        if all {
            Outcome::Committed
        } else {
            Outcome::Mixed
        }
    }

    /// Takes back what is open, then undoes what was committed.
    fn back(&self, now: Moment, asked: bool) -> Option<Fact> {
        let open = self.seats.iter().find_map(|(host, seat)| {
            let order = seat
                .order
                .filter(|order| !order.counter && seat.fate() == Fate::Open)
                .filter(|_| guard(Guard::DecidedStays, !seat.decided))?;
            order
                .target
                .leads_to(Target::Reverted)
                .then(|| Fact::Ordered {
                    host: host.clone(),
                    generation: order.generation,
                    target: Target::Reverted,
                    counter: false,
                })
        });
        if open.is_some() {
            return open;
        }
        // Never more in change at once than a wave holds.
        let changing = self
            .seats
            .values()
            .filter(|seat| seat.in_change() && !self.given_up(now, seat))
            .count();
        if guard(Guard::CounterSwapsInWave, changing < self.plan.wave_size()) {
            let next = self
                .seats
                .iter()
                .find(|(_, seat)| seat.fate() == Fate::Committed);
            if let Some((host, seat)) = next {
                let generation = seat.fence().next(self.plan.epoch);
                return Some(Fact::Ordered {
                    host: host.clone(),
                    generation,
                    target: SERVING,
                    counter: true,
                });
            }
        }
        let done = self
            .seats
            .values()
            .all(|seat| seat.fate() != Fate::Open || self.given_up(now, seat));
        done.then(|| Fact::Closed(self.back_outcome(asked)))
    }

    /// An open host that a rollback need not wait for any more.
    fn given_up(&self, now: Moment, seat: &Seat) -> bool {
        self.is_late(now, seat)
    }

    fn back_outcome(&self, asked: bool) -> Outcome {
        let all = self.seats.values().all(|seat| match seat.fate() {
            Fate::Back => true,
            Fate::Untouched => seat.is_at_incumbent(),
            // What it ran before is not what it was to go back to.
            Fate::Open | Fate::Committed | Fate::There | Fate::Stuck => false,
        });
        match (all, asked) {
            (true, true) => Outcome::Aborted,
            (true, false) => Outcome::RolledBack,
            (false, _) => Outcome::Mixed,
        }
    }

    /// When it must be woken though nothing happens.
    #[must_use]
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        if self.superseded || self.outcome().is_some() {
            return None;
        }
        let steps = self
            .seats
            .values()
            .filter(|seat| seat.in_change())
            .flat_map(|seat| {
                let late = self.late_at(seat);
                let gone = seat
                    .away_since
                    .map(|since| since.max(self.listening_since) + self.plan.lease);
                late.into_iter().chain(gone)
            });
        let delay = self.wave_ended.map(|ended| ended + self.plan.policy.delay);
        steps.chain(delay).filter(|at| *at > now).min()
    }
}

/// How long silence may last before it is told; part of a lease.
pub const RENEWALS_PER_LEASE: u32 = 6;

/// How often an agent with an open swap reports at least.
#[must_use]
pub fn renewal(lease: Duration) -> Duration {
    lease / RENEWALS_PER_LEASE
}
