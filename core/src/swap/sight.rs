//! What a berth sees of its replicas. Never stored: after a restart it looks again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::name::RevisionNumber;
use crate::route::Slot;
use crate::spec::{RestartCondition, RestartPolicy};
use crate::swap::event::{Incarnation, Seen, SeenState};
use crate::swap::plan::Side;

/// Longest wait between two restarts of a replica that keeps failing.
pub(super) const RESTART_CEILING: Duration = Duration::from_secs(30);

/// One replica, as last seen.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) life: Life,
    /// The process of this life is gone, and the engine has not said so yet.
    vanished: bool,
    /// Healthy samples in a row, in this life.
    good: u32,
    /// Unhealthy samples in a row, in this life.
    bad: u32,
    /// What the last unhealthy sample said.
    evidence: String,
    /// Restarts since it last ran for its policy's window.
    attempts: u32,
}

/// Whether a replica's container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It was made and never started.
    Created,
    /// It runs since about then (since it was first seen so).
    Up {
        incarnation: Incarnation,
        since: Moment,
    },
    /// It ended.
    Down {
        code: i64,
        since: Moment,
        excused: bool,
    },
}

/// All replicas of a berth, by slot, revision and number.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    replicas: BTreeMap<(Slot, RevisionNumber, u32), Replica>,
    /// There was an account at all since the agent started.
    pub(super) looked: bool,
    /// When that was: nobody is late by what was not seen before.
    pub(super) looked_at: Moment,
    /// The engine does not answer since then.
    pub(super) engine_lost: Option<Moment>,
    /// When replicas that ended with the engine were last seen to have done so.
    pub(super) excused_at: Option<Moment>,
}

impl Replica {
    fn new(life: Life) -> Self {
        Self {
            life,
            vanished: false,
            good: 0,
            bad: 0,
            evidence: String::new(),
            attempts: 0,
        }
    }

    fn enter(&mut self, life: Life) {
        self.life = life;
        self.vanished = false;
        self.good = 0;
        self.bad = 0;
        self.evidence.clear();
    }
}

impl Sight {
    /// Takes in a whole account. What is not in it does not exist.
    pub(super) fn see(&mut self, now: Moment, seen: &Seen) {
        let mut before = std::mem::take(&mut self.replicas);
        for found in &seen.replicas {
            let key = (found.slot, found.revision, found.replica);
            let mut replica = before
                .remove(&key)
                .unwrap_or_else(|| Replica::new(Life::Created));
            match (found.state, replica.life) {
                (
                    SeenState::Up(incarnation),
                    Life::Up {
                        incarnation: known, ..
                    },
                ) if incarnation == known => {}
                (SeenState::Up(incarnation), life) => {
                    if matches!(life, Life::Down { excused: false, .. }) {
                        replica.attempts = replica.attempts.saturating_add(1);
                    }
                    replica.enter(Life::Up {
                        incarnation,
                        since: now,
                    });
                }
                (SeenState::Created, _) => replica.enter(Life::Created),
                (SeenState::Down(_), Life::Down { .. }) if !seen.engine_restarted => {}
                (SeenState::Down(code), life) => {
                    let excused =
                        seen.engine_restarted && !matches!(life, Life::Down { excused: false, .. });
                    replica.enter(Life::Down {
                        code,
                        since: now,
                        excused,
                    });
                }
            }
            self.replicas.insert(key, replica);
        }
        if seen.engine_restarted {
            self.excused_at = Some(now);
        }
        if !self.looked {
            self.looked_at = now;
        }
        self.looked = true;
        self.engine_lost = None;
    }

    /// A container ended; nothing changes unless that life of it was running.
    pub(super) fn exited(
        &mut self,
        now: Moment,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
        code: i64,
    ) {
        let excused = self.engine_lost.is_some();
        for (_, found) in self
            .replicas
            .iter_mut()
            .filter(|((s, _, n), _)| *s == slot && *n == replica)
        {
            if matches!(found.life, Life::Up { incarnation: known, .. } if guard(Guard::EndOfThisLife, known == incarnation))
            {
                found.enter(Life::Down {
                    code,
                    since: now,
                    excused,
                });
            }
        }
    }

