//! No tracked file names a place that only one machine has, or the host of a
//! registry: a checkout must build and test wherever it is, with whatever
//! mirror its cargo, apt and Docker were told to use.

use crate::{Except, Finding, Tree, except};

/// Put together here, so that this file does not say them.
const BANNED: [(&str, &str); 9] = [
    (concat!("/ho", "me/"), "somebody's home"),
    (concat!("/ro", "ot/"), "root's home"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/Us", "ers/"), "somebody's home"),
    (concat!("crates", ".io"), "a registry"),
    (concat!("static.rust-", "lang"), "a download host"),
    (concat!("registry-1.", "docker"), "a registry"),
    (concat!("deb.", "debian.org"), "a package mirror"),
    (concat!("proxy.", "golang.org"), "a registry"),
];

/// Letters before these are part of a longer path or name.
const MAY: [Except; 3] = [
    Except {
        path: "cli/src/environment.rs",
        why: "the made-up home of a test",
    },
    Except {
        path: "Cargo.lock",
        why: "cargo writes its registry's name there",
    },
    Except {
        path: "proto/src/identity.rs",
        why: "a test's identity of nobody: a name between two slashes",
    },
];

/// What names such a place.
#[must_use]
pub fn broken(tree: &Tree) -> Vec<Finding> {
    except(found(tree), &MAY, "the ban on places")
}

fn found(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.files() {
        for (index, line) in text.lines().enumerate() {
            let banned = BANNED.iter().filter(|(place, _)| line.contains(place));
            found.extend(banned.map(|(place, kind)| {
                Finding::new(path, index + 1, format!("names {place}, {kind}"))
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_one_machine_is_found_in_any_file() {
        let bad = format!("x\ncd {}ann/cutover\n", BANNED[0].0);
        let tree = Tree::of(&[("README.md", &bad), ("a.rs", "fn home() {}")]);
        let said: Vec<_> = found(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [format!(
                "README.md:2: names {}, somebody's home",
                BANNED[0].0
            )]
        );
    }

    #[test]
    fn a_registry_is_found() {
        let bad = format!("image: https://{}", BANNED[4].0);
        assert_eq!(found(&Tree::of(&[("a.sh", &bad)])).len(), 1);
    }
}
