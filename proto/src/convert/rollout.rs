//! Rollouts: their plans and facts.

use cutover_core::rollout as core;
use cutover_core::{HostId, Moment};

use super::swap::kind;
use super::{Malformed, duration, moment, nanos, need};
use crate::v1;

impl From<&core::RolloutPlan> for v1::RolloutPlan {
    fn from(plan: &core::RolloutPlan) -> Self {
        Self {
            id: plan.id.to_string(),
            service: plan.service.to_string(),
            epoch: plan.epoch,
            policy: Some((&plan.policy).into()),
            hosts: plan.hosts.iter().map(Into::into).collect(),
            skipped: plan.skipped.iter().map(ToString::to_string).collect(),
            lease: nanos(plan.lease),
            progress: nanos(plan.progress),
            retain: plan.retain,
        }
    }
}

impl TryFrom<v1::RolloutPlan> for core::RolloutPlan {
    type Error = Malformed;

    fn try_from(plan: v1::RolloutPlan) -> Result<Self, Malformed> {
        Ok(Self {
            id: plan.id.parse()?,
            service: plan.service.parse()?,
            epoch: plan.epoch,
            policy: need(plan.policy, "a rollout policy")?.try_into()?,
            hosts: plan
                .hosts
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            skipped: plan
                .skipped
                .iter()
                .map(|host| host.parse())
                .collect::<Result<Vec<HostId>, _>>()?,
            lease: duration(plan.lease),
            progress: duration(plan.progress),
            retain: plan.retain,
        })
    }
}

impl From<&core::HostPlan> for v1::HostPlan {
    fn from(host: &core::HostPlan) -> Self {
        Self {
            host: host.host.to_string(),
            incumbent: host.kind.incumbent().map(Into::into),
            candidate: host.kind.candidate().map(Into::into),
            fence: Some(host.fence.into()),
        }
    }
}

impl TryFrom<v1::HostPlan> for core::HostPlan {
    type Error = Malformed;

    fn try_from(host: v1::HostPlan) -> Result<Self, Malformed> {
        Ok(Self {
            host: host.host.parse()?,
            kind: kind(host.incumbent, host.candidate)?,
            fence: need(host.fence, "a generation")?.into(),
        })
    }
}

impl From<core::Outcome> for v1::Outcome {
    fn from(outcome: core::Outcome) -> Self {
        match outcome {
            core::Outcome::Committed => Self::Committed,
            core::Outcome::RolledBack => Self::RolledBack,
            core::Outcome::Aborted => Self::Aborted,
            core::Outcome::Mixed => Self::Mixed,
        }
    }
}

impl TryFrom<v1::Outcome> for core::Outcome {
    type Error = Malformed;

    fn try_from(outcome: v1::Outcome) -> Result<Self, Malformed> {
        Ok(match outcome {
            v1::Outcome::Committed => Self::Committed,
            v1::Outcome::RolledBack => Self::RolledBack,
            v1::Outcome::Aborted => Self::Aborted,
            v1::Outcome::Mixed => Self::Mixed,
            v1::Outcome::Unspecified => return Err(Malformed("an outcome")),
        })
    }
}

fn wave(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl v1::RolloutFact {
    /// The wire form of a fact that became one at this time of the wall clock.
    #[must_use]
    pub fn new(stamped: &core::Stamped, unix_millis: i64) -> Self {
        use v1::rollout_fact::Fact as Wire;
        let nothing = v1::Nothing {};
        let fact = match &stamped.fact {
            core::Fact::WaveBegan { wave: number } => Wire::WaveBegan(wave(*number)),
            core::Fact::Ordered {
                host,
                generation,
                target,
                counter,
            } => Wire::Ordered(v1::Ordered {
                host: host.to_string(),
                generation: Some((*generation).into()),
                target: Some((*target).into()),
                counter: *counter,
            }),
            core::Fact::Reached { host, target } => Wire::Reached(v1::Reached {
                host: host.to_string(),
                target: Some((*target).into()),
            }),
            core::Fact::WasThere { host } => Wire::WasThere(host.to_string()),
            core::Fact::Fell { host, why } => Wire::Fell(v1::Fell {
                host: host.to_string(),
                why: why.clone(),
            }),
            core::Fact::BarrierPassed => Wire::BarrierPassed(nothing),
            core::Fact::CommitDecided { hosts } => Wire::CommitDecided(v1::Strings {
                values: hosts.iter().map(ToString::to_string).collect(),
            }),
            core::Fact::WaveEnded { wave: number } => Wire::WaveEnded(wave(*number)),
            core::Fact::Paused => Wire::Paused(nothing),
            core::Fact::Resumed => Wire::Resumed(nothing),
            core::Fact::Held { why } => Wire::Held(why.clone()),
            core::Fact::RollbackDecided { why, asked } => {
                Wire::RollbackDecided(v1::RollbackDecided {
                    why: why.clone(),
                    asked: *asked,
                })
            }
            core::Fact::Closed(outcome) => Wire::Closed(v1::Outcome::from(*outcome).into()),
            core::Fact::Superseded => Wire::Superseded(nothing),
            core::Fact::Rebooted => Wire::Rebooted(nothing),
        };
        Self {
            at: stamped.at.as_nanos(),
            unix_millis,
            fact: Some(fact),
            last_log: None,
            text: String::new(),
            host: String::new(),
        }
    }
}

impl TryFrom<v1::RolloutFact> for core::Stamped {
    type Error = Malformed;

    fn try_from(stamped: v1::RolloutFact) -> Result<Self, Malformed> {
        use v1::rollout_fact::Fact as Wire;
        let fact = match need(stamped.fact, "a fact")? {
            Wire::WaveBegan(number) => core::Fact::WaveBegan {
                wave: number as usize,
            },
            Wire::Ordered(ordered) => core::Fact::Ordered {
                host: ordered.host.parse()?,
                generation: need(ordered.generation, "a generation")?.into(),
                target: need(ordered.target, "a target")?.try_into()?,
                counter: ordered.counter,
            },
            Wire::Reached(reached) => core::Fact::Reached {
                host: reached.host.parse()?,
                target: need(reached.target, "a target")?.try_into()?,
            },
            Wire::WasThere(host) => core::Fact::WasThere {
                host: host.parse()?,
            },
            Wire::Fell(fell) => core::Fact::Fell {
                host: fell.host.parse()?,
                why: fell.why,
            },
            Wire::BarrierPassed(_) => core::Fact::BarrierPassed,
            Wire::CommitDecided(hosts) => core::Fact::CommitDecided {
                hosts: hosts
                    .values
                    .iter()
                    .map(|host| host.parse())
                    .collect::<Result<_, _>>()?,
            },
            Wire::WaveEnded(number) => core::Fact::WaveEnded {
                wave: number as usize,
            },
            Wire::Paused(_) => core::Fact::Paused,
            Wire::Resumed(_) => core::Fact::Resumed,
            Wire::Held(why) => core::Fact::Held { why },
            Wire::RollbackDecided(decided) => core::Fact::RollbackDecided {
                why: decided.why,
                asked: decided.asked,
            },
            Wire::Closed(outcome) => {
                let outcome =
                    v1::Outcome::try_from(outcome).map_err(|_| Malformed("an outcome"))?;
                core::Fact::Closed(outcome.try_into()?)
            }
            Wire::Superseded(_) => core::Fact::Superseded,
            Wire::Rebooted(_) => core::Fact::Rebooted,
        };
        let at: Moment = moment(stamped.at);
        Ok(Self { at, fact })
    }
}