    /// A container's process is gone; nothing changes unless that life of it was running.
    pub(super) fn vanished(&mut self, slot: Slot, replica: u32, incarnation: Incarnation) {
        for (_, found) in self
            .replicas
            .iter_mut()
            .filter(|((s, _, n), _)| *s == slot && *n == replica)
        {
            if matches!(found.life, Life::Up { incarnation: known, .. } if known == incarnation) {
                found.vanished = true;
            }
        }
    }

    /// A sample; nothing changes unless that life of it is running.
    pub(super) fn sampled(
        &mut self,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
        healthy: bool,
        evidence: String,
    ) {
        for (_, found) in self
            .replicas
            .iter_mut()
            .filter(|((s, _, n), _)| *s == slot && *n == replica)
        {
            if matches!(found.life, Life::Up { incarnation: known, .. } if guard(Guard::SampleOfThisLife, known == incarnation))
            {
                if healthy {
                    found.good = found.good.saturating_add(1);
                    found.bad = 0;
                    found.evidence.clear();
                } else {
                    found.bad = found.bad.saturating_add(1);
                    found.good = 0;
                    found.evidence.clone_from(&evidence);
                }
            }
        }
    }

    /// Every container found, and whether it runs.
    pub(super) fn found(&self) -> impl Iterator<Item = (Slot, RevisionNumber, bool)> {
        self.replicas.iter().map(|((slot, revision, _), found)| {
            (*slot, *revision, matches!(found.life, Life::Up { .. }))
        })
    }

    pub(super) fn get(
        &self,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
    ) -> Option<&Replica> {
        self.replicas.get(&(slot, revision, replica))
    }

    /// The running life of a replica, when it has had enough healthy samples to pass, and is not known to be gone.
    pub(super) fn ripe(
        &self,
        now: Moment,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
        successes: u32,
        settle: Duration,
    ) -> Option<Incarnation> {
        let found = self.get(slot, revision, replica)?;
        match found.life {
            Life::Up { incarnation, since } if found.good >= successes && now >= since + settle => {
                Some(incarnation).filter(|_| !found.vanished)
            }
            Life::Up { .. } | Life::Created | Life::Down { .. } => None,
        }
    }

    /// The running life of a replica.
    pub(super) fn running(
        &self,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
    ) -> Option<Incarnation> {
        match self.get(slot, revision, replica)?.life {
            Life::Up { incarnation, .. } => Some(incarnation),
            Life::Created | Life::Down { .. } => None,
        }
    }

    /// The running life of a replica, and since when it runs.
    pub(super) fn life(
        &self,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
    ) -> Option<(Incarnation, Moment)> {
        match self.get(slot, revision, replica)?.life {
            Life::Up { incarnation, since } => Some((incarnation, since)),
            Life::Created | Life::Down { .. } => None,
        }
    }

    /// The running life of a replica whose process is there, as far as anybody said.
    pub(super) fn present(
        &self,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
    ) -> Option<Incarnation> {
        let found = self.get(slot, revision, replica)?;
        self.running(slot, revision, replica)
            .filter(|_| !found.vanished)
    }

    /// Why a replica that should serve is sick, in a sentence; ends with the engine excuse it.
    pub(super) fn sickness(
        &self,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
        failures: u32,
    ) -> Option<String> {
        let Some(found) = self.get(slot, revision, replica) else {
            return Some(format!("replica {replica} of @{revision} is gone"));
        };
        match found.life {
            Life::Down { excused: true, .. } => None,
            Life::Down { code, .. } => Some(format!(
                "replica {replica} of @{revision} exited with code {code}"
            )),
            Life::Created => Some(format!("replica {replica} of @{revision} does not run")),
            Life::Up { .. } if found.bad >= failures => Some(format!(
                "replica {replica} of @{revision} failed {} probes in a row: {}",
                found.bad, found.evidence
            )),
            Life::Up { .. } => None,
        }
    }

