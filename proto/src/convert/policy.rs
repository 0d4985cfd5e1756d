//! What happens to a container that stops by itself, and how a rollout goes.

use cutover_core::spec as core;

use crate::convert::{Malformed, duration, nanos};
use crate::v1;

impl From<&core::RestartPolicy> for v1::RestartPolicy {
    fn from(policy: &core::RestartPolicy) -> Self {
        let condition = match policy.condition {
            core::RestartCondition::No => v1::RestartCondition::No,
            core::RestartCondition::OnFailure => v1::RestartCondition::OnFailure,
            core::RestartCondition::Any => v1::RestartCondition::Any,
        };
        Self {
            condition: condition.into(),
            delay: nanos(policy.delay),
            max_attempts: policy.max_attempts,
            window: nanos(policy.window),
        }
    }
}

impl TryFrom<v1::RestartPolicy> for core::RestartPolicy {
    type Error = Malformed;

    fn try_from(policy: v1::RestartPolicy) -> Result<Self, Malformed> {
        let condition = match policy.condition() {
            v1::RestartCondition::No => core::RestartCondition::No,
            v1::RestartCondition::OnFailure => core::RestartCondition::OnFailure,
            v1::RestartCondition::Any => core::RestartCondition::Any,
            v1::RestartCondition::Unspecified => return Err(Malformed("a restart condition")),
        };
        let (delay, window) = (duration(policy.delay), duration(policy.window));
        Ok(Self {
            condition,
            delay,
            max_attempts: policy.max_attempts,
            window,
        })
    }
}

impl From<&core::RolloutPolicy> for v1::RolloutPolicy {
    fn from(policy: &core::RolloutPolicy) -> Self {
        let strategy = match policy.strategy {
            core::Strategy::Rolling => v1::Strategy::Rolling,
            core::Strategy::BlueGreen => v1::Strategy::BlueGreen,
            core::Strategy::Recreate => v1::Strategy::Recreate,
        };
        Self {
            strategy: strategy.into(),
            stop_first: policy.order == core::Order::StopFirst,
            wave: policy.wave,
            delay: nanos(policy.delay),
            failure_budget: policy.failure_budget,
            hold_on_failure: policy.on_failure == core::OnFailure::Hold,
            observe: nanos(policy.observe),
            drain: nanos(policy.drain),
            commit_at_end: policy.commit == core::CommitRule::AtEnd,
        }
    }
}

impl TryFrom<v1::RolloutPolicy> for core::RolloutPolicy {
    type Error = Malformed;

    fn try_from(policy: v1::RolloutPolicy) -> Result<Self, Malformed> {
        let strategy = match policy.strategy() {
            v1::Strategy::Rolling => core::Strategy::Rolling,
            v1::Strategy::BlueGreen => core::Strategy::BlueGreen,
            v1::Strategy::Recreate => core::Strategy::Recreate,
            v1::Strategy::Unspecified => return Err(Malformed("a strategy")),
        };
        Ok(Self {
            strategy,
            order: if policy.stop_first {
                core::Order::StopFirst
            } else {
                core::Order::StartFirst
            },
            wave: policy.wave,
            delay: duration(policy.delay),
            failure_budget: policy.failure_budget,
            on_failure: if policy.hold_on_failure {
                core::OnFailure::Hold
            } else {
                core::OnFailure::Rollback
            },
            observe: duration(policy.observe),
            drain: duration(policy.drain),
            commit: if policy.commit_at_end {
                core::CommitRule::AtEnd
            } else {
                core::CommitRule::PerWave
            },
        })
    }
}
