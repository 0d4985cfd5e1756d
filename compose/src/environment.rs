//! `environment`, `env_file`, `labels` and `label_file`.
//!
//! `environment` wins over `env_file`, a later file over an earlier one. A name
//! without a value is taken from the variables around. No message shows a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::container::Context;
use crate::dotenv::{self, Format};
use crate::input;
use crate::node::Kind;
use crate::reader::{Field, Fields};

/// Labels that others own.
const RESERVED_LABELS: [&str; 2] = ["com.docker.compose.", "dev.cutover."];

pub(crate) fn environment(service: &Fields<'_>, cx: &Context<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for field in service.take("env_file").iter().flat_map(Field::one_or_more) {
        if let Some((path, format, required)) = env_file(&field) {
            all.extend(file(&field, &path, format, required, cx));
        }
    }
    for (field, name, value) in service
        .take("environment")
        .iter()
        .flat_map(|field| field.pairs(&['=']))
    {
        if name.is_empty() {
            field.error("has no name", "");
            continue;
        }
        match value {
            Some(value) => {
                warn_of_numbers(&field, &value);
                all.insert(name, value);
            }
            None => match cx.variables.get(&name) {
                Some(value) => {
                    all.insert(name, value.clone());
                }
                None => {
                    all.remove(&name);
                    field.warn(
                        "has no value, and no variable of that name is set: the container does not get it",
                        "set it, or write a value; an empty one is \"\"",
                    );
                }
            },
        }
    }
    all
}

pub(crate) fn labels(service: &Fields<'_>, cx: &Context<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let files = service.take("label_file");
    for field in files.iter().flat_map(Field::one_or_more) {
        if let Some(path) = field.word() {
            all.extend(file(&field, path, Format::Compose, true, cx));
        }
    }
    if let (Some(field), true) = (&files, all.keys().any(|name| reserved(name))) {
        field.error(
            "has a label that is not yours to set",
            "those of Compose and 'dev.cutover.' are taken",
        );
    }
    for (field, name, value) in service
        .take("labels")
        .iter()
        .flat_map(|field| field.pairs(&['=']))
    {
        if name.is_empty() {
            field.error("has no name", "");
        } else if reserved(&name) {
            field.error(
                "is a label that is not yours to set",
                "those of Compose and 'dev.cutover.' are taken",
            );
        } else {
            all.insert(name, value.unwrap_or_default());
        }
    }
    all
}

fn reserved(label: &str) -> bool {
    RESERVED_LABELS
        .iter()
        .any(|prefix| label.starts_with(prefix))
}

/// Path, format and whether it must be there.
fn env_file(field: &Field<'_>) -> Option<(String, Format, bool)> {
    if field.node.scalar().is_some() {
        return Some((field.word()?.to_owned(), Format::Compose, true));
    }
    let fields = field.fields()?;
    let path = fields
        .must("path")
        .and_then(|field| field.word().map(str::to_owned));
    let format = fields
        .take("format")
        .map_or(Some(Format::Compose), |field| {
            field.choice(&[("raw", Format::Raw)])
        });
    let required = fields
        .take("required")
        .map_or(Some(true), |field| field.boolean());
    fields.finish(&[]);
    Some((path?, format?, required?))
}

fn file(
    field: &Field<'_>,
    path: &str,
    format: Format,
    required: bool,
    cx: &Context<'_>,
) -> Vec<(String, String)> {
    let path = input::join(cx.dir, path);
    if !required && !path.exists() {
        return Vec::new();
    }
    match input::text(&path) {
        Ok(text) => {
            let name: Arc<str> = path.display().to_string().into();
            dotenv::parse(&name, &text, format, cx.variables, cx.log)
        }
        Err(error) => {
            field.error(
                format!("is {}, a file that {error}", field.shown()),
                "the path is seen from the project's directory",
            );
            Vec::new()
        }
    }
}

/// Compose reads a bare number as a number and writes it in its own way; we
/// keep what stands there, and say so where the two differ.
fn warn_of_numbers(field: &Field<'_>, value: &str) {
    let Kind::Scalar(scalar) = &field.node.kind else {
        return;
    };
    if !scalar.plain
        || !value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
    {
        return;
    }
    // Of a list item "A=010" Compose makes no number.
    if scalar.text != value {
        return;
    }
    let digits = value.trim_start_matches(['+', '-']);
    let based = digits.len() > 1
        && digits.starts_with('0')
        && digits
            .chars()
            .all(|c| c.is_ascii_hexdigit() || c == 'x' || c == 'o');
    let grouped = digits.contains('_') && digits.chars().all(|c| c.is_ascii_digit() || c == '_');
    let rewritten =
        value.parse::<i64>().is_err() && value.parse::<f64>().is_ok_and(|n| n.to_string() != value);
    if based || grouped || rewritten {
        field.warn(
            "is a bare number, which Compose would write in another way; it is passed as it stands",
            "put it in quotes",
        );
    }
}
