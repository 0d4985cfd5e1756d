//! Checked access to the tree: what is asked for is typed, what nobody asked
//! for is reported.
//!
//! Keeps true: no field of a file is passed over in silence. A mapping is
//! opened as [`Fields`]; every key that was not taken when [`Fields::finish`]
//! comes is named in a problem.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::fields::{Known, Treatment};
use crate::hint;
use crate::node::{Entry, Kind, Node};
use crate::problem::{Log, Position, Severity};
use crate::units;

/// Longest wait that can be asked for: a rollout that takes longer is forgotten.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// A value with its place and its path.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub(crate) node: &'a Node,
    /// Where its key stands (of a list item: the item itself).
    pub(crate) at: &'a Position,
    pub(crate) path: String,
    pub(crate) log: &'a Log,
}

impl<'a> Field<'a> {
    pub(crate) fn error(&self, what: impl Into<String>, advice: impl Into<String>) {
        self.say(Severity::Error, what, advice);
    }

    pub(crate) fn warn(&self, what: impl Into<String>, advice: impl Into<String>) {
        self.say(Severity::Warning, what, advice);
    }

    pub(crate) fn note(&self, what: impl Into<String>, advice: impl Into<String>) {
        self.say(Severity::Note, what, advice);
    }

    fn say(&self, severity: Severity, what: impl Into<String>, advice: impl Into<String>) {
        if !self.node.scalar().is_some_and(|scalar| scalar.broken) {
            self.log
                .say(severity, Some(self.at), &self.path, what, advice);
        }
    }

    /// "is not acted on: …".
    pub(crate) fn ignored(&self, why: &str) {
        self.warn(format!("is not acted on: {why}"), "");
    }

    /// What stands there, for messages; never the value of a variable.
    pub(crate) fn shown(&self) -> String {
        match self.node.scalar() {
            Some(scalar) => format!("\"{}\"", scalar.shown().escape_debug()),
            None => self.node.sort().to_owned(),
        }
    }

    /// A single value as text.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(scalar) if scalar.text.contains('\0') => {
                self.error("holds a NUL character", "");
                None
            }
            Kind::Scalar(scalar) => Some(&scalar.text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => {
                self.error(
                    format!("is {}, but must be a single value", self.node.sort()),
                    "",
                );
                None
            }
        }
    }

    /// A single value that is not empty.
    pub(crate) fn word(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.is_empty() {
            self.error("is empty", "");
            return None;
        }
        Some(text)
    }

    fn parsed<T>(
        &self,
        parse: impl Fn(&str) -> Option<T>,
        wanted: &str,
        example: &str,
    ) -> Option<T> {
        let value = parse(self.text()?);
        if value.is_none() {
            self.error(
                format!("is {}, but must be {wanted}", self.shown()),
                example,
            );
        }
        value
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        self.parsed(units::boolean, "true or false", "")
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        self.parsed(
            units::duration,
            "a duration",
            "write it with units, like 1m30s or 500ms",
        )
    }

    /// A duration that somebody waits for, of a rollout or a check.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let wait = self.duration()?;
        if wait > MAX_WAIT {
            self.error(
                format!("is {}, but at most 24h are waited", self.shown()),
                "",
            );
            return None;
        }
        Some(wait)
    }

    pub(crate) fn bytes(&self) -> Option<i64> {
        self.parsed(units::bytes, "a size", "write it like 64m or 1gb")
    }

    pub(crate) fn cpus(&self) -> Option<i64> {
        self.parsed(units::cpus, "a number of CPUs", "write it like 0.5 or 2")
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn number(&self, least: i64, most: i64) -> Option<i64> {
        let wanted = format!("a whole number from {least} to {most}");
        self.parsed(
            |text| {
                text.trim()
                    .parse()
                    .ok()
                    .filter(|n| (least..=most).contains(n))
            },
            &wanted,
            "",
        )
    }

    /// A whole number from `least` to `most`, small.
    pub(crate) fn count(&self, least: u32, most: u32) -> Option<u32> {
        u32::try_from(self.number(least.into(), most.into())?).ok()
    }

    /// A port number.
    pub(crate) fn port(&self) -> Option<u16> {
        u16::try_from(self.number(1, 65535)?).ok()
    }

    /// One of some words; what it stands for.
    pub(crate) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let advice = hint::did_you_mean(text, words.iter().copied());
        self.error(
            format!(
                "is {}, but must be one of {}",
                self.shown(),
                words.join(", ")
            ),
            advice,
        );
        None
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Vec<Self> {
        match &self.node.kind {
            Kind::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, node)| self.item(index, node))
                .collect(),
            Kind::Null => Vec::new(),
            Kind::Scalar(_) | Kind::Map(_) => {
                self.error(format!("is {}, but must be a list", self.node.sort()), "");
                Vec::new()
            }
        }
    }

    /// The items of a list; a single value is a list of one.
    pub(crate) fn one_or_more(&self) -> Vec<Self> {
        if self.node.scalar().is_some() {
            vec![self.clone()]
        } else {
            self.items()
        }
    }

    /// The items of a list of texts.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.items()
            .iter()
            .filter_map(Self::text)
            .map(str::to_owned)
            .collect()
    }

    /// `{name: value}` or `["name=value"]`: each name with its value's field
    /// and text; `None`: the name alone.
    pub(crate) fn pairs(&self, separators: &[char]) -> Vec<(Self, String, Option<String>)> {
        if let Kind::Map(entries) = &self.node.kind {
            return entries
                .iter()
                .filter_map(|entry| {
                    let field = self.entry(entry);
                    let value = match &entry.value.kind {
                        Kind::Null => None,
                        Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => {
                            Some(field.text()?.to_owned())
                        }
                    };
                    Some((field, entry.key.clone(), value))
                })
                .collect();
        }
        if self.node.scalar().is_some() {
            self.error("is a single value, but must be a mapping or a list", "");
            return Vec::new();
        }
        self.items()
            .into_iter()
            .filter_map(|field| {
                let text = field.text()?;
                let (name, value) = match text.split_once(separators) {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (text, None),
                };
                let name = name.to_owned();
                Some((field, name, value))
            })
            .collect()
    }

    /// Opens a mapping.
    pub(crate) fn fields(&self) -> Option<Fields<'a>> {
        let entries = match &self.node.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Null => &[],
            Kind::Scalar(_) | Kind::List(_) => {
                self.error(
                    format!("is {}, but must be a mapping", self.node.sort()),
                    "",
                );
                return None;
            }
        };
        Some(Fields {
            of: self.clone(),
            entries,
            asked: RefCell::default(),
        })
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        Self {
            node,
            at: &node.at,
            path: format!("{}[{index}]", self.path),
            log: self.log,
        }
    }

    fn entry(&self, entry: &'a Entry) -> Self {
        let path = if self.path.is_empty() {
            entry.key.clone()
        } else {
            format!("{}.{}", self.path, entry.key)
        };
        Self {
            node: &entry.value,
            at: &entry.at,
            path,
            log: self.log,
        }
    }
}

