//! A YAML value that knows where it stands.
//!
//! Scalars stay text: what `8080` means is known only where it is read. A
//! scalar whose variables were replaced keeps its template, and only the
//! template is ever shown to people.

use crate::problem::Position;

/// One value of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) kind: Kind,
    pub(crate) merging: Merging,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A text, number or boolean, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// What stood in the file, if variables were replaced.
    pub(crate) template: Option<String>,
    /// Columns from the value's place to its text, if the text stands there verbatim.
    pub(crate) inset: Option<u32>,
    /// Without quotes.
    pub(crate) plain: bool,
    /// Its variables could not be replaced: that was said, and says all.
    pub(crate) broken: bool,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) at: Position,
    pub(crate) key: String,
    pub(crate) value: Node,
}

/// How a value meets the one of an earlier file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merging {
    /// By Compose's rules.
    Usual,
    /// `!reset`: the field is as if it had never been written.
    Reset,
    /// `!override`: takes the other's place.
    Override,
}

impl Node {
    pub(crate) fn new(at: Position, kind: Kind) -> Self {
        Self {
            at,
            kind,
            merging: Merging::Usual,
        }
    }

    /// A text that no file holds as such (a short form written out).
    pub(crate) fn text(at: Position, text: impl Into<String>) -> Self {
        let scalar = Scalar {
            text: text.into(),
            template: None,
            inset: None,
            plain: false,
            broken: false,
        };
        Self::new(at, Kind::Scalar(scalar))
    }

    /// "a text", "a list", … for messages.
    pub(crate) fn sort(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Scalar(_) => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Map(entries) => Some(entries),
            Kind::Null | Kind::Scalar(_) | Kind::List(_) => None,
        }
    }

    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The value under `key`, if this is a mapping that has it.
    pub(crate) fn child(&self, key: &str) -> Option<&Self> {
        self.entries()?
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// How many nodes, and how deep.
    pub(crate) fn extent(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Self>> = match &self.kind {
            Kind::Null | Kind::Scalar(_) => return (1, 1),
            Kind::List(items) => Box::new(items.iter()),
            Kind::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        };
        children
            .map(Self::extent)
            .fold((1, 1), |(nodes, depth), (n, d)| {
                (nodes + n, depth.max(d + 1))
            })
    }
}

impl Scalar {
    /// What may be shown to people.
    pub(crate) fn shown(&self) -> &str {
        self.template.as_deref().unwrap_or(&self.text)
    }
}
