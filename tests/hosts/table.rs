//! What came of the scenarios, as Markdown for the docs.

use std::time::Duration;

/// How many requests were sent and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
}

/// What a scenario found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// In a sentence.
    pub(crate) outcome: String,
    /// At hosts that nothing was done to, or that must lose nothing.
    pub(crate) spared: Count,
    /// At hosts that were down, which nobody can excuse from losing what is sent there.
    pub(crate) struck: Count,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) result: Result<Found, String>,
    pub(crate) took: Duration,
}

impl Row {
    /// In a sentence.
    pub(crate) fn outcome(&self) -> &str {
        self.result.as_ref().map_or("WRONG", |found| &found.outcome)
    }

    /// Requests, as the table has them.
    pub(crate) fn requests(&self) -> String {
        let Ok(found) = &self.result else {
            return "?".to_owned();
        };
        let of = |count: Count| format!("{} of {}", count.lost, count.sent);
        match (found.spared.sent, found.struck.sent) {
            (0, 0) => "–".to_owned(),
            (_, 0) => of(found.spared),
            (0, _) => format!("where it struck {}", of(found.struck)),
            (_, _) => format!("{}; where it struck {}", of(found.spared), of(found.struck)),
        }
    }
}

/// Prints all of it.
pub(crate) fn print(rows: &[Row], took: Duration) {
    println!("\n| what happens | what comes of it | requests lost | time |\n|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} | {:.1} s |",
            row.name,
            row.outcome(),
            row.requests(),
            row.took.as_secs_f64()
        );
    }
    let wrong: Vec<&Row> = rows.iter().filter(|row| row.result.is_err()).collect();
    println!(
        "\n{} scenarios in {} s, {} wrong",
        rows.len(),
        took.as_secs(),
        wrong.len()
    );
    for row in wrong {
        if let Err(why) = &row.result {
            println!("WRONG  {}: {why}", row.name);
        }
    }
}
