//! Text → tree: YAML with positions, anchors, merge keys and a budget.
//!
//! Keeps true: a tree has at most [`MAX_NODES`] nodes and [`MAX_DEPTH`] levels,
//! aliases included, so nothing after this can be made to run away; no key is
//! there twice. Knows nothing of Compose but its two tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::node::{Entry, Kind, Merging, Node, Scalar};
use crate::problem::{Log, Position, Problem, Severity};

/// Largest Compose file, in bytes: a hundred times the largest we have seen.
pub(crate) const MAX_FILE: usize = 1 << 20;
/// Values of one file with its aliases written out: against alias bombs.
pub(crate) const MAX_NODES: usize = 100_000;
/// Levels of nesting, aliases written out: every walk over a tree is recursive.
pub(crate) const MAX_DEPTH: usize = 64;
/// Longest piece of a line that is shown.
const MAX_SNIPPET: usize = 120;
/// Longest name that is taken for one.
const MAX_NAME: usize = 64;

/// The documents of one file; `None` when it is no YAML that we take (said in `log`).
pub(crate) fn parse(file: &Arc<str>, bytes: &[u8], log: &Log) -> Option<Vec<Node>> {
    let start = Position {
        file: file.clone(),
        line: 1,
        column: 1,
    };
    if bytes.len() > MAX_FILE {
        log.error(
            &start,
            "",
            format!("the file has more than {MAX_FILE} bytes"),
            "is it a Compose file?",
        );
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = good.matches('\n').count() + 1;
            let column = good.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            let at = Position {
                file: file.clone(),
                line: count(line),
                column: count(column),
            };
            log.error(&at, "", "the file is not UTF-8 text", "");
            return None;
        }
    };
    let mut builder = Builder::new(file, text, log);
    let options = granit_parser::options! { emit_comments: false };
    for event in Parser::new_from_str_with_options(text, options) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, &span),
            Err(error) => {
                let at = builder.place(*error.marker());
                builder.syntax(at, &format!("this is no YAML: {}", error.info()))
            }
        };
        taken?;
    }
    Some(builder.documents)
}

struct Builder<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    log: &'a Log,
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
}

/// A line as far as it holds no value, which may be a secret: it goes into logs (P8).
fn without_value(line: &str) -> String {
    let clean = |text: &str| -> String {
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        text.chars().map(printable).take(MAX_SNIPPET).collect()
    };
    let line = line.trim_end();
    let key_ends = [": ", "=", " |", " >"].map(|mark| line.find(mark).map(|at| at + mark.len()));
    if let Some(end) = key_ends.into_iter().flatten().min() {
        return format!("{} …", clean(line[..end].trim_end()));
    }
    // A key, or the name of something: no line of a key's text is so short, or so plain.
    let word = line.trim_start_matches([' ', '\t', '-']);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '?');
    if word.ends_with(':') && word.len() <= MAX_NAME && word.chars().all(plain) {
        clean(line)
    } else {
        "…".to_owned()
    }
}

/// A collection whose end has not come yet.
struct Open {
    at: Position,
    anchor: Option<usize>,
    merging: Merging,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(Position, String)>),
}

struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

impl<'a> Builder<'a> {
    fn new(file: &'a Arc<str>, text: &'a str, log: &'a Log) -> Self {
        Self {
            file,
            text,
            log,
            documents: Vec::new(),
            open: Vec::new(),
            anchors: BTreeMap::new(),
            nodes: 0,
        }
    }

    fn place(&self, marker: granit_parser::Marker) -> Position {
        Position {
            file: self.file.clone(),
            line: count(marker.line()).max(1),
            column: count(marker.col() + 1),
        }
    }

