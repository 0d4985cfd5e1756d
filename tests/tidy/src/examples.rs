//! Example files work: what a reader copies from `packaging/examples/` is read
//! by the same code that will read the copy, without an error.
//!
//! The daemons' own configuration is read by the daemons' tests; here it must
//! only be TOML. Ansible's files are read by Ansible, on the hosts that boot systemd.

use std::path::Path;

use cutover_compose::Input;

use crate::{Finding, Tree};

/// Where they are.
pub const FOLDER: &str = "packaging/examples/";

/// Ansible's.
const ANSIBLE: &str = "packaging/examples/ansible/";

/// What can't be read.
#[must_use]
pub fn broken(tree: &Tree) -> Vec<Finding> {
    tree.files()
        .filter(|(path, _)| path.starts_with(FOLDER))
        .filter(|(path, _)| !(path.starts_with(ANSIBLE) && path.ends_with(".yml")))
        .flat_map(|(path, text)| match path.rsplit('.').next() {
            Some("yaml" | "yml") => compose(tree.root(), path),
            Some("toml") => text
                .parse::<toml::Table>()
                .err()
                .map(|error| Finding::new(path, 0, error.to_string()))
                .into_iter()
                .collect(),
            Some("md") => Vec::new(),
            Some(_) | None => vec![Finding::new(path, 0, "is an example that no test reads")],
        })
        .collect()
}

/// Reads an example as `cutover plan --normalized` does, with no variables set.
fn compose(root: &Path, path: &str) -> Vec<Finding> {
    let input = Input {
        files: vec![root.join(path)],
        ..Input::default()
    };
    let Err(problems) = cutover_compose::load(&input) else {
        return Vec::new();
    };
    vec![Finding::new(path, 0, problems.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_that_no_code_reads_is_found() {
        let tree = Tree::of(&[("packaging/examples/x.ini", "")]);
        assert_eq!(broken(&tree).len(), 1);
        let tree = Tree::of(&[("packaging/examples/ansible/x.ini", "")]);
        assert_eq!(broken(&tree).len(), 1);
        let tree = Tree::of(&[("packaging/examples/ansible/x.yml", "- hosts: all")]);
        assert_eq!(broken(&tree), []);
        let tree = Tree::of(&[("packaging/examples/x.toml", "a = ")]);
        assert_eq!(broken(&tree).len(), 1);
        let tree = Tree::of(&[("packaging/examples/x.toml", "a = 1")]);
        assert_eq!(broken(&tree), []);
    }

    #[test]
    fn an_example_that_compose_refuses_is_found() {
        let path = "packaging/examples/gone.yaml";
        let tree = Tree::of(&[(path, "services: {}")]);
        assert_eq!(broken(&tree).len(), 1, "its file is not there");
    }
}