    /// A running life that failed so many samples in a row, since when it runs, and what the last
    /// sample said.
    pub(super) fn failing(
        &self,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
        failures: u32,
    ) -> Option<(Incarnation, Moment, &str)> {
        let found = self.get(slot, revision, replica)?;
        match found.life {
            Life::Up { incarnation, since } if found.bad >= failures => {
                Some((incarnation, since, &found.evidence))
            }
            Life::Up { .. } | Life::Created | Life::Down { .. } => None,
        }
    }

    /// Another check is asked from here on: what the one before said of the running counts no more.
    pub(super) fn count_anew(&mut self) {
        for found in self.replicas.values_mut() {
            found.bad = 0;
            found.evidence.clear();
        }
    }

    /// Restarts of a replica that still count.
    pub(super) fn attempts_of(&self, slot: Slot, revision: RevisionNumber, replica: u32) -> u32 {
        self.get(slot, revision, replica)
            .map_or(0, |found| found.attempts)
    }

    /// What the last unhealthy sample of a revision's replicas said.
    pub(super) fn last_evidence(&self, revision: RevisionNumber) -> Option<&str> {
        self.replicas
            .iter()
            .filter(|((_, r, _), found)| *r == revision && !found.evidence.is_empty())
            .map(|(_, found)| found.evidence.as_str())
            .next_back()
    }

    /// When this replica shall be started again, by its policy; `None`: never, or it runs.
    ///
    /// What ended with the engine, or was made and not started, starts at once whatever the policy says.
    pub(super) fn restart_at(
        &self,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
        policy: &RestartPolicy,
    ) -> Option<Moment> {
        let Some(found) = self.get(slot, revision, replica) else {
            return self.looked.then_some(Moment::ZERO);
        };
        match found.life {
            Life::Up { .. } => None,
            Life::Created => Some(Moment::ZERO),
            Life::Down { excused: true, .. } => Some(Moment::ZERO),
            Life::Down {
                code,
                since,
                excused: false,
            } => {
                let wanted = match policy.condition {
                    RestartCondition::No => false,
                    RestartCondition::OnFailure => code != 0,
                    RestartCondition::Any => true,
                };
                let left = policy.max_attempts.is_none_or(|most| found.attempts < most);
                (wanted && left).then(|| since + backoff(policy.delay, found.attempts))
            }
        }
    }

    /// When the first unproved replica of a side will have run long enough to pass.
    pub(super) fn settles_at(&self, side: &Side, slot: Slot) -> Option<Moment> {
        let since = |replica| match self.get(slot, side.revision, replica)?.life {
            Life::Up { since, .. } => Some(since + side.settle),
            Life::Created | Life::Down { .. } => None,
        };
        (1..=side.replicas).filter_map(since).max()
    }

    /// A restart of this replica was tried in vain: the wait for the next one begins now.
    pub(super) fn tried(
        &mut self,
        now: Moment,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
    ) {
        if let Some(found) = self.replicas.get_mut(&(slot, revision, replica)) {
            found.attempts = found.attempts.saturating_add(1);
            if let Life::Down { since, .. } = &mut found.life {
                *since = now;
            }
        }
    }

    /// Forgets the restarts of replicas that ran for their policy's window.
    pub(super) fn forgive(&mut self, now: Moment, revision: RevisionNumber, window: Duration) {
        for (_, found) in self
            .replicas
            .iter_mut()
            .filter(|((_, r, _), _)| *r == revision)
        {
            if matches!(found.life, Life::Up { since, .. } if now >= since + window) {
                found.attempts = 0;
            }
        }
    }

    /// Restarts of a revision's replicas that still count.
    pub(super) fn attempts(&self, revision: RevisionNumber) -> u32 {
        self.replicas
            .iter()
            .filter(|((_, r, _), _)| *r == revision)
            .map(|(_, found)| found.attempts)
            .sum()
    }
}

/// `first`, doubled with each attempt, up to [`RESTART_CEILING`] (or `first`, where that is longer).
pub(super) fn backoff(first: Duration, attempts: u32) -> Duration {
    let doubled = first.saturating_mul(1_u32 << attempts.min(10));
    doubled.min(RESTART_CEILING.max(first))
}
