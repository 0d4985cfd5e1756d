//! What people and scripts are shown of a rollout.

use crate::moment::Moment;
use crate::name::HostId;
use crate::rollout::seat::{Fate, Seat};
use crate::rollout::{Outcome, Rollout, Stage};
use crate::swap::{Phase, Target};

/// A rollout as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Where it is.
    pub stage: StageView,
    /// A person said: not further.
    pub paused: bool,
    /// Every host, in the order of names.
    pub hosts: Vec<HostView>,
    /// What it waits for now.
    pub waits: Vec<Wait>,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageView {
    /// Nothing was asked of any host.
    Planned,
    /// This wave is under way, from 1, of so many.
    Forward {
        /// From 1.
        wave: usize,
        /// How many there are.
        of: usize,
    },
    /// It waits for a person.
    Holding {
        /// In a sentence.
        why: String,
    },
    /// Every host goes back.
    Back {
        /// In a sentence.
        why: String,
    },
    /// It is over.
    Closed(Outcome),
}

/// One host as the rollout sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Which.
    pub host: HostId,
    /// Its wave, from 1.
    pub wave: usize,
    /// Where it ended, so far.
    pub fate: Fate,
    /// How far it shall go.
    pub target: Option<Target>,
    /// How far it got.
    pub reached: Option<Target>,
    /// Where its swap is, as last reported.
    pub phase: Option<Phase>,
    /// Why its candidate may not stay.
    pub fell: Option<String>,
    /// It has no session.
    pub away: bool,
    /// The rollout is over, and the host has not got where it shall go.
    pub owing: bool,
    /// What goes wrong there, and is tried again.
    pub trouble: Option<String>,
}

/// One thing that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// On which host; `None`: a person.
    pub host: Option<HostId>,
    /// For what.
    pub what: String,
    /// Until when, on the coordinator's clock; `None`: a person decides.
    pub until: Option<Moment>,
}

impl Rollout {
    /// Where it stands.
    #[must_use]
    pub fn view(&self) -> View {
        let stage = match &self.stage {
            Stage::Planned => StageView::Planned,
            Stage::Forward { wave, .. } => StageView::Forward {
                wave: wave + 1,
                of: self.plan.waves(),
            },
            Stage::Holding { why, .. } => StageView::Holding { why: why.clone() },
            Stage::Back { why, .. } => StageView::Back { why: why.clone() },
            Stage::Closed { outcome } => StageView::Closed(*outcome),
        };
        View {
            stage,
            paused: self.paused,
            hosts: self
                .seats
                .iter()
                .map(|(host, seat)| self.host_view(host, seat))
                .collect(),
            waits: self.waits(),
        }
    }

    fn host_view(&self, host: &HostId, seat: &Seat) -> HostView {
        HostView {
            host: host.clone(),
            wave: seat.wave + 1,
            fate: seat.fate(),
            target: seat.order.map(|order| order.target),
            reached: seat.reached,
            phase: seat.swap().and_then(|swap| swap.phase),
            fell: seat.fell.clone(),
            away: seat.away_since.is_some(),
            owing: self.outcome().is_some() && seat.fate() == Fate::Open,
            trouble: seat.swap().and_then(|swap| swap.trouble.clone()),
        }
    }

    fn waits(&self) -> Vec<Wait> {
        if let Stage::Holding { why, .. } = &self.stage {
            return vec![Wait {
                host: None,
                what: format!("a person: {why}"),
                until: None,
            }];
        }
        if self.paused {
            return vec![Wait {
                host: None,
                what: "a person: it is paused".to_owned(),
                until: None,
            }];
        }
        let open = self.seats.iter().filter(|(_, seat)| seat.in_change());
        let waits = open.map(|(host, seat)| {
            let said = seat
                .swap()
                .and_then(|swap| swap.waits.as_ref())
                .map(|(what, _)| what.clone());
            let target = seat.order.map_or(Target::Prepared, |order| order.target);
            let what = said.unwrap_or_else(|| format!("the host to be {target}"));
            let until = self.late_at(seat);
            Wait {
                host: Some(host.clone()),
                what,
                until,
            }
        });
        let mut waits: Vec<Wait> = waits.collect();
        if let (true, Some(ended)) = (
            waits.is_empty() && self.outcome().is_none(),
            self.wave_ended,
        ) {
            let until = Some(ended + self.plan.policy.delay);
            waits.push(Wait {
                host: None,
                what: "the delay between waves".to_owned(),
                until,
            });
        }
        waits
    }
}
