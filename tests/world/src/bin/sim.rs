//! Runs worlds, one a seed, and says which promise broke in which.
//!
//! `sim --seeds N [--from S] [--most M]` runs many; `sim --seed S [--trace]` replays one.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use cutover_world::{Ran, many, run};

/// Lines of a broken world's transcript that are shown.
const TAIL: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let trace = arguments.iter().any(|argument| argument == "--trace");
    let out = &mut io::stdout().lock();
    let said = match number("--seed") {
        Some(seed) => replay(out, seed, trace),
        None => explore(
            out,
            number("--from").unwrap_or(0),
            number("--seeds").unwrap_or(1_000),
            number("--most").unwrap_or(1),
        ),
    };
    match said {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn replay(out: &mut impl Write, seed: u64, trace: bool) -> io::Result<bool> {
    let ran = run(seed, true);
    let skip = if trace {
        0
    } else {
        ran.transcript.len().saturating_sub(TAIL)
    };
    for line in &ran.transcript[skip..] {
        writeln!(out, "{line}")?;
    }
    tell_breach(out, &ran)?;
    Ok(ran.breach.is_none())
}

fn explore(out: &mut impl Write, from: u64, seeds: u64, most: u64) -> io::Result<bool> {
    let began = Instant::now();
    let all = many(from, seeds, usize::try_from(most).unwrap_or(1), || ());
    let took = began.elapsed().as_secs_f64();
    writeln!(out, "{}", all.tally)?;
    writeln!(
        out,
        "{} worlds, {} steps in {took:.1} s: {:.0} worlds/s",
        all.ran,
        all.tally.steps,
        all.ran as f64 / took
    )?;
    if all.broken.is_empty() {
        return Ok(true);
    }
    let mut kinds: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for ran in &all.broken {
        if let Some(breach) = &ran.breach {
            let what: String = breach
                .what
                .chars()
                .filter(|c| !c.is_ascii_digit())
                .take(60)
                .collect();
            kinds
                .entry(format!("{:?} {what}", breach.promise))
                .or_default()
                .push(ran.seed);
        }
    }
    for (kind, seeds) in &kinds {
        writeln!(
            out,
            "{:>5} × {kind}: {:?}",
            seeds.len(),
            &seeds[..seeds.len().min(6)]
        )?;
    }
    if let (1, Some(first)) = (most, all.broken.first()) {
        replay(out, first.seed, false)?;
    }
    Ok(false)
}

fn tell_breach(out: &mut impl Write, ran: &Ran) -> io::Result<()> {
    if let Some(breach) = &ran.breach {
        writeln!(
            out,
            "\nseed {} breaks {:?}: {}",
            ran.seed, breach.promise, breach.what
        )?;
        writeln!(
            out,
            "replay: cargo run -p cutover-world --bin sim -- --seed {} --trace",
            ran.seed
        )?;
    }
    Ok(())
}
