//! Figure: requests lost over many good releases on three hosts under load of every kind, counted twice: at the
//! clients, which count all that they sent, and by nginx, whose count is in each rollout's report.

use std::time::Duration;

use cutover_tests::fleet::Fleet;
use cutover_tests::image;
use cutover_tests::load::{Load, Running};
use serde_json::Value;

use crate::Rounds;
use crate::compose::{self, SHORT};
use crate::spread::Spread;
use crate::table::{Limit, Row};

/// Kept-alive requests a second at each host's door, as in the end-to-end tests.
const RATE: f64 = 140.0;
/// Longer than all swaps together.
const LONGEST: Duration = Duration::from_secs(3600);

pub(crate) async fn measure(rounds: Rounds) -> Vec<Row> {
    let swaps = rounds.of(20, 2);
    let mut rows = Vec::new();
    for (strategy, client, proxy) in [
        (
            "rolling",
            "lost at the clients, rolling swaps",
            "lost by nginx's count, rolling swaps",
        ),
        (
            "blue-green",
            "lost at the clients, blue-green swaps",
            "lost by nginx's count, blue-green swaps",
        ),
    ] {
        let seen = under_load(strategy, swaps).await;
        let row = |what, lost: u64, notes| Row {
            figure: "lossless",
            what,
            unit: "requests",
            #[allow(clippy::cast_precision_loss, reason = "it should be 0")]
            measured: Spread::of([lost as f64]),
            beside: None,
            limit: Limit::AtMost(0.0),
            notes,
        };
        let note = format!(
            "{strategy}, {swaps} swaps of three hosts: the clients sent {} requests ({}), of which {} failed and {} were not sent \
             in time; nginx counted {} during swaps, of which {} were lost and {} failed",
            seen.sent,
            seen.kinds,
            seen.failed,
            seen.unsent,
            seen.counted.requests,
            seen.counted.lost,
            seen.counted.failed
        );
        rows.push(row(client, seen.failed + seen.unsent, vec![note]));
        rows.push(row(proxy, seen.counted.lost, Vec::new()));
    }
    rows
}

#[derive(Default)]
struct Seen {
    sent: u64,
    failed: u64,
    unsent: u64,
    kinds: String,
    counted: Counted,
}

/// What nginx counted, from each host's switch to its commit.
#[derive(Default)]
struct Counted {
    requests: u64,
    lost: u64,
    failed: u64,
}

async fn under_load(strategy: &str, swaps: usize) -> Seen {
    let fleet = Fleet::start(3).await;
    let images = [
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    ];
    let file = |n: usize| {
        let x_cutover = format!("strategy: {strategy}\n{SHORT}");
        fleet.compose(
            "compose.yaml",
            &compose::web(&images[n % 2], &x_cutover, ""),
        )
    };
    fleet.ok(&["deploy", "-f", &file(0)]);
    let load = |host: &cutover_tests::fleet::Host| {
        Load::of_every_kind(host.door(), "shop.example", RATE)
            .longest(LONGEST)
            .start()
    };
    let loads: Vec<Running> = fleet.hosts.iter().map(load).collect();
    let mut seen = Seen::default();
    for n in 1..=swaps {
        let said = fleet.ok(&["deploy", "-o", "json", "-f", &file(n)]);
        let release: Value = serde_json::from_str(&said).expect("the result is JSON");
        for host in hosts(&release) {
            let number = |what: &str| host["traffic"][what].as_u64().unwrap_or(0);
            seen.counted.requests += number("requests");
            seen.counted.lost += number("lost");
            seen.counted.failed += number("failed");
        }
        eprintln!("bench: {strategy} {n} of {swaps}");
    }
    let mut kinds = std::collections::BTreeMap::new();
    for load in loads {
        let tally = load.stop().await;
        seen.sent += tally.sent_in_all();
        seen.failed += tally.failed_in_all();
        seen.unsent += tally.unsent;
        for failure in tally.failures.iter().take(20) {
            eprintln!("bench: {strategy}: {failure}");
        }
        for (kind, count) in &tally.kinds {
            *kinds.entry(format!("{kind:?}")).or_insert(0) += count.sent;
        }
    }
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(kind, sent)| format!("{kind} {sent}"))
        .collect();
    seen.kinds = kinds.join(", ");
    seen
}

/// Every host of every rollout in a release's JSON.
fn hosts(release: &Value) -> impl Iterator<Item = &Value> {
    let rollouts = release["rollouts"].as_array().into_iter().flatten();
    rollouts.flat_map(|rollout| rollout["hosts"].as_array().into_iter().flatten())
}
