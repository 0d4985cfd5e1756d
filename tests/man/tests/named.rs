//! Every command of ours that a message or a document names exists: what a person is told to type can be typed.
//!
//! Looked at: string literals of the programs and the crates that they are made of, and what stands between
//! backquotes in documents. A command begins a text, or follows a mark or a word like `sudo`; anywhere else
//! "cutover-agent runs" is a sentence.

use std::fmt;

use clap::{Command, CommandFactory as _};
use cutover_tidy::Tree;
use cutover_tidy::source::Source;

/// The crates whose texts people see.
const SOURCES: [&str; 7] = [
    "agent/src/",
    "cli/src/",
    "compose/src/",
    "coordinator/src/",
    "core/src/",
    "daemon/src/",
    "proto/src/",
];
/// A command follows one of these, or begins its text.
const BEFORE: [&str; 8] = ["`", "; ", ": ", "(", "\n", "sudo ", "| ", "$ "];
/// What follows a program's name in a sentence that begins with it.
const PROSE: [&str; 6] = ["is", "did", "runs", "has", "store", "snapshot"];

struct Named<'a> {
    path: &'a str,
    line: usize,
    words: Vec<String>,
    why: String,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words.join(" ");
        write!(f, "{}:{}: `{words}`: {}", self.path, self.line, self.why)
    }
}

fn programs() -> [Command; 3] {
    [
        cutover_agent::args::Cli::command(),
        cutover_coordinator::args::Cli::command(),
        cutover_cli::args::Cli::command(),
    ]
}

/// The commands in a text, each as the words behind which it ends or something else begins.
fn commands(text: &str, only_after: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("cutover") {
        let before = &text[..at];
        let begins = before.is_empty() && only_after.len() > 1
            || only_after.iter().any(|mark| before.ends_with(mark));
        if !begins {
            continue;
        }
        let end = text[at..].find(['`', ';', ')', '\n', '|', '"', '\'']);
        let line = &text[at..end.map_or(text.len(), |end| at + end)];
        let words = line.split(' ').filter(|word| !word.is_empty());
        found.push(words.map(str::to_owned).collect());
    }
    found
}

/// What is wrong with a command; nothing, when it can be typed or is none.
fn wrong(words: &[String], programs: &[Command]) -> Option<String> {
    let program = words.first()?;
    let program = programs.iter().find(|one| one.get_name() == program)?;
    let mut at = program;
    for word in &words[1..] {
        let word = word.trim_end_matches([',', '.', ':', '!']);
        let verb = word.starts_with(|c: char| c.is_ascii_lowercase());
        if !at.has_subcommands() || PROSE.contains(&word) {
            break;
        }
        if !verb || word == "help" {
            // A flag, a word that stands for others (VERB), `…`.
            break;
        }
        match at.find_subcommand(word) {
            Some(sub) => at = sub,
            None => return Some(format!("{} has no verb {word:?}", at.get_name())),
        }
    }
    let flags = words.iter().filter(|word| word.starts_with("--"));
    let known = |flag: &str| {
        let name = flag.trim_start_matches('-');
        let name = name.split(['=', ',', '.']).next().unwrap_or_default();
        let of = |command: &Command| {
            command
                .get_arguments()
                .any(|one| one.get_long() == Some(name))
        };
        matches!(name, "help" | "version") || of(at) || of(program)
    };
    flags
        .into_iter()
        .find(|flag| !known(flag))
        .map(|flag| format!("{} has no {flag}", at.get_name()))
}

fn unknown(tree: &Tree) -> Vec<String> {
    let programs = programs();
    let mut found = Vec::new();
    for (path, text) in tree.files() {
        let texts: Vec<(usize, String, &[&str])> =
            if SOURCES.iter().any(|from| path.starts_with(from)) {
                // What stands in tests nobody is told.
                let said = text.split("#[cfg(test)]\nmod ").next();
                let source = Source::of(said.unwrap_or(text));
                let joined = |text: String| {
                    let lines = text.split("\\\n").map(str::trim_start);
                    lines.collect::<String>().replace("\\n", "\n")
                };
                let texts = source.texts.into_iter();
                texts
                    .map(|(line, text)| (line, joined(text), &BEFORE[..]))
                    .collect()
            } else if path.ends_with(".md") {
                let lines = text.lines().enumerate();
                lines
                    .map(|(index, line)| (index + 1, line.to_owned(), &BEFORE[..1]))
                    .collect()
            } else {
                Vec::new()
            };
        for (line, text, after) in &texts {
            for words in commands(text, after) {
                if let Some(why) = wrong(&words, &programs) {
                    let named = Named {
                        path,
                        line: *line,
                        words,
                        why,
                    };
                    found.push(named.to_string());
                }
            }
        }
    }
    found
}

#[test]
fn every_command_that_is_named_exists() {
    let tree = Tree::workspace().expect("the workspace can be read");
    let found = unknown(&tree);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_verb_or_flag_that_does_not_exist_is_found_where_it_is_named() {
    for (path, text) in [
        ("agent/src/a.rs", "f(\"then `cutover host readmit`\")"),
        ("agent/src/a.rs", "f(\"cutover host readmit, then enrol\")"),
        ("cli/src/a.rs", "f(\"mend it: cutover frobnicate\")"),
        (
            "cli/src/a.rs",
            "f(\"`cutover \\\n    host rename {host}`\")",
        ),
        ("daemon/src/a.rs", "f(\"sudo cutover-agent enrol\")"),
        ("docs/a.md", "say `cutover adopt`"),
        ("cli/src/a.rs", "f(\"`cutover host rm --hard HOST`\")"),
    ] {
        let found = unknown(&Tree::of(&[(path, text)]));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
    }
    for (path, text) in [
        (
            "agent/src/a.rs",
            "f(\"`cutover host rm {host}`, then `cutover host token`\")",
        ),
        (
            "agent/src/a.rs",
            "// cutover host readmit\nf(\"cutover-agent runs there\")",
        ),
        (
            "coordinator/src/a.rs",
            "f(\"see that cutover-coordinator hangs\")",
        ),
        ("cli/src/a.rs", "f(\"`cutover help VERB` says more\")"),
        (
            "docs/a.md",
            "Cutover: cutover moves; `cutover-agent revert web`",
        ),
    ] {
        assert_eq!(
            unknown(&Tree::of(&[(path, text)])),
            Vec::<String>::new(),
            "{text}"
        );
    }
}
