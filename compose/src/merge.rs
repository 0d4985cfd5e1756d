//! Several files as one: Compose's rules of merging.
//!
//! Mappings merge, single values are replaced, lists are joined; some lists
//! have items with an identity, some are mappings in another notation, and
//! commands are replaced as a whole. `!reset` and `!override` win over all.

use crate::node::{Entry, Kind, Merging, Node};
use crate::problem::Log;

/// How two values of one field meet.
enum Rule {
    /// The later one, as a whole.
    Replace,
    /// `name=value` lists and mappings are one thing.
    Pairs(&'static [char]),
    /// A list of names stands for a mapping from names to this.
    Names(Option<(&'static str, &'static str)>),
    /// Items with the same identity are one; the later wins.
    Keyed(fn(&Node) -> Option<String>),
    /// Joined, each item once.
    Once,
    /// Merged unless the drivers differ.
    Logging,
    /// By what they are.
    Usual,
}

fn rule(path: &[&str]) -> Rule {
    let service = match path {
        ["services", _, rest @ ..] => rest,
        ["x-cutover", rest @ ..] => return settings(rest),
        _ => return Rule::Usual,
    };
    match service {
        ["command" | "entrypoint" | "build"] | ["healthcheck", "test"] => Rule::Replace,
        ["environment" | "labels" | "annotations" | "sysctls"] | ["deploy", "labels"] => {
            Rule::Pairs(&['='])
        }
        ["extra_hosts"] => Rule::Pairs(&['=', ':']),
        ["networks"] => Rule::Names(None),
        ["depends_on"] => Rule::Names(Some(("condition", "service_started"))),
        ["ports"] => Rule::Keyed(port),
        ["volumes" | "devices"] => Rule::Keyed(target),
        ["configs" | "secrets"] => Rule::Keyed(grant),
        [
            "dns" | "dns_opt" | "dns_search" | "tmpfs" | "env_file" | "label_file" | "expose"
            | "profiles" | "cap_add" | "cap_drop" | "security_opt" | "links" | "external_links"
            | "group_add",
        ]
        | ["networks", _, "aliases"] => Rule::Once,
        ["ulimits", _] => Rule::Replace,
        ["logging"] => Rule::Logging,
        ["x-cutover", rest @ ..] => settings(rest),
        _ => Rule::Usual,
    }
}

/// A check is one thing: half of one file's and half of another's is neither's.
fn settings(path: &[&str]) -> Rule {
    match path {
        ["ready" | "live", "exec"] => Rule::Replace,
        _ => Rule::Usual,
    }
}

/// `over` upon `base`.
pub(crate) fn merge(base: Node, over: Node, log: &Log) -> Node {
    merge_at(base, over, &mut Vec::new(), log)
}

/// Takes out what a single file resets.
pub(crate) fn settle(mut node: Node) -> Node {
    node.kind = match node.kind {
        Kind::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .filter(|entry| entry.value.merging != Merging::Reset)
                .map(|entry| Entry {
                    value: settle(entry.value),
                    ..entry
                })
                .collect(),
        ),
        Kind::List(items) => Kind::List(
            items
                .into_iter()
                .filter(|item| item.merging != Merging::Reset)
                .map(settle)
                .collect(),
        ),
        kind @ (Kind::Null | Kind::Scalar(_)) => kind,
    };
    node
}

fn merge_at(base: Node, over: Node, path: &mut Vec<String>, log: &Log) -> Node {
    if over.merging != Merging::Usual || base.merging == Merging::Reset || base.kind == Kind::Null {
        return over;
    }
    if over.kind == Kind::Null {
        return base;
    }
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match rule(&names) {
        Rule::Replace => over,
        Rule::Pairs(separators) => {
            by_kind(pairs(base, separators), pairs(over, separators), path, log)
        }
        Rule::Names(value) => by_kind(named(base, value), named(over, value), path, log),
        Rule::Keyed(key) => join(base, over, path, log, key),
        Rule::Once => join(list(base), list(over), path, log, |item| {
            match item.scalar() {
                Some(scalar) => Some(scalar.text.clone()),
                None => item
                    .child("path")
                    .and_then(Node::scalar)
                    .map(|scalar| scalar.text.clone()),
            }
        }),
        Rule::Logging => {
            let driver = |node: &Node| {
                node.child("driver")
                    .and_then(Node::scalar)
                    .map(|scalar| scalar.text.clone())
            };
            match (driver(&base), driver(&over)) {
                (Some(a), Some(b)) if a != b => over,
                _ => by_kind(base, over, path, log),
            }
        }
        Rule::Usual => by_kind(base, over, path, log),
    }
}

