//! What each file of Rust keeps to: it opens with its role, it stays short
//! enough for one idea, nothing in it is unfinished, nothing sleeps so that
//! something may work, and its name says what is in it.

use crate::source::Source;
use crate::{Except, Finding, Tree, except};

/// About this is a file; past it, look for the second idea in it.
pub const LONG: usize = 400;
/// No file is longer.
pub const TOO_LONG: usize = 600;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 7] = [
    "util", "utils", "common", "helper", "helpers", "manager", "types",
];

/// Signs of unfinished work; spaces are left out of the code before they are looked for.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "#[ignore", "#![ignore"];

const SLEEPS: [&str; 3] = ["thread::sleep", "time::sleep", "time::sleep_until"];

/// Where a pause is a pause, not a hope.
const MAY_SLEEP: [Except; 21] = [
    Except {
        path: "cli/src/client.rs",
        why: "before a change is asked for again, within the command's time",
    },
    Except {
        path: "cli/src/commands/events.rs",
        why: "before a lost stream is opened anew",
    },
    Except {
        path: "cli/src/commands/host_wait.rs",
        why: "between two looks at the roster, until --timeout",
    },
    Except {
        path: "cli/src/commands/status.rs",
        why: "between two screens of --watch",
    },
    Except {
        path: "coordinator/src/helm/mod.rs",
        why: "the next deadline of the loop, in a select; and a full disk, before the write is tried again",
    },
    Except {
        path: "coordinator/src/local/operator.rs",
        why: "between two looks at the coordinator that was just started, within a deadline",
    },
    Except {
        path: "coordinator/src/run.rs",
        why: "until the certificate is due",
    },
    Except {
        path: "agent/src/docker/container.rs",
        why: "between two looks at a container, within the call's deadline",
    },
    Except {
        path: "agent/src/docker/events.rs",
        why: "before the event stream is opened anew",
    },
    Except {
        path: "agent/src/session/",
        why: "backoff before the next dial, and deadlines in a select",
    },
    Except {
        path: "agent/src/traffic/ensure.rs",
        why: "between two looks at nginx's processes, within a deadline",
    },
    Except {
        path: "agent/src/traffic/prove.rs",
        why: "between two proofs, within a deadline",
    },
    Except {
        path: "coordinator/src/gate/accept.rs",
        why: "after accept failed: descriptors ran out, and come back",
    },
    Except {
        path: "coordinator/src/gate/mod.rs",
        why: "so that a peer may read why it is sent away",
    },
    Except {
        path: "coordinator/src/roster/",
        why: "so that a peer may read why it is sent away; a certificate's end in a select",
    },
    Except {
        path: "coordinator/src/store/engine.rs",
        why: "the lock of a process that is ending, with a bound; a thread of its own",
    },
    Except {
        path: "tests/app/",
        why: "the service under test is slow and late on demand",
    },
    Except {
        path: "tests/rig/load.rs",
        why: "the load's end, in a select",
    },
    Except {
        path: "tests/rig/load/",
        why: "the load's pace",
    },
    Except {
        path: "tests/rig/wait.rs",
        why: "the one place that waits for a condition",
    },
    Except {
        path: "agent/src/helm/mod.rs",
        why: "the next deadline of the loop, in a select",
    },
];

/// Files without a first line that says what they are.
#[must_use]
pub fn unopened(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|(_, text)| !opens(text))
        .map(|(path, _)| {
            Finding::new(path, 1, "must open with //! and a sentence: its role, what it keeps true, what it does not know")
        })
        .collect()
}

/// The first line is `//!` with at least three words.
fn opens(text: &str) -> bool {
    text.lines()
        .next()
        .and_then(|line| line.strip_prefix("//!"))
        .is_some_and(|line| line.split_whitespace().count() >= 3)
}

/// Files that are too long.
#[must_use]
pub fn too_long(tree: &Tree) -> Vec<Finding> {
    longer_than(tree, TOO_LONG)
        .map(|(path, lines)| {
            let what =
                format!("has {lines} lines, more than {TOO_LONG}: find the second idea in it");
            Finding::new(path, 0, what)
        })
        .collect()
}

