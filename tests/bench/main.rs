//! What Cutover takes, each figure beside its limit and, where it has one, its peer: all measured in this run.
//!
//! `bench [FIGURE]… [--quick] [--json FILE]`. It keeps true: what is compared was measured in turn on the same machine
//! in the same minutes; a limit that does not hold ends it with 1. It starts what it needs and leaves nothing behind.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement prints, and panics when it cannot be taken"
)]

mod agent_log;
mod bad_release;
mod bare;
#[path = "../e2e/compose.rs"]
mod compose;
mod fleet;
mod idle;
#[path = "../link/mod.rs"]
mod link;
mod lossless;
mod machine;
mod reflex;
mod spread;
mod store;
mod swap;
mod switch;
mod table;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

use table::Row;

/// In the order in which they are taken: what takes long comes last.
const FIGURES: [&str; 8] = [
    "switch", "swap", "reflex", "release", "idle", "fleet", "store", "lossless",
];

/// What was asked for.
struct Wish {
    figures: Vec<String>,
    quick: bool,
    json: Option<PathBuf>,
}

/// How often a figure is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    quick: bool,
}

impl Rounds {
    /// `full`, or `quick` when in a hurry.
    pub(crate) fn of(self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    // This program again, as another process of a figure.
    if fleet::is_another_process() {
        runtime.block_on(fleet::run_other_process());
        return ExitCode::SUCCESS;
    }
    let wish = match wish(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!(
                "bench: {why}\nusage: bench [{}]… [--quick] [--json FILE]",
                FIGURES.join("|")
            );
            return ExitCode::from(2);
        }
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("bench: it starts Docker engines and nginx of its own, which needs root");
        return ExitCode::from(2);
    }
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build: its figures say nothing of a release");
    }
    runtime.block_on(run(&wish))
}

async fn run(wish: &Wish) -> ExitCode {
    let rounds = Rounds { quick: wish.quick };
    let mut rows: Vec<Row> = Vec::new();
    for figure in FIGURES {
        if !wish.figures.iter().any(|wanted| wanted == figure) {
            continue;
        }
        eprintln!("bench: {figure} …");
        let taken = match figure {
            "switch" => switch::measure(rounds).await,
            "swap" => swap::measure(rounds).await,
            "reflex" => reflex::measure(rounds).await,
            "release" => bad_release::measure(rounds).await,
            "idle" => idle::measure(rounds).await,
            "fleet" => fleet::measure().await,
            "store" => store::measure(rounds).await,
            _ => lossless::measure(rounds).await,
        };
        for row in &taken {
            eprintln!("bench: {}", row.line());
        }
        rows.extend(taken);
    }
    let machine = machine::described();
    println!("{}", table::text(&machine, &rows));
    if let Some(path) = &wish.json
        && let Err(problem) = std::fs::write(path, table::json(&machine, &rows))
    {
        eprintln!("bench: {}: {problem}", path.display());
        return ExitCode::FAILURE;
    }
    if rows.iter().all(Row::holds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn wish(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish {
        figures: Vec::new(),
        quick: false,
        json: None,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => wish.quick = true,
            "--json" => wish.json = Some(words.next().ok_or("--json names a file")?.into()),
            figure if FIGURES.contains(&figure) => wish.figures.push(word),
            other => return Err(format!("{other:?} is no figure and no option")),
        }
    }
    if wish.figures.is_empty() {
        wish.figures = FIGURES.map(str::to_owned).to_vec();
    }
    Ok(wish)
}
