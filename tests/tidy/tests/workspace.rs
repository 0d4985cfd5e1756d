//! The rules of the house, on this workspace. Each test is one rule; what it
//! found is printed one a line, with the place and what to do.
#![allow(clippy::print_stdout, reason = "what is found is printed")]

use std::process::Command;

use cutover_tidy::{
    Finding, Tree, crates, examples, files, licences::Rules, manifests, places, promises, walls,
    words,
};

#[track_caller]
fn keep(rule: fn(&Tree) -> Vec<Finding>) {
    none(rule(&Tree::workspace().expect("the workspace can be read")));
}

#[track_caller]
fn none(found: Vec<Finding>) {
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(said.is_empty(), "\n{}\n", said.join("\n"));
}

#[test]
fn sled_bollard_and_nginx_are_each_said_in_one_place() {
    keep(walls::broken);
}

#[test]
fn no_crate_sees_more_than_it_may() {
    keep(crates::broken);
}

#[test]
fn every_dependency_is_used_and_says_what_for() {
    keep(manifests::broken);
}

#[test]
fn every_file_opens_with_its_role() {
    keep(files::unopened);
}

#[test]
fn no_file_is_too_long() {
    let tree = Tree::workspace().unwrap();
    for (path, lines) in files::longer_than(&tree, files::LONG) {
        println!("long: {path}: {lines} lines");
    }
    none(files::too_long(&tree));
}

#[test]
fn no_module_is_named_after_nothing() {
    keep(files::empty_names);
}

#[test]
fn nothing_is_unfinished_and_no_test_is_ignored() {
    keep(files::unfinished);
}

#[test]
fn nothing_sleeps_without_a_reason() {
    keep(files::sleeps);
}

#[test]
fn the_glossary_is_true_of_the_code() {
    keep(words::broken);
}

#[test]
fn no_file_names_a_place_of_one_machine_or_a_registry() {
    keep(places::broken);
}

#[test]
fn every_example_can_be_read() {
    let tree = Tree::workspace().unwrap();
    assert!(
        tree.files()
            .any(|(path, _)| path.starts_with(examples::FOLDER))
    );
    none(examples::broken(&tree));
}

#[test]
fn every_crate_that_is_built_may_be_shipped() {
    let tree = Tree::workspace().unwrap();
    let rules = Rules::of(tree.text("deny.toml").unwrap()).unwrap();
    // For this kind of machine alone: sources for others need not have been fetched.
    let target = env!("TIDY_TARGET");
    let said = Command::new(env!("CARGO"))
        .current_dir(tree.root())
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            target,
        ])
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    none(rules.broken(&serde_json::from_slice(&said.stdout).unwrap()));
}

#[test]
fn promises_and_the_tests_that_name_them_are_listed() {
    let tree = Tree::workspace().unwrap();
    for number in 1..=promises::COUNT {
        let named = promises::named(&tree, number);
        match named.len() {
            0 => println!("P{number}: named by no test yet"),
            files => println!(
                "P{number}: named in {files} test files: {}",
                named.into_iter().collect::<Vec<_>>().join(", ")
            ),
        }
    }
}