    /// An error of the text itself, shown with the beginning of its line.
    fn syntax(&self, at: Position, what: &str) -> Option<()> {
        let line = self.text.lines().nth(at.line as usize - 1).unwrap_or("");
        let line = without_value(line);
        let number = at.line.to_string();
        let mut snippet = format!("{number} | {line}");
        let column = at.column as usize - 1;
        if column < line.chars().count() {
            let margin = " ".repeat(number.len());
            snippet.push_str(&format!("\n{margin} | {}^", " ".repeat(column)));
        }
        self.log.add(Problem {
            at: Some(at),
            severity: Severity::Error,
            path: String::new(),
            what: what.to_owned(),
            advice: String::new(),
            snippet: Some(snippet),
        });
        None
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Option<()> {
        let at = self.place(span.start);
        match event {
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd => Some(()),
            Event::Comment(..) | Event::Anchor(..) => Some(()),
            Event::UnresolvedAlias(name) => {
                self.syntax(at, &format!("no anchor is called '{name}'"))
            }
            Event::Alias(id) => self.alias(at, id),
            Event::Scalar(text, style, anchor, tag) => {
                let (merging, forced) = self.tag(span, tag.as_deref())?;
                let kind = self.scalar(text.into_owned(), style, span, forced);
                self.put(Node { at, kind, merging }, anchor, 1, 1)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let (merging, _) = self.tag(span, tag.as_deref())?;
                self.begin(at, anchor, merging, Inside::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                let (merging, _) = self.tag(span, tag.as_deref())?;
                self.begin(at, anchor, merging, Inside::Map(Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => self.syntax(at, "this is no YAML that Cutover knows"),
        }
    }

    fn scalar(&self, text: String, style: ScalarStyle, span: &Span, forced: bool) -> Kind {
        let plain = matches!(style, ScalarStyle::Plain) && !forced;
        if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
            return Kind::Null;
        }
        let source = span
            .byte_range()
            .and_then(|range| self.text.get(range))
            .unwrap_or("");
        let inset = if source == text {
            Some(0)
        } else if source.get(1..source.len().saturating_sub(1)) == Some(&text) {
            Some(1)
        } else {
            None
        };
        Kind::Scalar(Scalar {
            text,
            template: None,
            inset,
            plain,
            broken: false,
        })
    }

    /// What a tag says; whether it makes a text of anything.
    fn tag(&self, span: &Span, tag: Option<&Tag>) -> Option<(Merging, bool)> {
        let Some(tag) = tag else {
            return Some((Merging::Usual, false));
        };
        if tag.is_yaml_core_schema() {
            return Some((Merging::Usual, tag.is_yaml_core_schema_tag("str")));
        }
        match tag.suffix() {
            "reset" => Some((Merging::Reset, false)),
            "override" => Some((Merging::Override, false)),
            "" => Some((Merging::Usual, true)),
            other => {
                let what = format!("the tag '!{other}' means nothing in a Compose file");
                let at = self.place(span.tag_start().unwrap_or(span.start));
                self.log
                    .error(&at, "", what, "Compose has !reset and !override");
                None
            }
        }
    }

    fn begin(
        &mut self,
        at: Position,
        anchor: usize,
        merging: Merging,
        inside: Inside,
    ) -> Option<()> {
        if self.open.len() >= MAX_DEPTH {
            return self.syntax(at, &format!("more than {MAX_DEPTH} levels of nesting"));
        }
        self.open.push(Open {
            at,
            anchor: (anchor != 0).then_some(anchor),
            merging,
            inside,
        });
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        let open = self.open.pop()?;
        let kind = match open.inside {
            Inside::List(items) => Kind::List(items),
            Inside::Map(entries, _) => Kind::Map(self.merge_keys(entries)?),
        };
        let node = Node {
            at: open.at,
            kind,
            merging: open.merging,
        };
        let (nodes, depth) = if open.anchor.is_some() {
            node.extent()
        } else {
            (1, 1)
        };
        self.put(node, open.anchor.unwrap_or(0), nodes, depth)
    }

    fn alias(&mut self, at: Position, id: usize) -> Option<()> {
        let Some(anchored) = self.anchors.get(&id) else {
            return self.syntax(at, "an anchor may not contain itself");
        };
        let (nodes, depth) = (anchored.nodes, anchored.depth);
        if self.open.len() + depth > MAX_DEPTH {
            return self.syntax(
                at,
                &format!("with this alias written out, more than {MAX_DEPTH} levels of nesting"),
            );
        }
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return self.syntax(
                at,
                &format!("with this alias written out, more than {MAX_NODES} values"),
            );
        }
        let node = anchored.node.clone();
        self.put(node, 0, nodes, depth)
    }

    /// Puts a finished value where it belongs.
    fn put(&mut self, node: Node, anchor: usize, nodes: usize, depth: usize) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.syntax(node.at, &format!("more than {MAX_NODES} values"));
        }
        if anchor != 0 {
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    nodes,
                    depth,
                },
            );
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.documents.push(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map(entries, key)) => match key.take() {
                Some((at, key)) => entries.push(Entry {
                    at,
                    key,
                    value: node,
                }),
                None => match node.kind {
                    Kind::Scalar(scalar) => *key = Some((node.at, scalar.text)),
                    Kind::Null => *key = Some((node.at, "null".to_owned())),
                    Kind::List(_) | Kind::Map(_) => {
                        return self.syntax(node.at, "a key must be a single word");
                    }
                },
            },
        }
        Some(())
    }

    /// Writes out `<<`: what stands in the mapping itself wins, then the earlier.
    fn merge_keys(&self, entries: Vec<Entry>) -> Option<Vec<Entry>> {
        let mut own: BTreeMap<String, Position> = BTreeMap::new();
        let mut result = Vec::new();
        let mut merged = Vec::new();
        for entry in entries {
            if entry.key == "<<" {
                match entry.value.kind {
                    Kind::Map(entries) => merged.push(entries),
                    Kind::List(items) => {
                        for item in items {
                            let Kind::Map(entries) = item.kind else {
                                self.syntax(item.at, "'<<' takes a mapping or a list of mappings")?;
                                return None;
                            };
                            merged.push(entries);
                        }
                    }
                    Kind::Null | Kind::Scalar(_) => {
                        self.syntax(entry.at, "'<<' takes a mapping or a list of mappings")?;
                        return None;
                    }
                }
                continue;
            }
            if let Some(first) = own.get(&entry.key) {
                let what = format!(
                    "'{}' is there twice; first in line {}",
                    entry.key, first.line
                );
                self.syntax(entry.at, &what)?;
                return None;
            }
            own.insert(entry.key.clone(), entry.at.clone());
            result.push(entry);
        }
        for entry in merged.into_iter().flatten() {
            if !own.contains_key(&entry.key) {
                own.insert(entry.key.clone(), entry.at.clone());
                result.push(entry);
            }
        }
        Some(result)
    }
}

/// A line or column; a file of [`MAX_FILE`] bytes has no larger ones.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
