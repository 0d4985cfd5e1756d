//! `.env` and `env_file`: lines of `NAME=VALUE`, as Compose reads them.
//!
//! Single quotes are literal; double quotes know `\n`, `\r`, `\t`, `\"`, `\\`
//! and `\$`; outside of single quotes variables are replaced. A name without
//! `=` is taken from the variables around. Never shows a value.

use std::sync::Arc;

use crate::interpolate::{self, Variables};
use crate::problem::{Log, Position};

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// With quotes, variables and comments.
    Compose,
    /// `format: raw`: as they stand.
    Raw,
}

/// The variables of a file, in order. `around` is what replaces variables in
/// values; what the file itself has set before comes second.
pub(crate) fn parse(
    file: &Arc<str>,
    text: &str,
    format: Format,
    around: &Variables,
    log: &Log,
) -> Vec<(String, String)> {
    let mut reader = Reader {
        file,
        text: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 0,
        log,
    };
    let mut known = Variables::new();
    let mut found = Vec::new();
    while let Some((at, line)) = reader.next_line() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let end = line
            .find(|c: char| c == '=' || (c == ':' && format == Format::Compose))
            .unwrap_or(line.len());
        let name = line[..end].trim();
        if name.is_empty()
            || name.contains(char::is_whitespace)
            || name.contains(['"', '\'', '\0', '$'])
        {
            log.error(
                &at,
                "",
                "this line is not NAME=VALUE",
                "a comment begins with '#'",
            );
            continue;
        }
        if end == line.len() {
            if let Some(value) = around.get(name) {
                found.push((name.to_owned(), value.clone()));
            }
            continue;
        }
        let rest = &line[end + 1..];
        let value = if format == Format::Raw {
            Some(rest.to_owned())
        } else {
            let variables: Variables = known.clone().into_iter().chain(around.clone()).collect();
            reader.value(&at, name, rest.trim_start_matches([' ', '\t']), &variables)
        };
        if let Some(value) = value {
            known.insert(name.to_owned(), value.clone());
            found.push((name.to_owned(), value));
        }
    }
    found
}

struct Reader<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    line: u32,
    log: &'a Log,
}

impl<'a> Reader<'a> {
    fn next_line(&mut self) -> Option<(Position, &'a str)> {
        if self.text.is_empty() {
            return None;
        }
        let (line, rest) = self.text.split_once('\n').unwrap_or((self.text, ""));
        self.text = rest;
        self.line += 1;
        Some((
            Position {
                file: self.file.clone(),
                line: self.line,
                column: 1,
            },
            line.trim_end_matches('\r'),
        ))
    }

    fn value(
        &mut self,
        at: &Position,
        name: &str,
        rest: &'a str,
        variables: &Variables,
    ) -> Option<String> {
        if let Some(body) = rest.strip_prefix('\'') {
            return self.quoted(at, name, body, '\'');
        }
        if let Some(body) = rest.strip_prefix('"') {
            let text = self.quoted(at, name, body, '"')?;
            return self.expand(at, name, &unescape(&text), variables);
        }
        let bare = if rest.starts_with('#') {
            ""
        } else {
            rest.split(" #").next().unwrap_or("")
        };
        self.expand(
            at,
            name,
            bare.split("\t#").next().unwrap_or("").trim_end(),
            variables,
        )
    }

    /// Up to the closing quote, over lines if need be; escapes stay as they are.
    fn quoted(&mut self, at: &Position, name: &str, body: &'a str, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut line = body;
        loop {
            let mut escaped = false;
            for (index, c) in line.char_indices() {
                if c == quote && !escaped {
                    text.push_str(&line[..index]);
                    let after = line[index + 1..].trim_start();
                    if !after.is_empty() && !after.starts_with('#') {
                        self.log
                            .error(at, name, "has something after its closing quote", "");
                        return None;
                    }
                    return Some(text);
                }
                escaped = c == '\\' && !escaped && quote == '"';
            }
            text.push_str(line);
            text.push('\n');
            let Some((_, next)) = self.next_line() else {
                self.log
                    .error(at, name, "has a quote that is never closed", "");
                return None;
            };
            line = next;
        }
    }

    fn expand(
        &self,
        at: &Position,
        name: &str,
        text: &str,
        variables: &Variables,
    ) -> Option<String> {
        match interpolate::expand(text, variables) {
            Ok(value) => Some(value),
            Err(_) => {
                // What follows the '$' may be half of a password: not shown.
                self.log.error(
                    at,
                    name,
                    "has a '$' with no variable that is set after it",
                    "in single quotes a value is taken as it stands",
                );
                None
            }
        }
    }
}

fn unescape(text: &str) -> String {
    let mut result = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            result.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => result.push('\n'),
            Some('r') => result.push('\r'),
            Some('t') => result.push('\t'),
            Some('$') => result.push_str("$$"),
            Some(c @ ('"' | '\\')) => result.push(c),
            Some(other) => {
                result.push('\\');
                result.push(other);
            }
            None => result.push('\\'),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let log = Log::default();
        let around = [("TAG".to_owned(), "1.2".to_owned())].into();
        let found = parse(&Arc::from(".env"), text, Format::Compose, &around, &log);
        let (failed, problems) = log.finish();
        if failed {
            Err(problems[0].to_string())
        } else {
            Ok(found)
        }
    }

    #[test]
    fn quotes_comments_and_variables_are_read_as_compose_reads_them() {
        for (text, expected) in [
            ("A=b", "b"),
            ("export A = b  # c", "b"),
            ("A: b", "b"),
            ("A=b#c", "b#c"),
            ("A=", ""),
            ("A='$x # y'", "$x # y"),
            ("A=\"a\\n\\\"b\\\" \\$c\" # d", "a\n\"b\" $c"),
            ("A=\"a\nb\"", "a\nb"),
            ("A=v${TAG}", "v1.2"),
            ("A=\"v$TAG\"\r\n", "v1.2"),
            ("A=x=y", "x=y"),
            ("\u{feff}# c\n\n A=b", "b"),
        ] {
            assert_eq!(
                read(text),
                Ok(vec![("A".to_owned(), expected.to_owned())]),
                "{text:?}"
            );
        }
        assert_eq!(
            read("A=1\nB=${A}2").map(|found| found[1].1.clone()),
            Ok("12".to_owned())
        );
        assert_eq!(read("TAG\nNONE").map(|found| found.len()), Ok(1));
    }

    #[test]
    fn a_line_that_is_none_says_where() {
        for (text, expected) in [
            (
                "A=1\nwhat is this",
                ".env:2:1: error: this line is not NAME=VALUE; a comment begins with '#'",
            ),
            (
                "A='x",
                ".env:1:1: error: 'A' has a quote that is never closed",
            ),
            (
                "A='x' y",
                ".env:1:1: error: 'A' has something after its closing quote",
            ),
            (
                "A=p$ss",
                ".env:1:1: error: 'A' has a '$' with no variable that is set after it; in single quotes a value is taken as it \
                 stands",
            ),
        ] {
            assert_eq!(read(text), Err(expected.to_owned()), "{text:?}");
        }
    }
}
