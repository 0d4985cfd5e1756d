//! A process that writes to a store until it is killed, and says of each write,
//! once it is acknowledged, `acked KEY`. Whoever killed it checks that what was
//! acknowledged is there.
//!
//! `store-writer write STATE TAG [snapshots] [no-fdatasync]` · `store-writer store-probe DIR`
//!
//! Several writers work at once, so that groups form; each also overwrites a
//! record of its own, so that the database has something to tidy up.
#![allow(clippy::print_stdout)] // what it says is its result

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use cutover_coordinator::store::{Batch, Key, Options, Probe, Store, Table, probe_main};

const WRITERS: u64 = 4;

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == word);
    match args.first().map(String::as_str) {
        Some("store-probe") => Ok(probe_main(Path::new(
            args.get(1).context("store-probe DIR")?,
        ))),
        Some("write") => {
            let state = args.get(1).context("write STATE TAG")?;
            let tag = args.get(2).context("write STATE TAG")?;
            let mut options = Options::new(Probe::own("store-probe")?);
            options.reserve = 1 << 20;
            if has("no-fdatasync") {
                options = options.losing_everything_in_a_power_cut();
            }
            let store = Store::open(Path::new(state), &options)?.store;
            say("ready")?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .build()?;
            runtime.block_on(write(store, tag, has("snapshots")))?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("store-writer write STATE TAG [snapshots] [no-fdatasync] | store-probe DIR"),
    }
}

async fn write(store: Store, tag: &str, snapshots: bool) -> anyhow::Result<()> {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, name) = (store.clone(), format!("{tag}-{writer}"));
        writers.spawn(async move {
            for number in 0_u64.. {
                let key = format!("{name}-{number:06}");
                let batch = Batch::new()
                    .put(
                        Table::Facts,
                        Key::of(&name).number(number),
                        &text(&key, number),
                    )
                    .put(Table::Desks, Key::of(&name), &text(&key, number))
                    .raise_counter(Key::of(&name), number + 1)
                    .event(&key);
                store.write(batch).await?;
                say(&format!("acked {key}"))?;
                if snapshots && number % 100 == 50 {
                    store.snapshot().await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

/// What is kept under `key`: of different sizes, some beyond one piece.
fn text(key: &str, number: u64) -> String {
    let times = if number % 50 == 7 { 900 } else { 60 };
    key.repeat(times)
}

/// In one write, so that lines of writers do not mix and none is left behind.
fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
