//! Figure: a release that crashes 3 s after its start, on three hosts; how long until all are back on the old version.
//!
//! Ours: from the start of `cutover deploy` to its end with exit code 3, when every door was seen to answer by the old
//! version. Beside it Docker Swarm with the same images and three replicas on the same engine: from the start of
//! `docker service update` to the state "rollback completed".

use std::time::{Duration, Instant};

use cutover_tests::fleet::Fleet;
use cutover_tests::image;
use cutover_tests::swarm::Swarm;

use crate::Rounds;
use crate::compose;
use crate::spread::Spread;
use crate::table::{Limit, Row};
use crate::web;

/// Hosts, and Swarm's replicas.
const HOSTS: u8 = 3;
/// Not slower than the peer.
const LIMIT: f64 = 1.0;
/// As the demo has it.
const TIMES: &str = "drain: 5s\nobserve: 5s\n";

struct Way {
    what: &'static str,
    strategy: &'static str,
    /// Swarm's replicas at once.
    parallelism: u8,
    peer: &'static str,
}

const WAYS: [Way; 2] = [
    Way {
        what: "crash after 3 s, one host at a time → all back",
        strategy: "rolling",
        parallelism: 1,
        peer: "Swarm, one at a time",
    },
    Way {
        what: "crash after 3 s on three hosts at once → all back",
        strategy: "blue-green",
        parallelism: 0,
        peer: "Swarm, all at once",
    },
];

pub(crate) async fn measure(rounds: Rounds) -> Vec<Row> {
    let fleet = Fleet::start(HOSTS).await;
    let (good, bad) = (
        image::web(&fleet.engine, "2").await,
        image::web(&fleet.engine, "dies").await,
    );
    let file = |image: &str, strategy: &str| {
        let text = compose::web(image, &format!("strategy: {strategy}\n{TIMES}"), "");
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &file(&good, "rolling")]);
    let swarm = Swarm::begin(&fleet.engine, &good, HOSTS, 1);
    let mut rows = Vec::new();
    for way in WAYS {
        if let Some(swarm) = &swarm {
            swarm.at_once(way.parallelism);
        }
        let (mut ours, mut peers, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds.of(10, 2) {
            ours.push(seconds(taken_back(&fleet, &file(&bad, way.strategy)).await));
            if let Some(swarm) = &swarm {
                let update = swarm.update(&bad).await;
                peers.push(seconds(update.took));
                ends.push(format!("{}, exit code {}", update.state, update.code));
            }
        }
        ends.sort();
        ends.dedup();
        let beside = (!peers.is_empty()).then(|| (way.peer, Spread::of(peers)));
        rows.push(Row {
            figure: "release",
            what: way.what,
            unit: "s",
            measured: Spread::of(ours),
            limit: if beside.is_some() {
                Limit::Times(LIMIT)
            } else {
                Limit::None
            },
            beside,
            notes: vec![format!(
                "{}: Cutover ended with exit code 3 each time; Swarm: {}",
                way.strategy,
                ends.join("; ")
            )],
        });
    }
    if let Some(swarm) = swarm {
        swarm.end();
    }
    rows
}

async fn taken_back(fleet: &Fleet, file: &str) -> Duration {
    let begun = Instant::now();
    let (code, out, err) = fleet.run(&["deploy", "-f", file]);
    for host in &fleet.hosts {
        let answer = web::get(host.door(), "/")
            .await
            .expect("every host answers");
        assert_eq!(answer.version, "2", "{} is not back\n{out}{err}", host.name);
    }
    let took = begun.elapsed();
    assert_eq!(code, 3, "{out}{err}");
    took
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
