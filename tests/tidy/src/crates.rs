//! Who may see whom: core ← proto, compose, daemon ← agent, coordinator, cli;
//! these three never see each other, and only what is under `tests/` sees all.

use toml::{Table, Value};

use crate::{Finding, Tree};

/// What of our own a crate may see. All of it is listed; a crate that is not is a finding.
const MAY_SEE: [(&str, &[&str]); 7] = [
    ("core", &[]),
    ("compose", &["core"]),
    ("proto", &["core"]),
    ("daemon", &["core"]),
    ("agent", &["core", "compose", "proto", "daemon"]),
    ("coordinator", &["core", "compose", "proto", "daemon"]),
    ("cli", &["core", "compose", "proto"]),
];

/// The third-party crates that core may use.
const CORE_USES: [&str; 1] = ["thiserror"];

/// One crate alone may depend on these, beside tests.
const ONE_USER: [(&str, &str); 2] = [("sled", "coordinator"), ("bollard", "agent")];

const OURS: &str = "cutover-";

/// The folder of each member, with its manifest.
pub(crate) fn members(tree: &Tree) -> Vec<(String, Table)> {
    let folder = |path: &str| path.strip_suffix("/Cargo.toml").map(str::to_owned);
    tree.files()
        .filter_map(|(path, text)| Some((folder(path)?, text.parse().ok()?)))
        .collect()
}

/// What a manifest lists under this heading.
pub(crate) fn listed<'a>(manifest: &'a Table, heading: &str) -> impl Iterator<Item = &'a String> {
    manifest
        .get(heading)
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::keys)
}

/// What sees more than it may.
#[must_use]
pub fn broken(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (folder, manifest) in members(tree) {
        let path = format!("{folder}/Cargo.toml");
        let mut say = |what: String| found.push(Finding::new(&path, 0, what));
        if folder.starts_with("tests") {
            continue;
        }
        let Some((_, may_see)) = MAY_SEE.iter().find(|(name, _)| *name == folder) else {
            say(
                "is a crate that tests/tidy/src/crates.rs does not place; say what it may see"
                    .to_owned(),
            );
            continue;
        };
        for dependency in ["dependencies", "build-dependencies"]
            .iter()
            .flat_map(|heading| listed(&manifest, heading))
        {
            match dependency.strip_prefix(OURS) {
                Some(ours) if !may_see.contains(&ours) => {
                    say(format!("{folder} may not see {ours}"));
                }
                None if folder == "core" && !CORE_USES.contains(&dependency.as_str()) => {
                    say(format!(
                        "core may not use {dependency}: it stays without I/O and clock"
                    ));
                }
                Some(_) | None => {}
            }
            if let Some((_, user)) = ONE_USER
                .iter()
                .find(|(name, user)| name == dependency && *user != folder)
            {
                say(format!("only {user} may depend on {dependency}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(folder: &str, manifest: &str) -> Vec<String> {
        let path = format!("{folder}/Cargo.toml");
        let tree = Tree::of(&[(&path, manifest)]);
        broken(&tree)
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn the_programs_never_see_each_other() {
        let sees = |name: &str| format!("[dependencies]\ncutover-{name}.workspace = true\n");
        assert_eq!(
            said("agent", &sees("coordinator")),
            ["agent may not see coordinator"]
        );
        assert_eq!(said("cli", &sees("agent")), ["cli may not see agent"]);
        assert_eq!(said("core", &sees("proto")), ["core may not see proto"]);
        assert!(said("agent", &sees("core")).is_empty());
        assert!(said("tests", &sees("agent")).is_empty());
    }

    #[test]
    fn core_uses_thiserror_alone() {
        let found = said("core", "[dependencies]\nthiserror = \"2\"\nserde = \"1\"\n");
        assert_eq!(
            found,
            ["core may not use serde: it stays without I/O and clock"]
        );
    }

    #[test]
    fn a_store_or_an_engine_has_one_user() {
        let found = said("agent", "[dependencies]\nsled = \"1\"\nbollard = \"1\"\n");
        assert_eq!(found, ["only coordinator may depend on sled"]);
    }

    #[test]
    fn a_new_crate_must_be_placed() {
        assert_eq!(said("gadget", "[dependencies]\n").len(), 1);
    }
}