/// A mapping that is being read.
pub(crate) struct Fields<'a> {
    pub(crate) of: Field<'a>,
    entries: &'a [Entry],
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    /// The value of a key; nothing (`key:`) is as if it were not there.
    pub(crate) fn take(&self, key: &str) -> Option<Field<'a>> {
        self.take_even_null(key)
            .filter(|field| field.node.kind != Kind::Null)
    }

    /// The value of a key, which may be nothing.
    pub(crate) fn take_even_null(&self, key: &str) -> Option<Field<'a>> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| self.of.entry(entry))
    }

    /// The value of a key that must be there.
    pub(crate) fn must(&self, key: &str) -> Option<Field<'a>> {
        let field = self.take(key);
        if field.is_none() {
            self.of.error(format!("has no '{key}'"), "");
        }
        field
    }

    /// Every key with its value, `x-` ones left out: for mappings by name.
    pub(crate) fn all(&self) -> Vec<(&'a str, Field<'a>)> {
        self.entries
            .iter()
            .map(|entry| (entry.key.as_str(), self.of.entry(entry)))
            .collect()
    }

    /// Those that nobody asked for.
    pub(crate) fn unasked(&self) -> Vec<Field<'a>> {
        let asked = self.asked.borrow();
        self.entries
            .iter()
            .filter(|entry| !asked.contains(&entry.key))
            .map(|entry| self.of.entry(entry))
            .collect()
    }

    /// Says what was not taken. `known` are the fields that are treated
    /// without being read, and why.
    pub(crate) fn finish(&self, known: &[Known]) {
        let asked = self.asked.borrow();
        for entry in self
            .entries
            .iter()
            .filter(|entry| !asked.contains(&entry.key))
        {
            let field = self.of.entry(entry);
            let key = entry.key.as_str();
            if key.starts_with("x-") {
                if key == "x-cutover" {
                    field.error(
                        "is not acted on here",
                        "it belongs to a service or to the file",
                    );
                } else if hint::nearest(key, ["x-cutover"]).is_some() {
                    field.error("is not known", "did you mean 'x-cutover'?");
                }
                continue;
            }
            match known.iter().find(|known| known.name == key) {
                Some(known) if known.changes_nothing(field.node) => {}
                Some(Known {
                    treatment: Treatment::Warned(why),
                    ..
                }) => field.ignored(why),
                Some(Known {
                    treatment: Treatment::Refused(why),
                    ..
                }) => field.error(format!("cannot be honoured: {why}"), ""),
                Some(Known {
                    treatment: Treatment::Acted,
                    ..
                })
                | None => {
                    let words = asked
                        .iter()
                        .map(String::as_str)
                        .chain(known.iter().map(|known| known.name));
                    let advice = hint::did_you_mean(key, words);
                    field.warn("is not acted on: there is no such field", advice);
                }
            }
        }
    }
}
