//! Whole hosts: machines that boot systemd, the packages installed on them, and everything that happens to a server.
//! Each scenario begins with a fleet that is well, ends with one that is, and says what it cost its clients.
//!
//! ```text
//! hosts DEBS                  every scenario; prints the table
//! hosts DEBS --part           those that CI runs
//! hosts DEBS --only reboot    those whose name has this word
//! hosts DEBS --list           their names
//! hosts DEBS --schedules 200  so many random schedules of faults instead; --seed N begins elsewhere
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
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use cutover_tests::bed::Bed;
use cutover_tests::process;

use scenario::{Scenario, all};

struct Asked {
    debs: PathBuf,
    part: bool,
    list: bool,
    only: Vec<String>,
    schedules: u64,
    seed: u64,
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
    let began = Instant::now();
    // Root file systems take a minute to make, and are the same every time.
    let bed = Bed::make(&process::target().join("hosts")).await;
    println!(
        "the bed is made after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    if asked.schedules > 0 {
        let seeds = asked.seed..asked.seed + asked.schedules;
        return if schedules::run(&bed, &asked.debs, seeds).await {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let rows = scenario::run(&bed, &asked.debs, chosen).await;
    table::print(&rows, began.elapsed());
    if rows.iter().all(|row| row.result.is_ok()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        debs: PathBuf::new(),
        part: false,
        list: false,
        only: Vec::new(),
        schedules: 0,
        seed: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--part" => asked.part = true,
            "--list" => asked.list = true,
            "--schedules" => asked.schedules = number(words.next())?,
            "--seed" => asked.seed = number(words.next())?,
            "--only" => asked.only.push(words.next().ok_or("--only wants a word")?),
            debs if !debs.starts_with('-') && asked.debs.as_os_str().is_empty() => {
                asked.debs = debs.into();
            }
            other => {
                return Err(format!(
                    "{other:?} is not known; hosts DEBS [--part] [--list] [--only WORD] [--schedules N] [--seed N]"
                ));
            }
        }
    }
    if !asked.list && !asked.debs.is_dir() {
        return Err(format!(
            "{:?} is no folder of packages: make deb makes one",
            asked.debs
        ));
    }
    Ok(asked)
}

fn number(word: Option<String>) -> Result<u64, String> {
    let word = word.ok_or("--schedules and --seed want a number")?;
    word.parse().map_err(|error| format!("{word:?}: {error}"))
}
