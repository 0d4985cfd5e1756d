//! One rollout of one service over many hosts.
//!
//! A [`Rollout`] is told what hosts report and what people ask; it answers with
//! facts. The coordinator stores them, then sends [`Rollout::orders`] again.

mod decide;
mod fact;
mod learn;
mod plan;
mod seat;
mod view;

use std::collections::BTreeMap;

pub use decide::{RENEWALS_PER_LEASE, renewal};
pub use fact::{Event, Fact, Outcome, Stamped};
pub use plan::{HostPlan, RolloutPlan};
pub use seat::Fate;
pub use view::{HostView, StageView, View, Wait};

use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::name::HostId;
use crate::rollout::seat::{Seat, Standing};
use crate::swap::{Report, SwapOrder};

/// The machine of one rollout.
#[derive(Clone, Debug)]
pub struct Rollout {
    plan: RolloutPlan,
    seats: BTreeMap<HostId, Seat>,
    stage: Stage,
    /// A person said: not further.
    paused: bool,
    /// When the last wave ended, for the delay between waves.
    wave_ended: Option<Moment>,
    superseded: bool,
    /// Hosts that fell and that a person let pass.
    forgiven: usize,
    /// When this process began to listen: silence counts from here.
    listening_since: Moment,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked of any host.
    Planned,
    /// A wave is under way. Hosts of a passed barrier may serve.
    Forward {
        wave: usize,
        barrier_passed: bool,
        over: bool,
    },
    /// It waits for a person.
    Holding {
        why: String,
        wave: usize,
        barrier_passed: bool,
    },
    /// Every host goes back.
    Back { why: String, asked: bool },
    /// It is over.
    Closed { outcome: Outcome },
}

impl Rollout {
    /// A rollout that nothing was done for yet.
    #[must_use]
    pub fn begin(plan: RolloutPlan, now: Moment) -> Self {
        let seats = plan.hosts.iter().enumerate();
        let seats = seats
            .map(|(i, host)| {
                let seat = Seat::new(host.clone(), plan.id.clone(), plan.wave_of(i));
                (host.host.clone(), seat)
            })
            .collect();
        Self {
            plan,
            seats,
            stage: Stage::Planned,
            paused: false,
            wave_ended: None,
            superseded: false,
            forgiven: 0,
            listening_since: now,
        }
    }

