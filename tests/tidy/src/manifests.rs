//! Dependencies: each one of the workspace says what it is for and is used by a
//! member; each one of a member is used in its code.

use toml::{Table, Value};

use crate::crates::{listed, members};
use crate::source::Source;
use crate::{Except, Finding, Tree, except};

const ROOT: &str = "Cargo.toml";
const HEADINGS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Code that a build script generates is not in the tree: what says so, and what that code uses.
const GENERATED: [(&str, &[&str]); 1] = [("include_proto", &["prost", "tonic_prost"])];

/// Members that may list what they do not use.
const MAY: [Except; 0] = [];

/// What is listed and not used, or used and not explained.
#[must_use]
pub fn broken(tree: &Tree) -> Vec<Finding> {
    except(found(tree), &MAY, "the ban on unused dependencies")
}

fn found(tree: &Tree) -> Vec<Finding> {
    let mut found = unexplained(tree);
    let members = members(tree);
    found.extend(orphans(tree, &members));
    for (folder, manifest) in &members {
        let names = names_below(tree, folder, &members);
        for heading in HEADINGS {
            for dependency in listed(manifest, heading) {
                if !names.contains(&dependency.replace('-', "_")) {
                    let what = format!("lists {dependency} under [{heading}] and does not use it");
                    found.push(Finding::new(&format!("{folder}/Cargo.toml"), 0, what));
                }
            }
        }
    }
    found
}

/// Identifiers of all Rust below `folder` that is not another member's.
fn names_below(tree: &Tree, folder: &str, members: &[(String, Table)]) -> Vec<String> {
    let below = |path: &str, folder: &str| path.starts_with(&format!("{folder}/"));
    let others: Vec<&str> = members
        .iter()
        .map(|(other, _)| other.as_str())
        .filter(|other| below(other, folder))
        .collect();
    let own = tree
        .rust()
        .filter(|(path, _)| below(path, folder) && !others.iter().any(|other| below(path, other)));
    let mut names: Vec<String> = Vec::new();
    for (_, text) in own {
        let source = Source::of(text);
        names.extend(source.names().map(|(_, name)| name.to_owned()));
    }
    for (sign, used) in GENERATED {
        if names.iter().any(|name| name == sign) {
            names.extend(used.iter().map(|name| (*name).to_owned()));
        }
    }
    names
}

/// Lines of `[workspace.dependencies]` without a reason; our own crates need none.
fn unexplained(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in tree.text(ROOT).unwrap_or("").lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim() == "[workspace.dependencies]";
            continue;
        }
        let Some((name, rest)) = line.split_once('=').filter(|_| inside) else {
            continue;
        };
        let own = rest.contains("path =");
        let reason = rest
            .rsplit_once("# ")
            .is_some_and(|(_, why)| why.trim().len() > 2);
        if !own && !name.trim_start().starts_with('#') && !reason {
            let what = format!("{}: say after a # what it is for", name.trim());
            found.push(Finding::new(ROOT, index + 1, what));
        }
    }
    found
}

/// Workspace dependencies that no member uses.
fn orphans(tree: &Tree, members: &[(String, Table)]) -> Vec<Finding> {
    let root: Table = match tree.text(ROOT).map(str::parse) {
        Some(Ok(root)) => root,
        Some(Err(_)) | None => return Vec::new(),
    };
    let empty = Table::new();
    let listed_once = |name: &String| {
        members.iter().any(|(_, manifest)| {
            HEADINGS
                .iter()
                .any(|heading| listed(manifest, heading).any(|listed| listed == name))
        })
    };
    root.get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(Value::as_table)
        .unwrap_or(&empty)
        .keys()
        .filter(|name| !listed_once(name))
        .map(|name| {
            Finding::new(
                ROOT,
                0,
                format!("{name} is a dependency of no member: remove it"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT_TEXT: &str = "[workspace.dependencies]\nserde = \"1\" # to read\n";

    fn said(root: &str, code: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("Cargo.toml", root),
            (
                "agent/Cargo.toml",
                "[dependencies]\nserde.workspace = true\n",
            ),
            ("agent/src/lib.rs", code),
        ]);
        found(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dependency_is_used_explained_and_no_orphan() {
        assert!(said(ROOT_TEXT, "use serde::Serialize;").is_empty());
        assert_eq!(
            said(ROOT_TEXT, "// serde"),
            ["agent/Cargo.toml: lists serde under [dependencies] and does not use it"]
        );
        let bare = "[workspace.dependencies]\nserde = \"1\"\n";
        assert_eq!(
            said(bare, "use serde::Serialize;"),
            ["Cargo.toml:2: serde: say after a # what it is for"]
        );
        let more = format!("{ROOT_TEXT}time = \"1\" # border\n");
        assert_eq!(
            said(&more, "use serde::Serialize;"),
            ["Cargo.toml: time is a dependency of no member: remove it"]
        );
    }

    #[test]
    fn generated_code_uses_what_it_uses() {
        let tree = Tree::of(&[
            ("proto/Cargo.toml", "[dependencies]\nprost = \"1\"\n"),
            ("proto/src/lib.rs", "tonic::include_proto!(\"v1\");"),
        ]);
        assert_eq!(found(&tree), []);
    }

    #[test]
    fn a_member_inside_another_has_its_own_code() {
        let tree = Tree::of(&[
            ("tests/Cargo.toml", "[dependencies]\nserde = \"1\"\n"),
            ("tests/app/Cargo.toml", "[dependencies]\n"),
            ("tests/app/src/main.rs", "use serde::Serialize;"),
        ]);
        assert_eq!(found(&tree).len(), 1);
    }
}
