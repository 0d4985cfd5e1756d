//! `${VAR}` and its relatives in values, by Compose's rules.
//!
//! Keeps true: a variable that is not set and has no default is a fault, never
//! an empty text; a default that is not needed is not looked into (but must be
//! well-formed); the result has at most [`MAX_EXPANDED`] bytes.

use std::collections::BTreeMap;

use crate::node::{Kind, Node};
use crate::problem::{Log, Position};

/// Longest value after replacement: variables that hold variables can grow.
const MAX_EXPANDED: usize = 1 << 20;
/// Defaults within defaults.
const MAX_NESTING: usize = 16;

/// Variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// Why a text could not be expanded, and where in it (in characters).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) what: String,
    pub(crate) advice: String,
}

enum Part {
    Text(String),
    Variable {
        offset: usize,
        name: String,
        operator: Operator,
        word: Vec<Self>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    None,
    /// `-`, `:-`
    Default {
        empty_too: bool,
    },
    /// `?`, `:?`
    Require {
        empty_too: bool,
    },
    /// `+`, `:+`
    Instead {
        empty_too: bool,
    },
}

/// Replaces the variables in `text`.
pub(crate) fn expand(text: &str, variables: &Variables) -> Result<String, Vec<Fault>> {
    let chars: Vec<char> = text.chars().collect();
    let mut scanner = Scanner {
        chars: &chars,
        next: 0,
    };
    let parts = scanner.parts(0).map_err(|fault| vec![fault])?;
    let mut result = String::new();
    let mut faults = Vec::new();
    evaluate(&parts, variables, &mut result, &mut faults);
    if faults.is_empty() {
        Ok(result)
    } else {
        Err(faults)
    }
}

/// Replaces the variables in every value under `node`; `path` is its own.
pub(crate) fn interpolate(node: &mut Node, path: &str, variables: &Variables, log: &Log) {
    match &mut node.kind {
        Kind::Null => {}
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{path}[{index}]"), variables, log);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let path = if path.is_empty() {
                    entry.key.clone()
                } else {
                    format!("{path}.{}", entry.key)
                };
                interpolate(&mut entry.value, &path, variables, log);
            }
        }
        Kind::Scalar(scalar) => {
            if !scalar.text.contains('$') {
                return;
            }
            match expand(&scalar.text, variables) {
                Ok(text) => {
                    scalar.template = Some(std::mem::replace(&mut scalar.text, text));
                    scalar.plain = false;
                }
                Err(faults) => {
                    scalar.broken = true;
                    for fault in faults {
                        let shift = scalar
                            .inset
                            .map_or(0, |inset| inset as usize + fault.offset);
                        let column = node
                            .at
                            .column
                            .saturating_add(u32::try_from(shift).unwrap_or(0));
                        let at = Position {
                            column,
                            ..node.at.clone()
                        };
                        log.error(&at, path, fault.what, fault.advice);
                    }
                }
            }
        }
    }
}

fn evaluate(parts: &[Part], variables: &Variables, result: &mut String, faults: &mut Vec<Fault>) {
    for part in parts {
        match part {
            Part::Text(text) => result.push_str(text),
            Part::Variable {
                offset,
                name,
                operator,
                word,
            } => {
                let value = variables.get(name);
                let counts =
                    |empty_too: bool| value.filter(|value| !(empty_too && value.is_empty()));
                match *operator {
                    Operator::None => match value {
                        Some(value) => result.push_str(value),
                        None => faults.push(Fault {
                            offset: *offset,
                            what: format!("needs the variable {name}, which is not set"),
                            advice: format!("set it, or write ${{{name}:-DEFAULT}}"),
                        }),
                    },
                    Operator::Default { empty_too } => match counts(empty_too) {
                        Some(value) => result.push_str(value),
                        None => evaluate(word, variables, result, faults),
                    },
                    Operator::Instead { empty_too } => {
                        if counts(empty_too).is_some() {
                            evaluate(word, variables, result, faults);
                        }
                    }
                    Operator::Require { empty_too } => match counts(empty_too) {
                        Some(value) => result.push_str(value),
                        None => {
                            let state = if value.is_some() { "empty" } else { "not set" };
                            faults.push(Fault {
                                offset: *offset,
                                what: format!("needs the variable {name}, which is {state}"),
                                advice: template(word),
                            });
                        }
                    },
                }
            }
        }
        if result.len() > MAX_EXPANDED {
            faults.push(Fault {
                offset: 0,
                what: format!("has more than {MAX_EXPANDED} bytes when its variables are replaced"),
                advice: String::new(),
            });
            return;
        }
    }
}

/// A message as it was written: what its variables hold is not shown.
fn template(parts: &[Part]) -> String {
    let write = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Variable { name, .. } => format!("${{{name}}}"),
    };
    parts.iter().map(write).collect()
}

