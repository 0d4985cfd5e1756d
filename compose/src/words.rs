//! A command line in one text, split into words as Compose splits it.
//!
//! Quotes and backslashes as a shell has them; nothing is run or replaced.

/// The words; `None` when a quote is left open.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next()?),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => {
                                word.push('\\');
                                word.push(c);
                            }
                        },
                        c => word.push(c),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        for (text, expected) in [
            ("", vec![]),
            ("serve --port 80", vec!["serve", "--port", "80"]),
            ("sh -c 'a b; c'", vec!["sh", "-c", "a b; c"]),
            (
                "a\\ b \"c \\\"d\\\" \\n\" ''",
                vec!["a b", "c \"d\" \\n", ""],
            ),
        ] {
            assert_eq!(
                split(text),
                Some(expected.into_iter().map(str::to_owned).collect()),
                "{text}"
            );
        }
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("a \\"), None);
    }
}
