//! `configs`: files that travel with the release and are mounted read-only.
//!
//! This is how a file of the project reaches the hosts; a bind mount of it
//! would name a path that they do not have.

use cutover_core::spec::{Mount, MountSource};

use crate::container::Context;
use crate::reader::Field;
use crate::{fields, input, mounts};

/// Largest config: it travels with every order.
const MAX_CONFIG: usize = 500_000;
/// Permission bits of a config when nothing else is said.
const CONFIG_MODE: u32 = 0o444;

pub(crate) fn read(field: &Field<'_>, cx: &Context<'_>) -> Option<Mount> {
    let (source, target, mode) = if field.node.scalar().is_some() {
        (field.word()?.to_owned(), None, None)
    } else {
        let fields = field.fields()?;
        let source = fields
            .must("source")
            .and_then(|field| field.word().map(str::to_owned));
        let target = fields
            .take("target")
            .and_then(|field| field.word().map(str::to_owned));
        let mode = fields.take("mode").and_then(|field| octal(&field));
        for name in ["uid", "gid"] {
            if let Some(field) = fields.take(name)
                && field.text().is_some_and(|id| id != "0")
            {
                field.error(
                    "cannot be honoured: a config belongs to root",
                    "let 'mode' say who may read it",
                );
            }
        }
        fields.finish(&[]);
        (source?, target, mode)
    };
    let target = target.unwrap_or_else(|| format!("/{source}"));
    let Some(declared) = cx.declared("configs", &source) else {
        let advice = "add it under 'configs' of the file";
        field.error(
            format!("is {}, whose config is not declared", field.shown()),
            advice,
        );
        return None;
    };
    let content = content(&declared, cx)?;
    if !mounts::absolute(field, &target) {
        return None;
    }
    let source = MountSource::Content {
        name: source,
        content,
        mode: mode.unwrap_or(CONFIG_MODE),
    };
    Some(Mount {
        source,
        target,
        read_only: true,
    })
}

/// What is in a declared config.
fn content(declared: &Field<'_>, cx: &Context<'_>) -> Option<Vec<u8>> {
    let fields = declared.fields()?;
    let (file, inline, variable) = (
        fields.take("file"),
        fields.take("content"),
        fields.take("environment"),
    );
    let external = fields.take("external");
    fields.finish(fields::CONFIG);
    if let Some(external) = external.filter(|field| field.boolean() != Some(false)) {
        external.error(
            "cannot be honoured: Cutover has no store of configs",
            "use 'file' or 'content'",
        );
        return None;
    }
    let content = match (file, inline, variable) {
        (Some(field), None, None) => match input::bytes(&input::join(cx.dir, field.word()?)) {
            Ok(bytes) => bytes,
            Err(error) => {
                field.error(
                    format!("is {}, a file that {error}", field.shown()),
                    "the path is seen from the project's directory",
                );
                return None;
            }
        },
        (None, Some(field), None) => field.text()?.as_bytes().to_owned(),
        (None, None, Some(field)) => {
            let name = field.word()?;
            let Some(value) = cx.variables.get(name) else {
                field.error(
                    format!("is {}, a variable that is not set", field.shown()),
                    "set it",
                );
                return None;
            };
            value.as_bytes().to_owned()
        }
        _ => {
            declared.error("must have one of 'file', 'content' and 'environment'", "");
            return None;
        }
    };
    if content.len() > MAX_CONFIG {
        declared.error(
            format!("has more than {MAX_CONFIG} bytes"),
            "put it into the image, or mount a volume",
        );
        return None;
    }
    Some(content)
}

/// Permission bits. `440` without a leading zero is a decimal number to YAML:
/// not what anyone means, so not guessed.
pub(crate) fn octal(field: &Field<'_>) -> Option<u32> {
    let text = field.text()?;
    let digits = text
        .strip_prefix("0o")
        .or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty()));
    let mode = digits
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| *mode <= 0o7777);
    if mode.is_none() {
        field.error(
            format!("is {}, but must be permission bits in octal", field.shown()),
            "write it like 0440",
        );
    }
    mode
}
