//! `networks`: which of the engine's networks a container joins.
//!
//! Names are those that Compose would give. Without `networks` it is the
//! default one, `APP_default`.

use cutover_core::spec::Network;

use crate::container::Context;
use crate::fields;
use crate::node::Kind;
use crate::reader::{Field, Fields};

pub(crate) fn read(service: &Fields<'_>, cx: &Context<'_>) -> Vec<Network> {
    let mut found = Vec::new();
    match service.take("networks") {
        None => found.extend(network(&service.of, "default", Vec::new(), cx)),
        Some(field) if field.node.entries().is_some() => {
            let Some(fields) = field.fields() else {
                return found;
            };
            for (name, member) in fields.all() {
                let aliases = if member.node.kind == Kind::Null {
                    Vec::new()
                } else {
                    membership(&member)
                };
                found.extend(network(&member, name, aliases, cx));
            }
        }
        Some(field) => {
            for item in field.items() {
                if let Some(name) = item.word() {
                    found.extend(network(&item, name, Vec::new(), cx));
                }
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name);
    found
}

fn membership(member: &Field<'_>) -> Vec<String> {
    let Some(fields) = member.fields() else {
        return Vec::new();
    };
    let aliases = fields.take("aliases");
    fields.finish(fields::MEMBERSHIP);
    let Some(aliases) = aliases else {
        return Vec::new();
    };
    let names = aliases.texts();
    if !names.is_empty() {
        aliases.warn(
            "names containers, not the service: while two versions run, it reaches either of them",
            "callers that must not notice a change use the service's own name",
        );
    }
    names
}

fn network(
    field: &Field<'_>,
    name: &str,
    aliases: Vec<String>,
    cx: &Context<'_>,
) -> Option<Network> {
    let (name, external) = match cx.declared("networks", name) {
        Some(declared) => cx.named(&declared, name, fields::NETWORK)?,
        None if name == "default" => (format!("{}_default", cx.app), false),
        None => {
            field.error(
                "names a network that is not declared",
                "add it under 'networks' of the file",
            );
            return None;
        }
    };
    Some(Network {
        name,
        external,
        aliases,
    })
}
