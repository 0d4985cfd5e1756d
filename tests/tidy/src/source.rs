//! Rust text, taken apart as far as the rules need: code, string literals, and
//! the rest (comments).
//!
//! Keeps true: every part keeps its line. It is no parser: macros and types are
//! words to it.

/// What a file of Rust holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The text with comments and what stands in literals blanked out.
    pub code: String,
    /// String literals with the line they begin in, as written between the quotes.
    pub texts: Vec<(usize, String)>,
}

impl Source {
    /// Takes `text` apart.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut source = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (length, kind) = next(rest, &source.code);
            let (piece, after) = rest.split_at(length);
            match kind {
                Piece::Code => source.code.push_str(piece),
                Piece::Comment => source.blank(piece),
                Piece::Text => {
                    let line = source.code.matches('\n').count() + 1;
                    let inner = piece.trim_start_matches(['b', 'c', 'r', '#']);
                    let inner = inner.trim_end_matches('#');
                    let inner = inner.get(1..inner.len().saturating_sub(1)).unwrap_or("");
                    source.texts.push((line, inner.to_owned()));
                    source.blank(piece);
                }
            }
            rest = after;
        }
        source
    }

    fn blank(&mut self, piece: &str) {
        let blank = piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' });
        self.code.extend(blank);
    }

    /// Every identifier and keyword, with its line.
    pub fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().flat_map(|(index, line)| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty() && !word.starts_with(|c: char| c.is_ascii_digit()))
                .map(move |word| (index + 1, word))
        })
    }
}

enum Piece {
    Code,
    Comment,
    Text,
}

/// How long the next piece is, and what; `before` is the code so far.
fn next(rest: &str, before: &str) -> (usize, Piece) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Piece::Comment);
    }
    if rest.starts_with("/*") {
        return (comment(rest), Piece::Comment);
    }
    let in_name = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let opening = rest.trim_start_matches(['b', 'c', 'r']);
    let prefix = rest.len() - opening.len();
    let hashes = opening.len() - opening.trim_start_matches('#').len();
    let raw = rest[..prefix].contains('r');
    let quoted = opening[hashes..].starts_with('"') && (raw || hashes == 0);
    if quoted && prefix <= 2 && !(in_name && prefix > 0) {
        let start = prefix + hashes + 1;
        let length = if raw {
            let end = format!("\"{}", "#".repeat(hashes));
            rest[start..].find(&end).map(|at| start + at + end.len())
        } else {
            closing(rest, start, '"')
        };
        return (length.unwrap_or(rest.len()), Piece::Text);
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    (rest.chars().next().map_or(0, char::len_utf8), Piece::Code)
}

fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Where the literal ends that was opened just before `start`.
fn closing(rest: &str, start: usize, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest[start..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(start + at + 1),
            _ => {}
        }
    }
    None
}

/// A character literal is blanked like a comment; a lifetime's quote is code.
fn character(rest: &str) -> (usize, Piece) {
    let mut inside = rest[1..].chars();
    match (inside.next(), inside.next()) {
        (Some('\\'), _) => (closing(rest, 1, '\'').unwrap_or(1), Piece::Comment),
        (Some(c), Some('\'')) => (2 + c.len_utf8(), Piece::Comment),
        _ => (1, Piece::Code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::of(text).code
    }

    #[test]
    fn comments_and_literals_leave_blanks_and_their_lines() {
        assert_eq!(code("a // sled\nb"), "a        \nb");
        assert_eq!(code("a /* x /* y */\n z */ b"), "a             \n      b");
        assert_eq!(
            code(r#"f("sled \" //", 'x', '\'', '"') + g"#)
                .trim_end()
                .len(),
            35
        );
        assert!(!code(r#"f("sled \" //", 'x', '\'', '"') + g"#).contains("sled"));
        assert!(code(r#"f("sled \" //", 'x', '\'', '"') + g"#).ends_with("+ g"));
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        assert!(code("r#\"a \"quoted\" b\"# + g").ends_with(" + g"));
        assert_eq!(code("r#type + number"), "r#type + number");
    }

    #[test]
    fn texts_are_what_stands_between_the_quotes() {
        let source = Source::of("a\n\"one\" b\"two\" r#\"th\"ree\"#");
        assert_eq!(
            source.texts,
            [
                (2, "one".to_owned()),
                (2, "two".to_owned()),
                (2, "th\"ree".to_owned())
            ]
        );
    }

    #[test]
    fn names_come_with_their_lines() {
        let source = Source::of("use a::b_c; // d\nlet e = 1u8;");
        let names: Vec<_> = source.names().collect();
        assert_eq!(
            names,
            [(1, "use"), (1, "a"), (1, "b_c"), (2, "let"), (2, "e")]
        );
    }
}
