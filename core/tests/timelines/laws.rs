//! What holds for every script: a machine fails on no input, its facts give it back,
//! asked twice it says the same, and what time decides is decided at once.

use cutover_core::rollout::{Event as RolloutEvent, Rollout};
use cutover_core::spec::{Order, Strategy as Over};
use cutover_core::swap::{
    Action, Berth, Event, Failure, Incarnation, Kind, Report, Seen, SeenReplica, SeenState,
    SwapOrder, SwapPlan, Target,
};
use cutover_core::{Route, Slot, Weight};
use proptest::prelude::*;

use crate::bench::{at, change, generation, plan, revision, side};
use crate::fleet::{Fleet, Says, host, plan as rollout_plan, policy};

fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![Just(Slot::Blue), Just(Slot::Green)]
}

fn route() -> impl Strategy<Value = Route> {
    prop_oneof![
        Just(Route::Nobody),
        slot().prop_map(Route::Alone),
        slot().prop_map(Route::Warm)
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Prepared),
        Just(Target::Serving(Weight::FULL)),
        Just(Target::Serving(Weight::new(20).unwrap())),
        Just(Target::Committed),
        Just(Target::Reverted),
    ]
}

fn swap_plan() -> impl Strategy<Value = SwapPlan> {
    let kinds = prop_oneof![
        Just(Kind::First { candidate: side(1) }),
        Just(change(side(1), side(2))),
        Just(change(side(2), side(1))),
        Just(Kind::Retire { incumbent: side(1) }),
    ];
    (1_u64..6, kinds, any::<bool>()).prop_map(|(number, kind, stop)| SwapPlan {
        order: if stop {
            Order::StopFirst
        } else {
            Order::StartFirst
        },
        ..plan(number, kind)
    })
}

fn action() -> impl Strategy<Value = Action> {
    (0_u8..8, slot(), 1_u64..3, route()).prop_map(|(kind, slot, n, route)| {
        let revision = revision(n);
        match kind {
            0 => Action::Fetch { revision },
            1 => Action::Make { slot, revision },
            2 => Action::Start { slot, revision },
            3 => Action::Stop { slot, revision },
            4 => Action::Remove { slot, revision },
            5 => Action::Smoke {
                slot,
                revision,
                through_listener: true,
            },
            6 => Action::Halt {
                slot,
                revision,
                replica: 1,
            },
            _ => Action::Prove(route),
        }
    })
}

/// What the script does next: an event, or what is wanted just then.
#[derive(Clone, Debug)]
enum Step {
    Tell(Box<Event>),
    Oblige,
    Pass(Slot),
}

