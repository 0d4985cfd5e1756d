//! `healthcheck`: Docker's own check of a container.

use std::time::Duration;

use cutover_core::spec::Healthcheck;

use crate::fields;
use crate::reader::{Field, Fields};

/// Compose's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
const MAX_RETRIES: u32 = 1000;

/// `None`: the image's own, if it has one.
pub(crate) fn read(service: &Fields<'_>) -> Option<Healthcheck> {
    let field = service.take("healthcheck")?;
    let fields = field.fields()?;
    let test = fields.take("test");
    let disable = fields
        .take("disable")
        .and_then(|field| field.boolean())
        .unwrap_or(false);
    let time = |name: &str, default: Duration| {
        fields
            .take(name)
            .map_or(Some(default), |field| field.wait())
    };
    // To the engine 0 means: not said.
    let above_zero = |name: &str, default: Duration| {
        let time = time(name, default);
        if time == Some(Duration::ZERO) {
            Some(default)
        } else {
            time
        }
    };
    let interval = above_zero("interval", INTERVAL);
    let timeout = above_zero("timeout", TIMEOUT);
    let start_period = time("start_period", Duration::ZERO);
    let retries = fields
        .take("retries")
        .map_or(Some(RETRIES), |field| field.count(1, MAX_RETRIES));
    fields.finish(fields::HEALTHCHECK);
    let test = if disable {
        vec!["NONE".to_owned()]
    } else {
        self::test(&field, test)?
    };
    Some(Healthcheck {
        test,
        interval: interval?,
        timeout: timeout?,
        retries: retries?,
        start_period: start_period?,
    })
}

/// Whether it checks anything.
pub(crate) fn checks(healthcheck: &Healthcheck) -> bool {
    healthcheck.test.first().is_some_and(|word| word != "NONE")
}

fn test(healthcheck: &Field<'_>, test: Option<Field<'_>>) -> Option<Vec<String>> {
    let Some(test) = test else {
        healthcheck.error(
            "has no 'test'",
            "repeat the image's here: Cutover does not see it",
        );
        return None;
    };
    if test.node.scalar().is_some() {
        return Some(vec!["CMD-SHELL".to_owned(), test.word()?.to_owned()]);
    }
    let words = test.texts();
    match words.first().map(String::as_str) {
        Some("NONE") => Some(vec!["NONE".to_owned()]),
        Some("CMD") if words.len() > 1 => Some(words),
        Some("CMD-SHELL") if words.len() == 2 => Some(words),
        Some(_) | None => {
            test.error(
                "is no check",
                "write [\"CMD\", PROGRAM, ARGUMENT, …], [\"CMD-SHELL\", COMMAND], or one text for the shell",
            );
            None
        }
    }
}
