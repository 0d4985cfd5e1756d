//! A small YAML writer: one way to write each value, so that two texts differ
//! only where the values do.

use std::fmt::Write as _;

/// A value to be written.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Always in quotes.
    Text(String),
    /// As it stands: numbers, truth, and words that need no quotes.
    Bare(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Value {
    pub(crate) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    pub(crate) fn bare(text: impl ToString) -> Self {
        Self::Bare(text.to_string())
    }

    pub(crate) fn texts<T: ToString>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    fn empty(&self) -> bool {
        match self {
            Self::Text(_) | Self::Bare(_) => false,
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
        }
    }
}

/// A mapping in the making.
#[derive(Default)]
pub(crate) struct Fields(Vec<(String, Value)>);

impl Fields {
    /// Adds a field.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.0.push((key.to_owned(), value));
        self
    }

    /// Adds a field unless it is empty.
    pub(crate) fn some(self, key: &str, value: Value) -> Self {
        if value.empty() {
            self
        } else {
            self.with(key, value)
        }
    }

    /// Adds a field if there is one.
    pub(crate) fn maybe(self, key: &str, value: Option<Value>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    pub(crate) fn done(self) -> Value {
        Value::Map(self.0)
    }
}

/// The text of a mapping, one field a line.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

fn block(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Map(entries) => {
            for (key, value) in entries {
                out.push_str(&indent);
                word(out, key);
                out.push(':');
                nested(out, value, depth);
            }
        }
        Value::List(items) => {
            for item in items {
                out.push_str(&indent);
                out.push_str("- ");
                flow(out, item);
                out.push('\n');
            }
        }
        Value::Text(_) | Value::Bare(_) => flow(out, value),
    }
}

/// What follows a key: on its line if it is short by nature.
fn nested(out: &mut String, value: &Value, depth: usize) {
    let lines = match value {
        Value::Map(entries) => !entries.is_empty(),
        Value::List(items) => items.iter().any(|item| matches!(item, Value::Map(_))),
        Value::Text(_) | Value::Bare(_) => false,
    };
    if lines {
        out.push('\n');
        block(out, value, depth + 1);
    } else {
        out.push(' ');
        flow(out, value);
        out.push('\n');
    }
}

fn flow(out: &mut String, value: &Value) {
    match value {
        Value::Text(text) => quoted(out, text),
        Value::Bare(text) => out.push_str(text),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                flow(out, item);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                word(out, key);
                out.push_str(": ");
                flow(out, value);
            }
            out.push('}');
        }
    }
}

/// A key: in quotes unless it can be nothing but a word.
fn word(out: &mut String, key: &str) {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let reserved = matches!(
        key.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(good) && !reserved {
        out.push_str(key);
    } else {
        quoted(out, key);
    }
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // Writing into a String does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
