//! Every phase of a real swap × every fault: real Docker, real nginx, real
//! programs. Cells are tried side by side, each on a stand of its own, and held to
//! what [`table`] says may come of them.
//!
//! ```text
//! faults                      every cell; prints the table
//! faults --sample 8           so many, chosen by the day
//! faults --only serving       cells of a phase, or a fault ("B dies"), or both
//! ```
#![allow(clippy::print_stdout, reason = "its output is the table")]

mod cell;
mod stand;
mod table;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use cutover_core::swap::Phase;

use cell::Seen;
use stand::Stand;
use table::{Expected, Fault, expected};

/// Stands side by side, where nothing else was said.
const STANDS: usize = 5;

type Cell = (Phase, Fault, Expected);
type Results = BTreeMap<(Phase, Fault), Result<Seen, String>>;

struct Asked {
    sample: Option<usize>,
    only: Vec<String>,
    stands: usize,
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(problem) => {
            println!("faults: {problem}");
            return ExitCode::from(2);
        }
    };
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED every phase × every fault: needs root, for a Docker engine and nginx");
        return ExitCode::SUCCESS;
    }
    let cells = chosen(&asked);
    let began = Instant::now();
    let results = try_all(cells.clone(), asked.stands.min(cells.len()));
    print(&results);
    let wrong: Vec<String> = results
        .iter()
        .filter_map(|((phase, fault), result)| {
            let why = result.as_ref().err()?;
            Some(format!("{} × {}: {why}", phase.as_str(), fault.as_str()))
        })
        .collect();
    println!(
        "\n{} cells in {} s, {} wrong",
        results.len(),
        began.elapsed().as_secs(),
        wrong.len()
    );
    for line in &wrong {
        println!("WRONG  {line}");
    }
    if wrong.is_empty() && results.len() == cells.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        sample: None,
        only: Vec::new(),
        stands: STANDS,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: String| {
            let number = text.parse::<usize>();
            number.map_err(|error| format!("{text:?}: {error}"))
        };
        match word.as_str() {
            "--sample" => asked.sample = Some(number(value()?)?),
            "--stands" => asked.stands = number(value()?)?.max(1),
            "--only" => asked.only.push(value()?),
            other => {
                return Err(format!(
                    "{other:?} is not known; --sample N, --only WORD, --stands N"
                ));
            }
        }
    }
    let names = |word: &String| {
        Phase::ALL.iter().any(|phase| phase.as_str() == word)
            || Fault::ALL.iter().any(|fault| fault.as_str() == word)
    };
    match asked.only.iter().find(|word| !names(word)) {
        Some(word) => Err(format!("{word:?} is neither a phase nor a fault")),
        None => Ok(asked),
    }
}

/// The cells to try, in the order of the table, or so many drawn by the day.
fn chosen(asked: &Asked) -> Vec<Cell> {
    let wanted = |word: &str, all: &mut dyn Iterator<Item = &'static str>| {
        let known: Vec<&str> = all.collect();
        let named: Vec<&String> = asked
            .only
            .iter()
            .filter(|only| known.contains(&only.as_str()))
            .collect();
        named.is_empty() || named.iter().any(|only| *only == word)
    };
    let mut cells: Vec<Cell> = Phase::ALL
        .into_iter()
        .flat_map(|phase| Fault::ALL.map(|fault| (phase, fault)))
        .filter(|(phase, fault)| {
            wanted(
                phase.as_str(),
                &mut Phase::ALL.iter().map(|one| one.as_str()),
            ) && wanted(
                fault.as_str(),
                &mut Fault::ALL.iter().map(|one| one.as_str()),
            )
        })
        .filter_map(|(phase, fault)| Some((phase, fault, expected(phase, fault)?)))
        .collect();
    if let Some(count) = asked.sample {
        let mut seed = today();
        println!(
            "the cells of day {seed}; make faults tries all {}",
            cells.len()
        );
        let mut drawn = Vec::new();
        while drawn.len() < count && !cells.is_empty() {
            // Knuth's multiplier; any spread will do.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = usize::try_from(seed >> 33).unwrap_or(0) % cells.len();
            drawn.push(cells.swap_remove(place));
        }
        return drawn;
    }
    cells
}

/// Days since 1970.
fn today() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / 86_400)
}

fn try_all(cells: Vec<Cell>, stands: usize) -> Results {
    let left = Arc::new(Mutex::new(cells));
    let results = Arc::new(Mutex::new(Results::new()));
    let threads: Vec<_> = (0..stands)
        .map(|_| {
            let (left, results) = (Arc::clone(&left), Arc::clone(&results));
            std::thread::spawn(move || work(&left, &results))
        })
        .collect();
    for thread in threads {
        let _ = thread.join(); // a stand that panicked has said so; its cell is missing, and that fails the run
    }
    std::mem::take(&mut *results.lock().expect("no thread panics while it writes"))
}

fn work(left: &Mutex<Vec<Cell>>, results: &Mutex<Results>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut stand: Option<Stand> = None;
        loop {
            let Some((phase, fault, expected)) = left.lock().expect("whole").pop() else {
                return;
            };
            let mut on = match stand.take() {
                Some(stand) => stand,
                None => Stand::new().await,
            };
            let result = cell::try_it(&mut on, phase, fault, expected).await;
            let word = match &result {
                Ok(seen) => format!(
                    "{}, {} of {} lost, {:.1} s",
                    seen.end.as_str(),
                    seen.lost,
                    seen.sent,
                    seen.took.as_secs_f64()
                ),
                Err(_) => "WRONG".to_owned(),
            };
            println!("{} × {}: {word}", phase.as_str(), fault.as_str());
            if result.is_ok() {
                stand = Some(on);
            } else {
                println!("  its logs: {}", on.fleet.path().display());
            }
            results
                .lock()
                .expect("whole")
                .insert((phase, fault), result);
        }
    });
}

/// As Markdown, for the docs.
fn print(results: &Results) {
    println!();
    let heads = Fault::ALL.map(Fault::as_str).join(" | ");
    println!("| phase | {heads} |");
    println!("|---|{}", "---|".repeat(Fault::ALL.len()));
    for phase in Phase::ALL {
        let cells = Fault::ALL.map(|fault| match results.get(&(phase, fault)) {
            Some(Ok(seen)) if seen.lost == 0 => seen.end.as_str().to_owned(),
            Some(Ok(seen)) => format!("{}, {} lost", seen.end.as_str(), seen.lost),
            Some(Err(_)) => "WRONG".to_owned(),
            None if expected(phase, fault).is_none() => "–".to_owned(),
            None => " ".to_owned(),
        });
        println!("| {} | {} |", phase.as_str(), cells.join(" | "));
    }
    let slowest = results
        .values()
        .flatten()
        .map(|seen| seen.took)
        .max()
        .unwrap_or(Duration::ZERO);
    println!("\nslowest cell: {:.1} s", slowest.as_secs_f64());
}
