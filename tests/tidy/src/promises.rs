//! Which of the promises P1 to P12 have tests that name them. Told, not judged:
//! that a test names a promise does not say that it keeps it.

use std::collections::BTreeSet;

use crate::Tree;

/// The promises of ARCHITECTURE.md.
pub const COUNT: usize = 12;

/// The test files that name the promise with this number, as `P3` or in a test's name as `p3_`.
#[must_use]
pub fn named(tree: &Tree, number: usize) -> BTreeSet<&str> {
    let (upper, lower) = (format!("P{number}"), format!("p{number}"));
    tree.rust()
        .filter(|(_, text)| {
            let tests = text.contains("#[test]") || text.contains("#[tokio::test");
            tests
                .then(|| words(text))
                .into_iter()
                .flatten()
                .any(|word| word == upper || word.split('_').any(|part| part == lower))
        })
        .map(|(path, _)| path)
        .chain(simulated(tree, &upper))
        .collect()
}

/// The simulation is no `#[test]` but a program: its promises are an enum.
fn simulated<'a>(tree: &'a Tree, promise: &str) -> impl Iterator<Item = &'a str> {
    tree.rust()
        .filter(move |(path, text)| {
            path.starts_with("tests/world/")
                && words(text)
                    .collect::<Vec<_>>()
                    .windows(2)
                    .any(|pair| pair == ["Promise", promise])
        })
        .map(|(path, _)| path)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_named_in_a_test() {
        let tree = Tree::of(&[
            ("tests/a.rs", "#[test]\nfn p3_durable_before_said() {}"),
            (
                "tests/b.rs",
                "//! Shows P3.\n#[tokio::test]\nasync fn f() {}",
            ),
            ("src/c.rs", "// P3\nfn p3() {}"),
            ("tests/d.rs", "#[test]\nfn p31_x() { http2_p33() }"),
            ("tests/world/src/e.rs", "if bad { Promise::P3 }"),
        ]);
        let expected = BTreeSet::from(["tests/a.rs", "tests/b.rs", "tests/world/src/e.rs"]);
        assert_eq!(named(&tree, 3), expected);
        assert_eq!(named(&tree, 2), BTreeSet::new());
    }
}