/// Files longer than `limit`, the longest first.
pub fn longer_than(tree: &Tree, limit: usize) -> impl Iterator<Item = (&str, usize)> {
    let mut long: Vec<_> = tree
        .rust()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > limit)
        .collect();
    long.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    long.into_iter()
}

/// Modules that are named after nothing.
#[must_use]
pub fn empty_names(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|(path, _)| {
            path.trim_end_matches(".rs")
                .split('/')
                .any(|part| EMPTY_NAMES.contains(&part))
        })
        .map(|(path, _)| {
            Finding::new(
                path,
                0,
                "is named after nothing: name it after what is in it",
            )
        })
        .collect()
}

/// Work that is not done, and tests that do not run.
#[must_use]
pub fn unfinished(tree: &Tree) -> Vec<Finding> {
    said(tree, &UNFINISHED, "finish it, or leave it out")
}

/// Sleeps outside of the list of those with a reason.
#[must_use]
pub fn sleeps(tree: &Tree) -> Vec<Finding> {
    let what = "wait for the event, with a deadline; or give the reason in MAY_SLEEP";
    except(said(tree, &SLEEPS, what), &MAY_SLEEP, "the ban on sleeping")
}

fn said(tree: &Tree, signs: &[&str], instead: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        for (index, line) in Source::of(text).code.lines().enumerate() {
            let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
            if let Some(sign) = signs.iter().find(|sign| has_word(&line, sign)) {
                let what = format!("says {sign}: {instead}");
                found.push(Finding::new(path, index + 1, what));
            }
        }
    }
    found
}

/// Whether `sign` stands in `line` and does not end within a longer name.
fn has_word(line: &str, sign: &str) -> bool {
    line.match_indices(sign).any(|(at, _)| {
        let after = line[at + sign.len()..].chars().next();
        let before = line[..at].chars().next_back();
        let in_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !in_name(after) && !in_name(before)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> Tree {
        Tree::of(&[(path, text)])
    }

    #[test]
    fn a_file_opens_with_its_role() {
        assert_eq!(unopened(&one("a.rs", "//! What it is.\n")), []);
        assert_eq!(unopened(&one("a.rs", "//! agent\n")).len(), 1);
        assert_eq!(unopened(&one("a.rs", "use x;\n//! What it is.\n")).len(), 1);
        assert_eq!(unopened(&one("a.rs", "")).len(), 1);
    }

    #[test]
    fn a_file_has_an_end() {
        let lines = |count: usize| "x\n".repeat(count);
        assert_eq!(too_long(&one("a.rs", &lines(TOO_LONG))), []);
        assert_eq!(too_long(&one("a.rs", &lines(TOO_LONG + 1))).len(), 1);
        let tree = one("a.rs", &lines(LONG + 1));
        assert_eq!(
            longer_than(&tree, LONG).collect::<Vec<_>>(),
            [("a.rs", LONG + 1)]
        );
    }

    #[test]
    fn a_module_is_named_after_something() {
        assert_eq!(empty_names(&one("agent/src/utils.rs", "")).len(), 1);
        assert_eq!(empty_names(&one("agent/src/common/mod.rs", "")).len(), 1);
        assert_eq!(empty_names(&one("agent/src/journal.rs", "")), []);
    }

    #[test]
    fn unfinished_work_is_found_in_code_alone() {
        assert_eq!(unfinished(&one("a.rs", "fn f() { todo!() }")).len(), 1);
        assert_eq!(
            unfinished(&one("a.rs", "fn f() { unimplemented! ( ) }")).len(),
            1
        );
        assert_eq!(unfinished(&one("a.rs", "#[ignore = \"slow\"]")).len(), 1);
        assert_eq!(unfinished(&one("a.rs", "// todo! \nf(\"#[ignore]\")")), []);
    }

    #[test]
    fn a_sleep_needs_a_reason() {
        let asleep = said(&one("a.rs", "tokio::time::sleep(x).await"), &SLEEPS, "");
        assert_eq!(asleep.len(), 1);
        assert_eq!(said(&one("a.rs", "time::sleepy()"), &SLEEPS, ""), []);
        assert_eq!(
            said(&one("a.rs", "std::thread::sleep(x)"), &SLEEPS, "").len(),
            1
        );
    }
}