    /// The rollout that these facts, in order, lead to.
    #[must_use]
    pub fn replay<'a>(
        plan: RolloutPlan,
        now: Moment,
        facts: impl IntoIterator<Item = &'a Stamped>,
    ) -> Self {
        let mut rollout = Self::begin(plan, now);
        for stamped in facts {
            rollout.apply(stamped.at, &stamped.fact);
        }
        rollout
    }

    /// Tells the rollout what happened and when; answers with the facts that follow,
    /// already applied. Store them before sending orders or answers that depend on them.
    #[must_use]
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Stamped> {
        let mut facts = Vec::new();
        if let Some(fact) = self.take(now, event) {
            self.record(now, fact, &mut facts);
        }
        while let Some(fact) = self.next_fact(now) {
            self.record(now, fact, &mut facts);
        }
        facts
    }

    fn record(&mut self, now: Moment, fact: Fact, facts: &mut Vec<Stamped>) {
        self.apply(now, &fact);
        facts.push(Stamped { at: now, fact });
    }

    fn take(&mut self, now: Moment, event: Event) -> Option<Fact> {
        match event {
            Event::Reported(host, report) => {
                self.reported(now, &host, *report);
                None
            }
            Event::Heard { host, clock } => {
                if let Some(seat) = self.seats.get_mut(&host) {
                    seat.clock = Some((clock, now));
                    seat.away_since = None;
                }
                None
            }
            Event::Left(host) => {
                if let Some(seat) = self.seats.get_mut(&host) {
                    seat.away_since.get_or_insert(now);
                }
                None
            }
            Event::PauseAsked => (!self.paused && self.outcome().is_none()).then_some(Fact::Paused),
            Event::ResumeAsked => (self.paused || matches!(self.stage, Stage::Holding { .. }))
                .then_some(Fact::Resumed),
            Event::AbortAsked(why) => match self.stage {
                Stage::Planned | Stage::Forward { .. } | Stage::Holding { .. } => {
                    Some(Fact::RollbackDecided { why, asked: true })
                }
                Stage::Back { .. } | Stage::Closed { .. } => None,
            },
            Event::SupersedeAsked => {
                let closed = guard(Guard::SupersedeClosed, self.outcome().is_some());
                (closed && !self.superseded).then_some(Fact::Superseded)
            }
            Event::Rebooted => Some(Fact::Rebooted),
            Event::Ticked => None,
        }
    }

    /// Takes in a report unless a newer one is known.
    fn reported(&mut self, now: Moment, host: &HostId, report: Report) {
        let Some(seat) = self.seats.get_mut(host) else {
            return;
        };
        let newest = seat
            .report
            .as_ref()
            .is_none_or(|(known, _)| known.stamp <= report.stamp);
        if !guard(Guard::NewestReport, newest) {
            return;
        }
        seat.clock = Some((report.stamp.at, now));
        seat.away_since = None;
        seat.report = Some((report, now));
        seat.unwell_since = match seat.is_well() {
            true => None,
            false => seat.unwell_since.or(Some(now)),
        };
    }

    /// Moves the rollout by one fact; what does not fit where it stands changes nothing.
    pub fn apply(&mut self, at: Moment, fact: &Fact) {
        match fact {
            Fact::WaveBegan { wave } => {
                self.stage = Stage::Forward {
                    wave: *wave,
                    barrier_passed: false,
                    over: false,
                };
            }
            Fact::Ordered {
                host,
                generation,
                target,
                counter,
            } => {
                if let Some(seat) = self.seats.get_mut(host) {
                    if seat
                        .order
                        .is_none_or(|order| order.generation != *generation)
                    {
                        seat.reached = None;
                        seat.was_there = false;
                    }
                    seat.order = Some(Standing {
                        generation: *generation,
                        target: *target,
                        counter: *counter,
                        since: at,
                    });
                }
            }
            Fact::Reached { host, target } => {
                let late = self
                    .seats
                    .get(host)
                    .is_some_and(|seat| self.is_late(at, seat));
                if let Some(seat) = self.seats.get_mut(host) {
                    seat.reached = Some(*target);
                    // It was given up, and is waited for again.
                    seat.unwell_since =
                        seat.unwell_since.map(|since| if late { at } else { since });
                }
            }
            Fact::WasThere { host } => {
                if let Some(seat) = self.seats.get_mut(host) {
                    seat.was_there = true;
                }
            }
            Fact::Fell { host, why } => {
                if let Some(seat) = self.seats.get_mut(host) {
                    seat.fell.get_or_insert_with(|| why.clone());
                }
            }
            Fact::BarrierPassed => {
                if let Stage::Forward { barrier_passed, .. } = &mut self.stage {
                    *barrier_passed = true;
                }
            }
            Fact::CommitDecided { hosts } => {
                for host in hosts {
                    if let Some(seat) = self.seats.get_mut(host) {
                        seat.decided = true;
                    }
                }
            }
            Fact::WaveEnded { .. } => {
                self.wave_ended = Some(at);
                if let Stage::Forward { over, .. } = &mut self.stage {
                    *over = true;
                }
            }
            Fact::Paused => self.paused = true,
            Fact::Resumed => {
                self.paused = false;
                if let Stage::Holding {
                    wave,
                    barrier_passed,
                    ..
                } = self.stage
                {
                    self.forgiven = self.fallen();
                    self.stage = Stage::Forward {
                        wave,
                        barrier_passed,
                        over: false,
                    };
                }
            }
            Fact::Held { why } => {
                if let Stage::Forward {
                    wave,
                    barrier_passed,
                    ..
                } = self.stage
                {
                    self.stage = Stage::Holding {
                        why: why.clone(),
                        wave,
                        barrier_passed,
                    };
                }
            }
            Fact::RollbackDecided { why, asked } => {
                self.stage = Stage::Back {
                    why: why.clone(),
                    asked: *asked,
                }
            }
            Fact::Closed(outcome) => self.stage = Stage::Closed { outcome: *outcome },
            Fact::Superseded => self.superseded = true,
            Fact::Rebooted => {
                self.listening_since = at;
                self.wave_ended = self.wave_ended.map(|_| at);
                for order in self
                    .seats
                    .values_mut()
                    .filter_map(|seat| seat.order.as_mut())
                {
                    order.since = at;
                }
            }
        }
    }

    /// The standing orders, one a host that has not got there, each with its lease.
    ///
    /// Hosts whose clock is unknown get none yet: a lease is a moment on their clock.
    #[must_use]
    pub fn orders(&self, now: Moment) -> Vec<(HostId, SwapOrder)> {
        if !guard(Guard::SupersededIsSilent, !self.superseded) {
            return Vec::new();
        }
        let order = |seat: &Seat| {
            let order = seat.order?;
            if seat.fate() != Fate::Open {
                return None;
            }
            let (clock, heard) = seat.clock?;
            let plan = if order.counter {
                self.plan.counter_swap(&seat.plan, order.generation)
            } else {
                self.plan.swap(&seat.plan, order.generation)
            };
            Some(SwapOrder {
                plan: Some(Box::new(plan)),
                generation: order.generation,
                target: order.target,
                lease_until: clock + now.since(heard) + self.plan.lease,
            })
        };
        self.seats
            .iter()
            .filter_map(|(host, seat)| Some((host.clone(), order(seat)?)))
            .collect()
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.stage {
            Stage::Closed { outcome } => Some(*outcome),
            Stage::Planned | Stage::Forward { .. } | Stage::Holding { .. } | Stage::Back { .. } => {
                None
            }
        }
    }

    /// What it was told at its beginning.
    #[must_use]
    pub fn plan(&self) -> &RolloutPlan {
        &self.plan
    }
}