fn seen() -> impl Strategy<Value = Seen> {
    let state = prop_oneof![
        Just(SeenState::Created),
        (1_u64..4).prop_map(|n| SeenState::Up(Incarnation(n))),
        (0_i64..2).prop_map(SeenState::Down),
    ];
    let replica = (slot(), 1_u64..3, state).prop_map(|(slot, n, state)| SeenReplica {
        slot,
        replica: 1,
        revision: revision(n),
        state,
    });
    (prop::collection::vec(replica, 0..4), any::<bool>()).prop_map(
        |(replicas, engine_restarted)| Seen {
            replicas,
            engine_restarted,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let order = (swap_plan(), target(), 0_u64..200_000, any::<bool>()).prop_map(
        |(plan, target, lease, whole)| {
            Event::Ordered(SwapOrder {
                generation: plan.generation,
                plan: whole.then(|| Box::new(plan)),
                target,
                lease_until: at(lease),
            })
        },
    );
    let sampled =
        (slot(), 1_u64..4, any::<bool>()).prop_map(|(slot, life, healthy)| Event::Sampled {
            slot,
            replica: 1,
            incarnation: Incarnation(life),
            healthy,
            evidence: String::new(),
        });
    let exited = (slot(), 1_u64..4).prop_map(|(slot, life)| Event::Exited {
        slot,
        replica: 1,
        incarnation: Incarnation(life),
        code: 1,
    });
    let vanished = (slot(), 1_u64..4).prop_map(|(slot, life)| Event::Vanished {
        slot,
        replica: 1,
        incarnation: Incarnation(life),
    });
    let failed = (action(), any::<bool>()).prop_map(|(action, transient)| {
        Event::Failed(
            action,
            Failure {
                transient,
                reason: "no".to_owned(),
            },
        )
    });
    let event = prop_oneof![
        4 => order,
        2 => sampled,
        1 => exited,
        1 => vanished,
        1 => failed,
        1 => action().prop_map(Event::Began),
        1 => action().prop_map(Event::Did),
        2 => seen().prop_map(Event::Saw),
        1 => route().prop_map(Event::Flipped),
        1 => (slot(), 0_u64..2).prop_map(|(slot, open)| Event::Counted { slot, open }),
        1 => Just(Event::EngineLost),
        1 => Just(Event::Rebooted),
        1 => Just(Event::RevertAsked),
        1 => any::<bool>().prop_map(Event::HoldAsked),
        3 => Just(Event::Ticked),
    ];
    prop_oneof![
        3 => event.prop_map(|event| Step::Tell(Box::new(event))),
        4 => Just(Step::Oblige),
        2 => slot().prop_map(Step::Pass),
    ]
}

/// A report without what is looked at anew after a restart.
fn stored(mut report: Report) -> Report {
    report.replicas = (0, 0);
    report.warnings.clear();
    report.refusal = None;
    if let Some(swap) = &mut report.swap {
        swap.healthy = false;
        swap.trouble = None;
        swap.waits = None;
        if swap.reached == Some(Target::Prepared) {
            swap.reached = None;
        }
    }
    report
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_berth_obeys_the_law(steps in prop::collection::vec((step(), 0_u64..4_000), 1..80)) {
        let service = "shop/web".parse().unwrap();
        let mut berth = Berth::new(service);
        let mut facts = Vec::new();
        let mut now = 0;
        for (step, passed) in steps {
            now += passed;
            let events = match step {
                Step::Tell(event) => vec![*event],
                Step::Oblige => {
                    let want = berth.want(at(now));
                    prop_assert_eq!(&want, &berth.want(at(now)));
                    want.flip.map(Event::Flipped).into_iter().chain(want.upkeep.into_iter().chain(want.step).map(Event::Did)).collect()
                }
                Step::Pass(slot) => (1..4)
                    .map(|life| Event::Sampled { slot, replica: 1, incarnation: Incarnation(life), healthy: true, evidence: String::new() })
                    .collect(),
            };
            for event in events {
                facts.extend(berth.handle(at(now), event));
                prop_assert!(berth.handle(at(now), Event::Ticked).is_empty(), "what time decides is decided at once");
            }
            prop_assert!(berth.deadline(at(now)).is_none_or(|deadline| deadline.at > at(now)));
            let again = Berth::replay("shop/web".parse().unwrap(), &facts);
            prop_assert_eq!(stored(again.report(1, at(now))), stored(berth.report(1, at(now))));
            prop_assert_eq!(again.target(), berth.target());
            prop_assert_eq!(again.candidate(), berth.candidate());
        }
    }

    #[test]
    fn a_rollout_obeys_the_law(
        steps in prop::collection::vec((0_u8..12, 1_u64..4, target(), any::<(bool, bool, bool)>(), 0_u64..20_000), 1..60),
        over in prop_oneof![Just(Over::Rolling), Just(Over::BlueGreen)],
        wave in 0_u32..3,
    ) {
        let mut fleet = Fleet::new(rollout_plan(policy(over, wave), 3));
        for (kind, n, target, (watched, healthy, reverting), passed) in steps {
            fleet.now += passed;
            let said = Says { reached: Some(target), watched, healthy, reverting, over: watched && reverting, why: None };
            match kind {
                0 => fleet.tell(RolloutEvent::PauseAsked),
                1 => fleet.tell(RolloutEvent::ResumeAsked),
                2 => fleet.tell(RolloutEvent::AbortAsked("no".to_owned())),
                3 => fleet.leaves(n),
                4 => fleet.tell(RolloutEvent::Rebooted),
                5 => fleet.tell(RolloutEvent::Heard { host: host(n), clock: at(passed) }),
                6 => fleet.tell(RolloutEvent::Ticked),
                7 => fleet.says_of(n, generation(passed % 5), said),
                8 => fleet.tell(RolloutEvent::SupersedeAsked),
                _ if fleet.generation(n).is_some() => fleet.says(n, said),
                _ => fleet.tell(RolloutEvent::Ticked),
            }
            let told = fleet.facts.len();
            fleet.tell(RolloutEvent::Ticked);
            prop_assert_eq!(told, fleet.facts.len(), "what follows follows at once");
            let now = fleet.moment();
            prop_assert!(fleet.rollout.deadline(now).is_none_or(|at| at > now));
            prop_assert_eq!(fleet.rollout.orders(now), fleet.rollout.orders(now));
            let again = Rollout::replay(fleet.rollout.plan().clone(), now, &fleet.facts).view();
            let live = fleet.rollout.view();
            prop_assert_eq!((again.stage, again.paused), (live.stage, live.paused));
            for (again, live) in again.hosts.iter().zip(&live.hosts) {
                prop_assert_eq!(
                    (again.fate, again.target, again.reached, &again.fell, again.owing),
                    (live.fate, live.target, live.reached, &live.fell, live.owing)
                );
            }
        }
    }
}
