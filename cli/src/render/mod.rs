//! The only place that prints: standard output for data, standard error for
//! words to people.
//!
//! Kept true: with JSON asked for, standard output holds JSON alone, one value
//! a line; a reader that went away (`| head`) is no failure.

pub(crate) mod json;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod sentence;
pub(crate) mod tables;
pub(crate) mod words;

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::progress::Progress;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Words for people
    Text,
    /// JSON on standard output
    Json,
}

/// Where this run prints, and how.
pub(crate) struct Output {
    format: Format,
    moving: bool,
    color: bool,
    zone: TimeZone,
    gone: Cell<bool>,
}

impl Output {
    /// As the process's outputs and environment allow.
    pub(crate) fn new(format: Format, environment: &Environment) -> Self {
        let terminal = match format {
            Format::Text => io::stdout().is_terminal(),
            Format::Json => io::stderr().is_terminal(),
        };
        let moving = terminal && !environment.is_ci();
        Self {
            format,
            moving,
            color: moving && !environment.no_color(),
            zone: TimeZone::system(),
            gone: Cell::new(false),
        }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Nobody reads standard output any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Data: a text of one or more lines, or nothing.
    pub(crate) fn data(&self, text: &str) {
        let text = text.trim_end_matches('\n');
        if text.is_empty() {
            return;
        }
        let mut out = io::stdout().lock();
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            self.gone.set(true);
        }
    }

    /// Data: one value of JSON, on a line.
    pub(crate) fn value<T: Serialize>(&self, value: &T) {
        if let Ok(text) = serde_json::to_string(value) {
            self.data(&text);
        }
    }

    /// Data in the format that was asked for; the text is made only when needed.
    pub(crate) fn show<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) {
        match self.format {
            Format::Json => self.value(value),
            Format::Text => self.data(&text()),
        }
    }

    /// What there is no other data for: words on standard output, unless JSON is there.
    pub(crate) fn result(&self, words: &str) {
        match self.format {
            Format::Json => self.say(words),
            Format::Text => self.data(words),
        }
    }

    /// Words for people.
    pub(crate) fn say(&self, words: &str) {
        let words = words.trim_end_matches('\n');
        if !words.is_empty() {
            // Whether a person still reads changes nothing of what is done.
            let _ = writeln!(io::stderr().lock(), "{words}");
        }
    }

    /// A warning.
    pub(crate) fn warn(&self, words: &str) {
        self.say(&format!("warning: {words}"));
    }

    /// Clears the terminal before the next picture; nothing elsewhere.
    pub(crate) fn clear(&self) {
        if self.moving && !self.is_json() {
            self.data("\x1b[H\x1b[2J");
        }
    }

    /// The zone of the times that people are shown.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Shows how rollouts go on: redrawn on a terminal, lines elsewhere.
    pub(crate) fn progress(&self) -> Progress<'_> {
        Progress::new(self, self.moving, self.color)
    }

    /// Says why a command failed; gives its exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        let exit = failure.kind.exit();
        if self.is_json() {
            self.value(&json::error(failure));
        }
        for problem in &failure.problems {
            self.say(&problem.to_string());
        }
        self.say(&format!("error: {}", failure.chain()));
        if !failure.next.is_empty() {
            self.say(&format!("  next: {}", failure.next));
        }
        exit
    }

    /// Says what clap has to say: help on standard output, mistakes on standard error.
    pub(crate) fn usage(&self, error: &clap::Error) -> Exit {
        let mistake = error.use_stderr();
        if mistake && self.is_json() {
            self.value(&json::usage_error(&error.render().to_string()));
        }
        let _ = error.print(); // as above
        if mistake { Exit::Usage } else { Exit::Done }
    }
}

/// Now, for people; nothing is decided by it.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
