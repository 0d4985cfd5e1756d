//! Whole hosts: machines that boot systemd, the packages installed on them, and everything that happens to a server.
//! Each scenario begins with a fleet that is well, ends with one that is, and says what it cost its clients.
//!
//! ```text
//! hosts DEBS                  every scenario; prints the table
//! hosts DEBS --part           those that CI runs
//! hosts DEBS --only reboot    those whose name has this word
//! hosts DEBS --list           their names
//! hosts DEBS --previous DIR    with packages of the release before, for what two of them do together
//! hosts DEBS --schedules 200  so many random schedules of faults instead; --seed N begins elsewhere,
//!                             --fleets N plays that many at a time
//! ```
#![allow(clippy::print_stdout, reason = "its output is the table")]

mod certificates;
mod clocks;
mod first_try;
mod fleet;
mod identities;
mod network;
mod packages;
mod releases;
mod scenario;
mod schedules;
mod servers;
mod skew;
mod table;

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use cutover_tests::bed::Bed;
use cutover_tests::process;

use scenario::{Scenario, all};

struct Asked {
    debs: PathBuf,
    previous: Option<PathBuf>,
    part: bool,
    list: bool,
    only: Vec<String>,
    /// So many of them instead of scenarios.
    schedules: Option<u64>,
    seed: u64,
    fleets: NonZeroUsize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(problem) => {
            println!("hosts: {problem}");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<Scenario> = all()
        .into_iter()
        .filter(|one| !asked.part || one.part)
        .filter(|one| {
            asked.only.is_empty() || asked.only.iter().any(|word| one.name.contains(word))
        })
        .collect();
    if chosen.is_empty() {
        println!("hosts: no scenario has these words; --list names them");
        return ExitCode::from(2);
    }
    if asked.list {
        for one in chosen {
            println!("{}{}", one.name, if one.part { "  (CI)" } else { "" });
        }
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED whole hosts: needs root, for machines that boot systemd");
        return ExitCode::SUCCESS;
    }
    // Root file systems take a minute to make, and are the same every time.
    let cache = process::target().join("hosts");
    let well = match asked.schedules {
        Some(schedules) => tokio::task::block_in_place(|| {
            schedules::run(&schedules::Asked {
                schedules,
                seed: asked.seed,
                fleets: asked.fleets,
                debs: asked.debs,
                cache,
            })
        }),
        None => tell(&cache, &asked, chosen).await,
    };
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Every scenario chosen, and the table; says whether all went well.
async fn tell(cache: &Path, asked: &Asked, chosen: Vec<Scenario>) -> bool {
    let began = Instant::now();
    let bed = Bed::make(cache).await;
    println!(
        "the bed is made after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let rows = scenario::run(&bed, &asked.debs, asked.previous.as_deref(), chosen).await;
    table::print(&rows, began.elapsed());
    rows.iter().all(|row| row.result.is_ok())
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        debs: PathBuf::new(),
        previous: None,
        part: false,
        list: false,
        only: Vec::new(),
        schedules: None,
        seed: 1,
        fleets: NonZeroUsize::MIN,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--part" => asked.part = true,
            "--list" => asked.list = true,
            "--schedules" => asked.schedules = Some(number(&word, words.next())?),
            "--seed" => asked.seed = number(&word, words.next())?,
            "--fleets" => asked.fleets = number(&word, words.next())?,
            "--previous" => {
                asked.previous = Some(words.next().ok_or("--previous wants a folder")?.into());
            }
            "--only" => asked.only.push(words.next().ok_or("--only wants a word")?),
            debs if !debs.starts_with('-') && asked.debs.as_os_str().is_empty() => {
                asked.debs = debs.into();
            }
            other => {
                return Err(format!(
                    "{other:?} is not known; hosts DEBS [--part] [--list] [--only WORD] [--previous DIR] [--schedules N] [--seed N] [--fleets N]"
                ));
            }
        }
    }
    for debs in [Some(&asked.debs), asked.previous.as_ref()]
        .into_iter()
        .flatten()
    {
        if !asked.list && !debs.is_dir() {
            return Err(format!(
                "{debs:?} is no folder of packages: make deb makes one"
            ));
        }
    }
    Ok(asked)
}

fn number<T: FromStr<Err: Display>>(option: &str, word: Option<String>) -> Result<T, String> {
    let word = word.ok_or_else(|| format!("{option} wants a number"))?;
    word.parse()
        .map_err(|error| format!("{option} {word:?}: {error}"))
}
