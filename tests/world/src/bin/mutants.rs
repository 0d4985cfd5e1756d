//! Removes each named guard of the machines in turn; some world must break a promise.
//!
//! `mutants [--seeds N] [--only Guard]`. A guard that no world misses is a survivor:
//! exit 1, unless it is on the short list here, with the reason.

use std::io::{self, Write};
use std::process::ExitCode;

use cutover_core::guard::{Guard, remove};
use cutover_world::many;

/// Worlds that a mutant is tried in.
const SEEDS: u64 = 20_000;

/// Guards that no world can miss, and why they stay.
const EXCUSED: &[(Guard, &str)] = &[];

fn main() -> ExitCode {
    match hunt(&mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn hunt(out: &mut impl Write) -> io::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let seeds = value("--seeds")
        .and_then(|text| text.parse().ok())
        .unwrap_or(SEEDS);
    let only = value("--only");
    let mut survivors = Vec::new();
    for guard in Guard::ALL {
        let name = format!("{guard:?}");
        if only.is_some_and(|only| *only != name) {
            continue;
        }
        let all = many(0, seeds, 1, || remove(Some(*guard)));
        let excuse = EXCUSED.iter().find(|(excused, _)| excused == guard);
        match (all.broken.first(), excuse) {
            (Some(ran), _) => {
                let breach = ran.breach.as_ref();
                let promise =
                    breach.map_or_else(String::new, |breach| format!("{:?}", breach.promise));
                writeln!(out, "{name:<24} caught by seed {:>6}: {promise}", ran.seed)?;
            }
            (None, Some((_, why))) => writeln!(out, "{name:<24} survives, excused: {why}")?,
            (None, None) => {
                writeln!(out, "{name:<24} SURVIVES {seeds} worlds")?;
                survivors.push(name);
            }
        }
        out.flush()?;
    }
    writeln!(
        out,
        "{} guards, {} survivors {survivors:?}",
        Guard::ALL.len(),
        survivors.len()
    )?;
    Ok(survivors.is_empty())
}
