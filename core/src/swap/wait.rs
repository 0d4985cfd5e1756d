//! What a berth waits for, and until when: every wait has an end and a name.

use crate::moment::Moment;
use crate::swap::berth::{Berth, Settled};
use crate::swap::phase::Phase;
use crate::swap::plan::Side;
use crate::swap::settle::{
    CUT_WITHIN, ENGINE_PATIENCE, FETCH_WITHIN, MAKE_WITHIN, SMOKE_WITHIN, START_WITHIN, STOP_SLACK,
};

/// What a swap on its way back waits for while nothing serves.
const AWAITED: &str = "the incumbent to be healthy: it is started again until it is";

/// When a berth must be woken though nothing happens, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Moment,
    /// What is waited for until then.
    pub what: &'static str,
}

impl Berth {
    /// When it must be woken though nothing happens; `None`: never.
    #[must_use]
    pub fn deadline(&self, now: Moment) -> Option<Deadline> {
        let mut all = self.waits(now);
        for effort in self.efforts() {
            if !effort.ready(now) {
                all.push(Deadline {
                    at: effort.not_before(),
                    what: "the next try",
                });
            }
        }
        for (side, slot) in self.kept() {
            if let Some(at) = self.restart_due(side, slot) {
                all.push(Deadline {
                    at,
                    what: "a container's restart",
                });
            }
            if !self.proved(side, slot)
                && let Some(at) = self.sight.settles_at(side, slot)
            {
                all.push(Deadline {
                    at,
                    what: "a container to have run long enough",
                });
            }
        }
        // What has answered well meanwhile passes then.
        all.extend(self.halts_end().map(|at| Deadline {
            at,
            what: "a container to be stopped",
        }));
        if let Some(at) = self.awaited_late_at() {
            all.push(Deadline { at, what: AWAITED });
        }
        all.into_iter()
            .filter(|deadline| deadline.at > now)
            .min_by_key(|deadline| deadline.at)
    }

    /// What the open swap waits for, each with its deadline.
    fn waits(&self, now: Moment) -> Vec<Deadline> {
        let Some(swap) = &self.swap else {
            return Vec::new();
        };
        let from = |limit, what| Deadline {
            at: swap.since + limit,
            what,
        };
        let step = |limit, what| Deadline {
            at: self.step_late_at(now, swap, limit),
            what,
        };
        let candidate = swap.plan.kind.candidate();
        let grace =
            |side: Option<&Side>| side.map_or(STOP_SLACK, |side| side.stop_grace + STOP_SLACK);
        let mut all = match swap.phase {
            Phase::Fetching => vec![step(FETCH_WITHIN, "the image")],
            Phase::Making => vec![step(MAKE_WITHIN, "the containers to be made")],
            Phase::Starting => vec![step(START_WITHIN, "the containers to start")],
            Phase::Proving => {
                let within = candidate.map_or(CUT_WITHIN, |side| side.within);
                let begin = self
                    .sight
                    .excused_at
                    .map_or(swap.since, |excused| excused.max(swap.since));
                vec![Deadline {
                    at: begin + within,
                    what: "the readiness checks",
                }]
            }
            Phase::Smoking | Phase::Checking => vec![step(SMOKE_WITHIN, "the smoke checks")],
            Phase::Prepared => vec![Deadline {
                at: self.lease_until,
                what: "the coordinator's word to serve",
            }],
            Phase::Stopping => vec![step(
                grace(swap.plan.kind.incumbent()),
                "the incumbent to stop",
            )],
            Phase::Cutting | Phase::Cooling | Phase::Returning => {
                vec![step(CUT_WITHIN, "nginx to follow the route")]
            }
            Phase::Serving if !swap.watched => vec![from(swap.plan.observe, "the observe window")],
            Phase::Serving => vec![Deadline {
                at: self.lease_until,
                what: "the coordinator's word to commit",
            }],
            Phase::Draining => vec![from(swap.plan.drain, "the incumbent's connections")],
            Phase::Emptying => vec![from(swap.plan.drain, "the candidate's connections")],
            Phase::Parking => vec![from(
                grace(swap.plan.kind.incumbent()),
                "the incumbent to stop",
            )],
            Phase::Withdrawing => vec![from(grace(candidate), "the candidate to stop")],
            Phase::Reviving if !swap.stopped => vec![from(
                grace(swap.plan.kind.incumbent()),
                "the incumbent to stop",
            )],
            Phase::Reviving => vec![from(
                swap.plan
                    .kind
                    .incumbent()
                    .map_or(CUT_WITHIN, |side| side.within),
                "the incumbent to pass again",
            )],
            Phase::Removing => vec![from(
                MAKE_WITHIN,
                "the candidate's containers to be removed",
            )],
        };
        if self.hangs_on_lease(swap) {
            all.push(Deadline {
                at: self.lease_until.max(self.patient_until),
                what: "the coordinator",
            });
        }
        if let (Some(lost), true) = (self.sight.engine_lost, swap.phase.may_revert()) {
            all.push(Deadline {
                at: lost + ENGINE_PATIENCE,
                what: "the container engine",
            });
        }
        if let (Some(excused), Some(side)) = (self.sight.excused_at, candidate) {
            all.push(Deadline {
                at: excused + side.within,
                what: "the containers to be healthy again",
            });
        }
        all
    }

    /// What is waited for, in a few words, for people.
    #[must_use]
    pub fn waits_for(&self, now: Moment) -> Option<Deadline> {
        let swap = self.swap.as_ref()?;
        if let Some(Settled { side, slot }) = self.awaited().filter(|_| !self.incumbent_ready()) {
            let due = self.restart_due(side, *slot);
            let at = due.into_iter().chain(self.awaited_late_at()).min();
            return Some(Deadline {
                at: at.unwrap_or(now),
                what: AWAITED,
            });
        }
        if swap.phase == Phase::Returning && !self.incumbent_ready() {
            return Some(Deadline {
                at: now,
                what: "the incumbent to be healthy: holds, and keeps what serves",
            });
        }
        self.waits(now).into_iter().next()
    }
}