fn by_kind(base: Node, over: Node, path: &mut Vec<String>, log: &Log) -> Node {
    let sorts = (base.sort(), over.sort());
    match (base.kind, over.kind) {
        (Kind::Map(mut entries), Kind::Map(later)) => {
            for entry in later {
                match entries.iter_mut().find(|earlier| earlier.key == entry.key) {
                    Some(earlier) => {
                        path.push(entry.key.clone());
                        let before = std::mem::replace(
                            &mut earlier.value,
                            Node::new(entry.at.clone(), Kind::Null),
                        );
                        earlier.value = merge_at(before, entry.value, path, log);
                        earlier.at = entry.at;
                        path.pop();
                    }
                    None => entries.push(entry),
                }
            }
            Node::new(base.at, Kind::Map(entries))
        }
        (Kind::List(mut items), Kind::List(later)) => {
            items.extend(later);
            Node::new(base.at, Kind::List(items))
        }
        (Kind::Scalar(_), kind @ Kind::Scalar(_)) => Node::new(over.at, kind),
        (earlier, _) => {
            let what = format!(
                "is {}, but {} in an earlier file ({})",
                sorts.1, sorts.0, base.at
            );
            log.error(
                &over.at,
                &path.join("."),
                what,
                "write it the same way, or put !override before it",
            );
            Node::new(base.at, earlier)
        }
    }
}

/// Joins two lists; an item with the identity of an earlier one takes its place.
fn join(
    base: Node,
    over: Node,
    path: &mut Vec<String>,
    log: &Log,
    key: impl Fn(&Node) -> Option<String>,
) -> Node {
    let (mut items, later) = match (base.kind, over.kind) {
        (Kind::List(items), Kind::List(later)) => (items, later),
        (base_kind, over_kind) => {
            let base = Node {
                kind: base_kind,
                ..Node::new(base.at, Kind::Null)
            };
            return by_kind(base, Node::new(over.at, over_kind), path, log);
        }
    };
    for item in later {
        let identity = key(&item);
        match items
            .iter_mut()
            .find(|earlier| identity.is_some() && key(earlier) == identity)
        {
            Some(earlier) => *earlier = item,
            None => items.push(item),
        }
    }
    Node::new(over.at, Kind::List(items))
}

/// A single value as a list of one.
fn list(node: Node) -> Node {
    if node.scalar().is_some() {
        Node::new(node.at.clone(), Kind::List(vec![node]))
    } else {
        node
    }
}

/// `["a=b"]` as `{a: b}`; of several with one name the last wins.
fn pairs(node: Node, separators: &[char]) -> Node {
    let Kind::List(items) = node.kind else {
        return node;
    };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Some(scalar) = item.scalar() else {
            return Node::new(node.at, Kind::List(vec![item]));
        };
        let (key, value) = match scalar.text.split_once(separators) {
            None => (scalar.text.clone(), Node::new(item.at.clone(), Kind::Null)),
            Some((key, text)) => {
                let mut value = Node::text(item.at.clone(), text);
                if let Kind::Scalar(value) = &mut value.kind {
                    value.template.clone_from(&scalar.template);
                    value.broken = scalar.broken;
                }
                (key.to_owned(), value)
            }
        };
        entries.retain(|entry| entry.key != key);
        entries.push(Entry {
            at: item.at.clone(),
            key,
            value,
        });
    }
    Node::new(node.at, Kind::Map(entries))
}

/// `[a, b]` as `{a: …, b: …}`.
fn named(node: Node, value: Option<(&str, &str)>) -> Node {
    let Kind::List(items) = node.kind else {
        return node;
    };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Some(scalar) = item.scalar() else {
            return Node::new(node.at, Kind::List(vec![item]));
        };
        let kind = value.map_or(Kind::Null, |(key, text)| {
            let value = Node::text(item.at.clone(), text);
            Kind::Map(vec![Entry {
                at: item.at.clone(),
                key: key.to_owned(),
                value,
            }])
        });
        let key = scalar.text.clone();
        entries.retain(|entry| entry.key != key);
        entries.push(Entry {
            at: item.at.clone(),
            key,
            value: Node::new(item.at.clone(), kind),
        });
    }
    Node::new(node.at, Kind::Map(entries))
}

fn child_text<'a>(node: &'a Node, key: &str) -> &'a str {
    node.child(key)
        .and_then(Node::scalar)
        .map_or("", |scalar| scalar.text.as_str())
}

/// Address, published port, container port and transport make a port.
fn port(node: &Node) -> Option<String> {
    let Some(scalar) = node.scalar() else {
        let transport = Some(child_text(node, "protocol"))
            .filter(|text| !text.is_empty())
            .unwrap_or("tcp");
        let (address, published) = (child_text(node, "host_ip"), child_text(node, "published"));
        return Some(format!(
            "{address}|{published}|{}|{transport}",
            child_text(node, "target")
        ));
    };
    let (ports, transport) = scalar.text.split_once('/').unwrap_or((&scalar.text, "tcp"));
    let (before, target) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, published) = before.rsplit_once(':').unwrap_or(("", before));
    Some(format!("{address}|{published}|{target}|{transport}"))
}

/// The path in the container makes a mount.
fn target(node: &Node) -> Option<String> {
    let Some(scalar) = node.scalar() else {
        return Some(child_text(node, "target"))
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
    };
    let mut parts = scalar.text.split(':');
    let first = parts.next()?;
    Some(parts.next().unwrap_or(first).to_owned())
}

/// The path in the container makes a config or secret; by default its name.
fn grant(node: &Node) -> Option<String> {
    if let Some(scalar) = node.scalar() {
        return Some(format!("/{}", scalar.text));
    }
    match child_text(node, "target") {
        "" => Some(format!("/{}", child_text(node, "source"))),
        target => Some(target.to_owned()),
    }
}