struct Scanner<'a> {
    chars: &'a [char],
    next: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.next).copied()
    }

    /// Up to the end, or inside braces (`depth > 0`) up to their closing one.
    fn parts(&mut self, depth: usize) -> Result<Vec<Part>, Fault> {
        let mut parts = Vec::new();
        let mut text = String::new();
        while let Some(c) = self.peek() {
            if c == '}' && depth > 0 {
                break;
            }
            self.next += 1;
            if c != '$' {
                text.push(c);
            } else if self.peek() == Some('$') {
                self.next += 1;
                text.push('$');
            } else {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(self.variable(depth)?);
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(parts)
    }

    /// What follows a `$`.
    fn variable(&mut self, depth: usize) -> Result<Part, Fault> {
        let offset = self.next - 1;
        let fault = |what: &str| Fault {
            offset,
            what: what.to_owned(),
            advice: "a dollar sign that is meant as such is written $$".to_owned(),
        };
        let braced = self.peek() == Some('{');
        if braced {
            self.next += 1;
        }
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if !(c.is_ascii_alphabetic() || c == '_' || (c.is_ascii_digit() && !name.is_empty())) {
                break;
            }
            name.push(c);
            self.next += 1;
        }
        if name.is_empty() {
            return Err(fault("has a '$' that no name of a variable follows"));
        }
        if !braced {
            return Ok(Part::Variable {
                offset,
                name,
                operator: Operator::None,
                word: Vec::new(),
            });
        }
        if depth >= MAX_NESTING {
            return Err(fault("has too many defaults within defaults"));
        }
        let empty_too = self.peek() == Some(':');
        if empty_too {
            self.next += 1;
        }
        let operator = match self.peek() {
            Some('-') => Operator::Default { empty_too },
            Some('?') => Operator::Require { empty_too },
            Some('+') => Operator::Instead { empty_too },
            Some('}') if !empty_too => Operator::None,
            None => return Err(fault("has a '${' without its '}'")),
            Some(_) => {
                return Err(fault(&format!(
                    "has something after ${{{name} that is none of - ? + :- :? :+"
                )));
            }
        };
        let word = if operator == Operator::None {
            Vec::new()
        } else {
            self.next += 1;
            self.parts(depth + 1)?
        };
        if self.peek() != Some('}') {
            return Err(fault("has a '${' without its '}'"));
        }
        self.next += 1;
        Ok(Part::Variable {
            offset,
            name,
            operator,
            word,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("TAG", "1.2"), ("EMPTY", ""), ("_x9", "under")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    #[test]
    fn variables_are_replaced_by_composes_rules() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a:${TAG}", "a:1.2"),
            ("a:$TAG-b", "a:1.2-b"),
            ("$_x9", "under"),
            ("${EMPTY}", ""),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${TAG:-d}", "1.2"),
            ("${NONE:-}", ""),
            ("${NONE:-${TAG}}", "1.2"),
            ("${NONE:-${NADA:-${EMPTY:-deep}}}", "deep"),
            ("${NONE:-a b:c}", "a b:c"),
            ("${TAG:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NONE+x}", ""),
            ("${TAG:?e}", "1.2"),
            ("${EMPTY?e}", ""),
            ("$$TAG $${TAG}", "$TAG ${TAG}"),
            ("${TAG:-${NONE}}", "1.2"),
            ("{\"a\": 1}", "{\"a\": 1}"),
            ("ä${TAG}ö", "ä1.2ö"),
        ] {
            assert_eq!(
                expand(text, &variables()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_unset_or_malformed_is_a_fault_at_its_place() {
        for (text, offset, what) in [
            ("a:${NONE}", 2, "needs the variable NONE, which is not set"),
            ("ä $NONE", 2, "needs the variable NONE, which is not set"),
            (
                "${NONE:-${NADA}}",
                8,
                "needs the variable NADA, which is not set",
            ),
            (
                "${NONE:?say it}",
                0,
                "needs the variable NONE, which is not set",
            ),
            (
                "${EMPTY:?say it}",
                0,
                "needs the variable EMPTY, which is empty",
            ),
            ("5$", 1, "has a '$' that no name of a variable follows"),
            ("$5", 0, "has a '$' that no name of a variable follows"),
            ("${TAG", 0, "has a '${' without its '}'"),
            ("${TAG:-x", 0, "has a '${' without its '}'"),
            (
                "${TAG%x}",
                0,
                "has something after ${TAG that is none of - ? + :- :? :+",
            ),
            ("${}", 0, "has a '$' that no name of a variable follows"),
        ] {
            let faults = expand(text, &variables()).expect_err(text);
            assert_eq!(
                (faults[0].offset, faults[0].what.as_str()),
                (offset, what),
                "{text}"
            );
        }
        let faults = expand("${EMPTY:?say it}", &variables()).expect_err("empty");
        assert_eq!(faults[0].advice, "say it");
    }

    #[test]
    fn nesting_and_growth_have_a_bound() {
        let deep = format!("{}x{}", "${A:-".repeat(10_000), "}".repeat(10_000));
        assert!(expand(&deep, &Variables::new()).is_err());
        let big = [("A".to_owned(), "x".repeat(60_000))].into();
        assert!(expand(&"$A".repeat(100), &big).is_err());
    }
}
