//! Figure: a durable transition of the coordinator's store, beside the least that it could take: an append and an
//! fdatasync of a plain file. Both in turn, on one disk, with records of 1 KiB.

use std::io::Write as _;
use std::time::{Duration, Instant};

use cutover_coordinator::store::{Batch, Key, Options, Probe, Store, Table};

use crate::Rounds;
use crate::spread::Spread;
use crate::table::{Limit, Row};

/// A transition is two syncs (sled's own, which is not enough, and ours of its file) and the way to its one writer.
const LIMIT: f64 = 3.0;
const WARM_UP: usize = 100;
const BYTES: usize = 1024;
/// Who write at once, and how much each.
const TOGETHER: usize = 64;
const EACH: u64 = 100;

pub(crate) async fn measure(rounds: Rounds) -> Vec<Row> {
    // Whoever writes waits, which the runtime's own threads may not.
    tokio::task::spawn_blocking(move || measured(rounds))
        .await
        .unwrap()
}

fn measured(rounds: Rounds) -> Vec<Row> {
    // Beside this program: a temporary folder may be in memory, where a sync costs nothing.
    let program = std::env::current_exe().unwrap();
    let dir = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let store = Store::open(&dir.path().join("state"), &Options::new(Probe::Here))
        .unwrap()
        .store;
    let mut file = std::fs::File::create(dir.path().join("plain")).unwrap();
    let text = "x".repeat(BYTES);
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for number in 0..rounds.of(2000, 200) + WARM_UP {
        let batch = Batch::new().put(Table::Facts, Key::of("r").number(number as u64), &text);
        let begun = Instant::now();
        store.write_blocking(batch).unwrap();
        let took = begun.elapsed();
        let begun = Instant::now();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_data().unwrap();
        if number >= WARM_UP {
            plain.push(begun.elapsed());
            ours.push(took);
        }
    }
    let together = together(&store, &text);
    vec![Row {
        figure: "store",
        what: "a durable transition of 1 KiB",
        unit: "µs",
        measured: microseconds(&ours),
        beside: Some(("append + fdatasync", microseconds(&plain))),
        limit: Limit::Times(LIMIT),
        notes: vec![format!(
            "{TOGETHER} writers at once: {together:.0} durable transitions a second"
        )],
    }]
}

fn microseconds(times: &[Duration]) -> Spread {
    Spread::of(times.iter().map(|time| time.as_secs_f64() * 1e6))
}

/// Durable transitions a second when many wait for one sync.
fn together(store: &Store, text: &str) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let begun = Instant::now();
    runtime.block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..TOGETHER {
            let (store, text) = (store.clone(), text.to_owned());
            writers.spawn(async move {
                for number in 0..EACH {
                    let key = Key::of(format!("w{writer}")).number(number);
                    let batch = Batch::new().put(Table::Facts, key, &text);
                    store.write(batch).await.unwrap();
                }
            });
        }
        while let Some(done) = writers.join_next().await {
            done.unwrap();
        }
    });
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let all = (TOGETHER as u64 * EACH) as f64;
    all / begun.elapsed().as_secs_f64()
}
