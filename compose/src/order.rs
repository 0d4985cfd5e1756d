//! `depends_on`: which service comes after which.

use std::collections::{BTreeMap, BTreeSet};

use cutover_core::ServiceName;

use crate::hint;
use crate::node::Kind;
use crate::reader::{Field, Fields};

/// What a service depends on, as far as it is in the release.
pub(crate) fn dependencies(
    service: &Fields<'_>,
    declared: &BTreeSet<ServiceName>,
    in_release: impl Fn(&ServiceName) -> bool,
) -> BTreeSet<ServiceName> {
    let mut found = BTreeSet::new();
    let Some(field) = service.take("depends_on") else {
        return found;
    };
    let mut add = |at: &Field<'_>, name: &str, required: bool| {
        let Some(known) = declared.iter().find(|known| known.as_str() == name) else {
            if required {
                let advice = hint::did_you_mean(name, declared.iter().map(ServiceName::as_str));
                at.error("names no service of the file", advice);
            }
            return;
        };
        if in_release(known) {
            found.insert(known.clone());
        } else if required {
            at.error(
                "names a service whose profile is off",
                "turn the profile on, or say 'required: false'",
            );
        }
    };
    if field.node.entries().is_none() {
        for item in field.items() {
            add(&item, item.text().unwrap_or(""), true);
        }
        return found;
    }
    for (name, entry) in field.fields().iter().flat_map(Fields::all) {
        if entry.node.kind == Kind::Null {
            add(&entry, name, true);
            continue;
        }
        let Some(fields) = entry.fields() else {
            continue;
        };
        let condition = fields.take("condition");
        let required = fields
            .take("required")
            .and_then(|field| field.boolean())
            .unwrap_or(true);
        if let Some(restart) = fields.take("restart")
            && restart.boolean() == Some(true)
        {
            restart.ignored("a service is not restarted because another was");
        }
        fields.finish(&[]);
        match condition.as_ref().map(|field| (field, field.text())) {
            None | Some((_, None | Some("service_started" | "service_healthy"))) => {}
            Some((field, Some("service_completed_successfully"))) => {
                field.error(
                    "cannot be honoured: not supported yet: services that end",
                    "run the job before the deploy",
                );
            }
            Some((field, Some(_))) => field.error(
                format!("is {}, which is no condition", field.shown()),
                "there are service_started and service_healthy",
            ),
        }
        add(&entry, name, required);
    }
    found
}

/// Each after those that it depends on, else in the order given; or a circle.
pub(crate) fn sort(
    depends_on: &BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    services: &[ServiceName],
) -> Result<Vec<ServiceName>, Vec<ServiceName>> {
    let mut sorted: Vec<ServiceName> = Vec::new();
    let mut waiting: Vec<&ServiceName> = services.iter().collect();
    while !waiting.is_empty() {
        let free = waiting.iter().position(|name| {
            depends_on
                .get(*name)
                .is_none_or(|others| others.iter().all(|other| sorted.contains(other)))
        });
        match free {
            Some(index) => sorted.push(waiting.remove(index).clone()),
            None => return Err(circle(depends_on, &waiting, &sorted)),
        }
    }
    Ok(sorted)
}

/// Follows those that wait until one comes again.
fn circle(
    depends_on: &BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    waiting: &[&ServiceName],
    sorted: &[ServiceName],
) -> Vec<ServiceName> {
    let mut path: Vec<ServiceName> = waiting
        .first()
        .map(|name| (*name).clone())
        .into_iter()
        .collect();
    while let Some(last) = path.last() {
        let next = depends_on
            .get(last)
            .and_then(|others| others.iter().find(|other| !sorted.contains(other)));
        let Some(next) = next.cloned() else {
            return path;
        };
        if let Some(start) = path.iter().position(|name| *name == next) {
            path.push(next);
            return path.split_off(start);
        }
        path.push(next);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(
        edges: &[(&str, &[&str])],
    ) -> (
        BTreeMap<ServiceName, BTreeSet<ServiceName>>,
        Vec<ServiceName>,
    ) {
        let name = |text: &str| text.parse::<ServiceName>().expect("a name");
        let all = edges
            .iter()
            .map(|(a, others)| (name(a), others.iter().map(|b| name(b)).collect()))
            .collect();
        (all, edges.iter().map(|(a, _)| name(a)).collect())
    }

    #[test]
    fn a_service_comes_after_what_it_depends_on_else_as_written() {
        let (edges, names) = graph(&[
            ("web", &["api"]),
            ("worker", &[]),
            ("api", &["db"]),
            ("db", &[]),
        ]);
        let sorted = sort(&edges, &names).expect("no circle");
        let sorted: Vec<&str> = sorted.iter().map(ServiceName::as_str).collect();
        assert_eq!(sorted, ["worker", "db", "api", "web"]);
    }

    #[test]
    fn a_circle_is_shown() {
        let (edges, names) = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]);
        let circle = sort(&edges, &names).expect_err("a circle");
        let circle: Vec<&str> = circle.iter().map(ServiceName::as_str).collect();
        assert_eq!(circle, ["b", "c", "b"]);
    }
}
