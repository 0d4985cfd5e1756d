//! How long a durable transition takes, against the least it could take: an
//! append and an fdatasync of a plain file. Both in turn, in one run, on one disk.
//!
//! `bench-store [DIR]`
#![allow(clippy::print_stdout)] // what it says is its result

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cutover_coordinator::store::{Batch, Key, Options, Probe, Store, Table};

const ROUNDS: u64 = 2000;
const WARM_UP: u64 = 100;
const BYTES: usize = 1024;
const TOGETHER: usize = 64;

fn main() -> anyhow::Result<()> {
    let dir = match std::env::args().nth(1) {
        Some(dir) => tempfile::tempdir_in(Path::new(&dir))?,
        None => tempfile::tempdir_in(".")?,
    };
    let store = Store::open(&dir.path().join("state"), &Options::new(Probe::Here))?.store;
    let mut file = std::fs::File::create(dir.path().join("plain"))?;
    let text = "x".repeat(BYTES);
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS + WARM_UP {
        let batch = Batch::new().put(Table::Facts, Key::of("r").number(number), &text);
        let began = Instant::now();
        store.write_blocking(batch)?;
        let took = began.elapsed();
        let began = Instant::now();
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        if number >= WARM_UP {
            plain.push(began.elapsed());
            ours.push(took);
        }
    }
    let (ours, plain) = (Percentiles::of(ours), Percentiles::of(plain));
    println!(
        "durable transition   p50 {:>5} us   p99 {:>5} us",
        ours.p50, ours.p99
    );
    println!(
        "append + fdatasync   p50 {:>5} us   p99 {:>5} us",
        plain.p50, plain.p99
    );
    println!(
        "ratio of p50         {:.2}",
        ours.p50 as f64 / plain.p50.max(1) as f64
    );

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    let began = Instant::now();
    runtime.block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..TOGETHER {
            let (store, text) = (store.clone(), text.clone());
            writers.spawn(async move {
                for number in 0..100 {
                    let key = Key::of(format!("w{writer}")).number(number);
                    store
                        .write(Batch::new().put(Table::Facts, key, &text))
                        .await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = writers.join_next().await {
            done??;
        }
        anyhow::Ok(())
    })?;
    let each = (TOGETHER * 100) as f64 / began.elapsed().as_secs_f64();
    println!("{TOGETHER} writers at once   {each:.0} durable transitions/s");

    let began = Instant::now();
    runtime.block_on(store.snapshot())?;
    println!(
        "snapshot of {} records of {BYTES} bytes: {:?}",
        ROUNDS as usize + TOGETHER * 100,
        began.elapsed()
    );
    Ok(())
}

struct Percentiles {
    p50: u128,
    p99: u128,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |share: usize| {
            times
                .get(times.len() * share / 100)
                .map_or(0, Duration::as_micros)
        };
        Self {
            p50: at(50),
            p99: at(99),
        }
    }
}
