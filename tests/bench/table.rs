//! The table of figures, for people and as JSON.

use serde_json::json;

use crate::machine::Machine;
use crate::spread::Spread;

/// One line of the table.
pub(crate) struct Row {
    /// As it is asked for.
    pub(crate) figure: &'static str,
    /// From what to what.
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) measured: Spread,
    /// What it is compared to, in the same unit.
    pub(crate) beside: Option<(&'static str, Spread)>,
    pub(crate) limit: Limit,
    /// What else was seen on the way.
    pub(crate) notes: Vec<String>,
}

/// What the median may be at most.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// This.
    AtMost(f64),
    /// So many times the peer's median.
    Times(f64),
    /// It is told, and nothing is asked of it.
    None,
}

impl Row {
    /// Whether the median is within the limit.
    pub(crate) fn holds(&self) -> bool {
        match (self.limit, self.ratio()) {
            (Limit::AtMost(most), _) => self.measured.median() <= most,
            (Limit::Times(most), Some(ratio)) => ratio <= most,
            (Limit::Times(_), None) => false,
            (Limit::None, _) => true,
        }
    }

    fn ratio(&self) -> Option<f64> {
        let (_, beside) = self.beside.as_ref()?;
        Some(self.measured.median() / beside.median())
    }

    /// In one line, for those who wait for the whole table.
    pub(crate) fn line(&self) -> String {
        self.cells().join(" | ")
    }

    fn cells(&self) -> [String; 8] {
        let limit = match self.limit {
            Limit::AtMost(most) => format!("{} {}", number(most), self.unit),
            Limit::Times(most) => format!("{most:.1} ×"),
            Limit::None => "none".to_owned(),
        };
        let (beside, peer) = self.beside.as_ref().map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |(what, spread)| {
                (
                    format!("{} {}", number(spread.median()), self.unit),
                    (*what).to_owned(),
                )
            },
        );
        [
            format!("{}: {}", self.figure, self.what),
            format!("{} {}", number(self.measured.median()), self.unit),
            number(self.measured.worst()),
            self.measured.rounds().to_string(),
            if peer == "-" {
                beside
            } else {
                format!("{beside} ({peer})")
            },
            self.ratio()
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            limit,
            match (self.limit, self.holds()) {
                (Limit::None, _) => "-",
                (_, true) => "held",
                (_, false) => "NOT HELD",
            }
            .to_owned(),
        ]
    }
}

/// A Markdown table that can be read as it is.
pub(crate) fn text(machine: &Machine, rows: &[Row]) -> String {
    let heads = [
        "figure", "median", "worst", "n", "beside", "ratio", "limit", "",
    ]
    .map(str::to_owned);
    let lines: Vec<[String; 8]> = std::iter::once(heads)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let mut widths = [0; 8];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = format!("{}\n\n", machine.line());
    for (index, line) in lines.iter().enumerate() {
        let cells = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!(" {cell:<width$} |"));
        text.push_str(&format!("|{}\n", cells.collect::<String>()));
        if index == 0 {
            let rule = widths.map(|width| format!("{}|", "-".repeat(width + 2)));
            text.push_str(&format!("|{}\n", rule.concat()));
        }
    }
    for row in rows {
        for note in &row.notes {
            text.push_str(&format!("\n{}: {note}", row.figure));
        }
    }
    text
}

/// The same for programs.
pub(crate) fn json(machine: &Machine, rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let spread = |spread: &Spread| json!({"median": spread.median(), "worst": spread.worst(), "rounds": spread.rounds()});
            json!({
                "figure": row.figure,
                "what": row.what,
                "unit": row.unit,
                "measured": spread(&row.measured),
                "beside": row.beside.as_ref().map(|(what, beside)| json!({"what": what, "measured": spread(beside)})),
                "ratio": row.ratio(),
                "limit": match row.limit {
                    Limit::AtMost(most) => json!({"at_most": most}),
                    Limit::Times(most) => json!({"times": most}),
                    Limit::None => json!(null),
                },
                "held": row.holds(),
                "notes": row.notes,
            })
        })
        .collect();
    let value = json!({"machine": machine.line(), "figures": rows});
    format!("{value:#}\n")
}

/// As many places as tell something.
fn number(value: f64) -> String {
    if value == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measured: f64, beside: Option<f64>, limit: Limit) -> Row {
        Row {
            figure: "swap",
            what: "all of it",
            unit: "ms",
            measured: Spread::of([measured]),
            beside: beside.map(|value| ("by hand", Spread::of([value]))),
            limit,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_limit_is_held_by_the_median_or_it_is_said_not_to_be() {
        assert!(row(130.0, Some(100.0), Limit::Times(1.3)).holds());
        assert!(!row(131.0, Some(100.0), Limit::Times(1.3)).holds());
        assert!(!row(1.0, None, Limit::Times(1.3)).holds());
        assert!(row(60.0, None, Limit::AtMost(60.0)).holds());
        assert!(row(61.0, None, Limit::AtMost(60.0)).cells()[7].contains("NOT HELD"));
    }
}
