//! Figure: a whole swap of one service on one host, beside the same by hand.
//!
//! From the moment before `cutover deploy` is started to the agent's fact `RouteProved`: nginx was seen, by a request
//! of the agent's own through the real listener, to send requests to the new version.

use std::time::Duration;

use cutover_tests::fleet::Fleet;
use cutover_tests::image;

use crate::Rounds;
use crate::agent_log::{self, AgentLog, Fact};
use crate::bare::Bare;
use crate::compose;
use crate::spread::Spread;
use crate::table::{Limit, Row};

/// The whole of Cutover may cost so much more than the bare sequence.
const LIMIT: f64 = 1.3;

pub(crate) async fn measure(rounds: Rounds) -> Vec<Row> {
    let fleet = Fleet::start(1).await;
    let host = &fleet.hosts[0];
    let images = [
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    ];
    let file = |round: usize| {
        let text = compose::web(&images[round % 2], "drain: 1s\nobserve: 0s\n", "")
            .replace("every: 100ms", "every: 50ms")
            .replace("successes: 2", "successes: 1");
        fleet.compose("compose.yaml", &text)
    };
    let version = |round: usize| if round.is_multiple_of(2) { "1" } else { "2" };
    fleet.ok(&["deploy", "-f", &file(0)]);
    let mut bare = Bare::begin(&fleet, host).await;
    // A pair that does not count: pages are read, connections made.
    fleet.ok(&["deploy", "-f", &file(1)]);
    bare.swap(&images[1], version(1)).await;

    let (mut ours, mut by_hand, mut steps) = (Vec::new(), Vec::new(), Steps::default());
    let all = rounds.of(20, 4);
    for round in 2..2 + all {
        let log = AgentLog::from_now(&fleet, host);
        let begun = agent_log::now();
        fleet.ok(&["deploy", "-f", &file(round)]);
        let proved = log
            .when("RouteProved")
            .expect("the agent says that it proved the route");
        ours.push(proved.saturating_sub(begun));
        steps.add(begun, proved, &log.facts());
        by_hand.push(bare.swap(&images[round % 2], version(round)).await);
    }
    vec![Row {
        figure: "swap",
        what: "deploy submitted → route proved",
        unit: "ms",
        measured: Spread::milliseconds(&ours),
        beside: Some(("by hand", Spread::milliseconds(&by_hand))),
        limit: Limit::Times(LIMIT),
        notes: vec![steps.said()],
    }]
}

/// When each fact came, since the deploy was submitted.
#[derive(Default)]
struct Steps {
    seen: Vec<(String, Vec<f64>)>,
}

impl Steps {
    fn add(&mut self, begun: Duration, until: Duration, facts: &[Fact]) {
        for fact in facts.iter().filter(|fact| fact.at <= until) {
            let after = fact.at.saturating_sub(begun).as_secs_f64() * 1e3;
            match self.seen.iter_mut().find(|(name, _)| *name == fact.name) {
                Some((_, times)) => times.push(after),
                None => self.seen.push((fact.name.clone(), vec![after])),
            }
        }
    }

    fn said(&self) -> String {
        let all = self
            .seen
            .iter()
            .map(|(name, times)| format!("{name} {:.0}", Spread::of(times.clone()).median()));
        format!(
            "medians in ms after the submission: {}",
            all.collect::<Vec<_>>().join(", ")
        )
    }
}
