//! P7: what serves and dies is started again soon, whatever its host's swap is about.

use cutover_core::Route;
use cutover_core::spec::{Order, RestartCondition};
use cutover_core::swap::Action;

use crate::fault::Fault;
use crate::host::{ContainerKey, State};
use crate::promises::{Promise, RestartWatch};
use crate::queue::Happening;
use crate::world::{S, World};

/// The policy's delay, and the engine.
const WITHIN: u64 = 6 * S;
/// What ran for its policy's window is started without a longer wait.
const STEADY: u64 = 6 * S;
/// What keeps an agent from its engine, its disk or its route.
const HINDERS: [Fault; 5] = [
    Fault::ActionFails,
    Fault::ActionFailsForGood,
    Fault::ReplyLost,
    Fault::FlipFails,
    Fault::DiskFull,
];

/// What alone gets the requests ended by itself, and its agent was told.
pub(crate) fn watch_restart(world: &mut World, host: usize, key: ContainerKey) {
    let (service, slot, revision, _) = key;
    let this = &world.hosts[host];
    let policy = &world.services[service].restart;
    let lasting = policy.condition == RestartCondition::Any && policy.max_attempts.is_none();
    let steady = this
        .containers
        .get(&key)
        .is_some_and(|container| container.passed && container.passed_at + STEADY < world.now);
    let hindered = HINDERS.iter().any(|fault| world.faults.has(*fault));
    let current = this.durable[service].current();
    let ours =
        current.is_some_and(|settled| (settled.slot, settled.side.revision) == (slot, revision));
    let stop_first = this.durable[service]
        .open_plan()
        .is_some_and(|plan| plan.order == Order::StopFirst);
    if !lasting || !steady || hindered || !ours || stop_first || !this.engine.up {
        return;
    }
    if this.agent.is_none() || this.fronts[service].link != Route::Alone(slot) {
        return;
    }
    let watch = (this.life, this.engine.instance, world.now);
    world.later(WITHIN, Happening::RestartDue { host, key, watch });
}

impl World {
    pub(crate) fn restart_due(&mut self, host: usize, key: ContainerKey, watch: RestartWatch) {
        let (start, instance, died) = watch;
        let (service, slot, revision, replica) = key;
        let this = &self.hosts[host];
        let same = this.life == start && this.engine.instance == instance && this.engine.up;
        let Some(agent) = this.agent.as_ref().filter(|_| same && this.up) else {
            return;
        };
        // Some starts are slow; this one waits for nobody.
        let start = Action::Start { slot, revision };
        let keeper = &agent.keepers[service];
        if keeper.under_way.actions().any(|action| action == start) {
            return;
        }
        let berth = &keeper.berth;
        let current = berth.current();
        let ours = current
            .is_some_and(|settled| (settled.slot, settled.side.revision) == (slot, revision));
        let container = this.containers.get(&key);
        // Not one that was started and died again.
        let down = container.is_none_or(|container| {
            !matches!(container.state, State::Up { .. }) && container.sick_at <= died
        });
        if !ours || !down || this.fronts[service].link != Route::Alone(slot) {
            return;
        }
        let phase = berth.phase();
        self.breach(
            Promise::P7,
            format!("h{host} s{service}: replica {replica} of @{revision}, which serves, does not run {} s after it died, {phase:?}", WITHIN / S),
        );
    }
}
