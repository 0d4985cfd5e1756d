//! Where a word of the outside world may be said in code: one place each.
//!
//! Identifiers count for a crate's name. For nginx, identifiers count, and of
//! string literals those that are its command, a path of its, or a directive:
//! words for people may say "nginx" anywhere, and so may comments. `tests/` is
//! the outside world itself and may say everything.

use crate::source::Source;
use crate::{Except, Finding, Tree, except};

struct Wall {
    word: &'static str,
    places: &'static [&'static str],
    /// Whether literals are looked at as well.
    texts: bool,
}

const WALLS: [Wall; 3] = [
    Wall {
        word: "sled",
        places: &["coordinator/src/store/"],
        texts: false,
    },
    Wall {
        word: "bollard",
        places: &["agent/src/docker/"],
        texts: false,
    },
    Wall {
        word: "nginx",
        places: &["agent/src/traffic/", "agent/src/signals/"],
        texts: true,
    },
];

/// nginx's own words that nobody else would write into a literal.
const DIRECTIVES: [&str; 8] = [
    "proxy_pass",
    "proxy_next_upstream",
    "split_clients",
    "ssl_preread",
    "access_log",
    "stub_status",
    "worker_processes",
    "server_name ",
];

const OUTSIDE: &str = "tests/";

/// May say it although they stand outside of the wall.
const MAY: [Except; 3] = [
    Except {
        path: "agent/src/config.rs",
        why: "the admin's [nginx] section has that name",
    },
    Except {
        path: "agent/src/run.rs",
        why: "puts the agent together, the adapter for nginx included",
    },
    Except {
        path: "agent/src/host.rs",
        why: "tells which nginx the host has",
    },
];

/// What breaks a wall.
#[must_use]
pub fn broken(tree: &Tree) -> Vec<Finding> {
    except(found(tree), &MAY, "the walls")
}

fn found(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| !path.starts_with(OUTSIDE)) {
        let source = Source::of(text);
        for wall in &WALLS {
            if wall.places.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            let names = source
                .names()
                .filter(|(_, name)| name.to_ascii_lowercase().contains(wall.word))
                .map(|(line, name)| (line, name.to_owned()));
            let texts = source
                .texts
                .iter()
                .filter(|(_, text)| wall.texts && concerns_nginx(text))
                .map(|(line, text)| (*line, format!("{text:?}")));
            found.extend(names.chain(texts).map(|(line, said)| {
                let what = format!(
                    "says {said}; only {} may say {}",
                    wall.places.join(" and "),
                    wall.word
                );
                Finding::new(path, line, what)
            }));
        }
    }
    found
}

/// Its command, a path of its, or a directive; not a sentence.
fn concerns_nginx(text: &str) -> bool {
    let path = text.match_indices("nginx").any(|(at, word)| {
        let after = text[at + word.len()..].chars().next();
        text[..at].ends_with('/')
            || matches!(after, Some('/'))
            || text[at..].starts_with("nginx.conf")
    });
    let command = text == "nginx" || text.starts_with("nginx -");
    path || command || DIRECTIVES.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let found = found(&Tree::of(&[(path, text)]));
        found.into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_crate_behind_a_wall_is_seen_elsewhere() {
        assert_eq!(lines("agent/src/lib.rs", "\nuse sled::Db;"), [2]);
        assert!(lines("coordinator/src/store/engine.rs", "use sled::Db;").is_empty());
        assert_eq!(
            lines("coordinator/src/web.rs", "fn f(c: bollard::Docker) {}"),
            [1]
        );
        assert!(lines("tests/rig/engine.rs", "use bollard::Docker;").is_empty());
        assert!(lines("core/src/lib.rs", "// sled is a store\nf(\"sled=warn\")").is_empty());
    }

    #[test]
    fn nginx_in_names_paths_commands_and_directives_is_seen() {
        let there = "agent/src/loop.rs";
        assert_eq!(lines(there, "let nginx = 1;\nlet NginxConf = 2;"), [1, 2]);
        assert_eq!(lines(there, "f(\"/etc/nginx/conf.d\")"), [1]);
        assert_eq!(lines(there, "Command::new(\"nginx\")"), [1]);
        assert_eq!(lines(there, "w(\"proxy_pass http://x;\")"), [1]);
        assert!(lines("agent/src/traffic/mod.rs", "let nginx = \"/etc/nginx\";").is_empty());
    }

    #[test]
    fn a_sentence_for_people_may_say_nginx() {
        let there = "cli/src/a.rs";
        assert!(lines(there, "// nginx\nf(\"nginx of each host listens\")").is_empty());
        assert!(lines("cli/src/a.rs", "f(\"ask nginx, then wait\")").is_empty());
    }
}
