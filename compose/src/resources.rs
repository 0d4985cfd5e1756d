//! CPUs, memory, processes, `ulimits` and `logging` of a container.

use std::collections::BTreeMap;

use cutover_core::spec::{Logging, Resources};

use crate::fields;
use crate::reader::{Field, Fields};

/// The least memory that the engine takes.
const LEAST_MEMORY: i64 = 6 << 20;

/// `deploy.resources`, and the older fields of the service.
pub(crate) fn read(service: &Fields<'_>, deploy: Option<&Fields<'_>>) -> Resources {
    let resources = deploy
        .and_then(|deploy| deploy.take("resources"))
        .and_then(|field| field.fields());
    let part = |name: &str| {
        resources
            .as_ref()
            .and_then(|all| all.take(name))
            .and_then(|field| field.fields())
    };
    let (limits, reservations) = (part("limits"), part("reservations"));
    if let Some(resources) = &resources {
        resources.finish(&[]);
    }
    let limit = |name: &str| limits.as_ref().and_then(|limits| limits.take(name));
    let (cpus, memory, pids) = (limit("cpus"), limit("memory"), limit("pids"));
    if let Some(limits) = &limits {
        limits.finish(&[]);
    }
    let reserved = reservations
        .as_ref()
        .and_then(|reservations| reservations.take("memory"));
    if let Some(reservations) = &reservations {
        reservations.finish(fields::RESERVATIONS);
    }
    let amount = |field: &Field<'_>| field.bytes().filter(|bytes| *bytes > 0);
    let found = Resources {
        nano_cpus: one(service.take("cpus"), cpus, |field| {
            field.cpus().filter(|cpus| *cpus > 0)
        }),
        memory: one(service.take("mem_limit"), memory, |field| {
            let bytes = amount(field)?;
            if bytes < LEAST_MEMORY {
                field.error(
                    format!("is {}, less than the engine takes", field.shown()),
                    "6m is the least",
                );
            }
            Some(bytes)
        }),
        memory_reservation: one(service.take("mem_reservation"), reserved, amount),
        pids: one(service.take("pids_limit"), pids, |field| {
            field.number(-1, i64::MAX).filter(|pids| *pids != 0)
        }),
    };
    if let (Some(memory), Some(reserved)) = (found.memory, found.memory_reservation)
        && reserved > memory
    {
        service.of.error(
            "reserves more memory than its limit",
            "make the reservation the smaller one",
        );
    }
    found
}

/// The newer field, or the older; both only if they say the same.
fn one<T: PartialEq>(
    older: Option<Field<'_>>,
    newer: Option<Field<'_>>,
    read: impl Fn(&Field<'_>) -> Option<T>,
) -> Option<T> {
    let values = (
        older.as_ref().and_then(&read),
        newer.as_ref().and_then(&read),
    );
    if let (Some(older), Some(newer)) = (&older, &newer)
        && values.0 != values.1
    {
        older.error(
            format!("says something else than '{}'", newer.path),
            "remove one of them",
        );
    }
    values.1.or(values.0)
}

/// `ulimits`: one number, or soft and hard.
pub(crate) fn ulimits(service: &Fields<'_>) -> BTreeMap<String, (i64, i64)> {
    let mut found = BTreeMap::new();
    let Some(fields) = service.take("ulimits").and_then(|field| field.fields()) else {
        return found;
    };
    for (name, field) in fields.all() {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase()) {
            field.error(
                "is no limit that the engine knows",
                "they are called nofile, nproc, memlock, …",
            );
            continue;
        }
        let limits = if field.node.scalar().is_some() {
            field.number(-1, i64::MAX).map(|both| (both, both))
        } else {
            field.fields().and_then(|fields| {
                let soft = fields
                    .must("soft")
                    .and_then(|field| field.number(-1, i64::MAX));
                let hard = fields
                    .must("hard")
                    .and_then(|field| field.number(-1, i64::MAX));
                fields.finish(&[]);
                Some((soft?, hard?))
            })
        };
        if let Some((soft, hard)) = limits {
            if hard != -1 && (soft == -1 || soft > hard) {
                field.error("has a soft limit above the hard one", "");
            }
            found.insert(name.to_owned(), (soft, hard));
        }
    }
    found
}

/// `logging`; without `driver` the options are for the engine's default one.
pub(crate) fn logging(service: &Fields<'_>) -> Option<Logging> {
    let fields = service.take("logging")?.fields()?;
    let driver = fields
        .take("driver")
        .and_then(|field| field.word().map(str::to_owned));
    let options = fields.take("options");
    fields.finish(&[]);
    let options: BTreeMap<String, String> = options
        .iter()
        .flat_map(|field| field.pairs(&['=']))
        .map(|(_, name, value)| (name, value.unwrap_or_default()))
        .collect();
    (driver.is_some() || !options.is_empty()).then(|| Logging {
        driver: driver.unwrap_or_default(),
        options,
    })
}
