//! One word, one meaning: GLOSSARY.md is true of the code, both ways.
//!
//! A line there is `- **word**: meaning`, at its end, where the code must not
//! say something else instead, `(Not: node, box.)`. Every word must be said
//! somewhere in Rust, and none of those after "Not" may be part of an
//! identifier: `box_id` and `NodeList` are found, `Box` itself is the language's.

use crate::source::Source;
use crate::{Finding, Tree};

const GLOSSARY: &str = "GLOSSARY.md";

/// A forbidden word, where it may be said all the same, and in which sense.
const OTHER_SENSE: [(&str, &str, &str); 3] = [
    ("node", "compose/", "a node of a YAML tree"),
    ("nodes", "compose/", "nodes of a YAML tree"),
    (
        "master",
        "agent/src/traffic/",
        "nginx's own word for its first process",
    ),
];

/// Names of the language and its libraries, whatever words they are made of.
const LANGUAGE: [&str; 2] = ["Box", "BoxFuture"];

/// Words of the glossary.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Glossary {
    /// Each with its line.
    pub words: Vec<(usize, String)>,
    /// What is not said, and what instead.
    pub forbidden: Vec<(String, String)>,
}

impl Glossary {
    /// Reads it.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut glossary = Self::default();
        for (index, line) in text.lines().enumerate() {
            let Some((word, meaning)) = line
                .strip_prefix("- **")
                .and_then(|line| line.split_once("**"))
            else {
                continue;
            };
            glossary.words.push((index + 1, word.to_owned()));
            if let Some((_, not)) = meaning.rsplit_once("(Not: ") {
                let not = not.trim_end().trim_end_matches([')', '.']);
                let pairs = not.split(", ").map(|not| (not.to_owned(), word.to_owned()));
                glossary.forbidden.extend(pairs);
            }
        }
        glossary
    }
}

/// Where glossary and code differ.
#[must_use]
pub fn broken(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(GLOSSARY) else {
        return vec![Finding::new(GLOSSARY, 0, "is missing")];
    };
    let glossary = Glossary::of(text);
    let mut found = unsaid(tree, &glossary);
    found.extend(forbidden(tree, &glossary));
    found
}

fn unsaid(tree: &Tree, glossary: &Glossary) -> Vec<Finding> {
    let said: Vec<String> = tree
        .rust()
        .map(|(_, text)| format!(" {} ", parts(text).join(" ")))
        .collect();
    let is_said = |word: &str| {
        let word = format!(" {} ", parts(word).join(" "));
        said.iter().any(|text| text.contains(&word))
    };
    glossary
        .words
        .iter()
        .filter(|(_, word)| !is_said(word))
        .map(|(line, word)| {
            Finding::new(
                GLOSSARY,
                *line,
                format!("{word:?} is said nowhere in the code"),
            )
        })
        .collect()
}

fn forbidden(tree: &Tree, glossary: &Glossary) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        let source = Source::of(text);
        for (line, name) in source.names().filter(|(_, name)| !LANGUAGE.contains(name)) {
            let parts = parts(name);
            for (not, word) in &glossary.forbidden {
                let other_sense = OTHER_SENSE
                    .iter()
                    .any(|(said, place, _)| said == not && path.starts_with(place));
                if parts.contains(not) && !other_sense {
                    found.push(Finding::new(
                        path,
                        line,
                        format!("says {name}: the word is {word}"),
                    ));
                }
            }
        }
    }
    found
}

/// The words that a text or a name is made of, in lower case: at spaces, underscores and humps.
fn parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut low = false;
    for c in text.chars() {
        let ends = !c.is_alphanumeric() || (c.is_uppercase() && low);
        if ends && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
        }
        if c.is_alphanumeric() {
            part.extend(c.to_lowercase());
        }
        low = c.is_lowercase() || c.is_ascii_digit();
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "- **host**: a machine. (Not: node, box.)\n- **failure budget**: how many.\n";

    fn said(path: &str, code: &str) -> Vec<String> {
        let tree = Tree::of(&[("GLOSSARY.md", TEXT), (path, code)]);
        broken(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_word_is_said_somewhere() {
        assert!(said("a.rs", "struct Host; // its failure_budget").is_empty());
        assert!(said("a.rs", "fn f(host: FailureBudget) {}").is_empty());
        assert_eq!(
            said("a.rs", "struct Host;"),
            ["GLOSSARY.md:2: \"failure budget\" is said nowhere in the code"]
        );
    }

    #[test]
    fn a_forbidden_word_is_no_part_of_a_name() {
        let good = "struct Host; // FailureBudget\n";
        for bad in [
            "let node_id = 1;",
            "struct BigBox;",
            "let boxes = box_of();",
        ] {
            let found = said("agent/src/a.rs", &format!("{good}{bad}"));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].ends_with("the word is host"), "{found:?}");
        }
        assert!(
            said(
                "agent/src/a.rs",
                &format!("{good}let x: Box<u8> = y; // node")
            )
            .is_empty()
        );
        assert!(said("compose/src/a.rs", &format!("{good}let node = 1;")).is_empty());
    }

    #[test]
    fn a_missing_glossary_is_found() {
        assert_eq!(broken(&Tree::of(&[])).len(), 1);
    }
}
