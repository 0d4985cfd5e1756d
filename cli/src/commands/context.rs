//! `cutover context …`

use std::path::Path;

use jiff::Timestamp;

use super::Cx;
use crate::args::{ContextAdd, ContextVerb};
use crate::context::Context;
use crate::context::file::{Contexts, Entry};
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::render::{json, tables, words};

/// `cutover context …`
pub(super) fn run(cx: &Cx<'_>, verb: ContextVerb) -> Result<Exit, Failure> {
    match verb {
        ContextVerb::Ls => {
            let contexts = Contexts::read(cx.environment)?;
            let rows: Vec<json::host::Context> = contexts
                .contexts
                .iter()
                .map(|(name, entry)| json::host::Context {
                    name: name.clone(),
                    address: entry.address.clone(),
                    current: contexts.current.as_ref() == Some(name),
                    who: None,
                    certificate_until: None,
                })
                .collect();
            cx.output.show(&rows, || {
                let row = |row: &json::host::Context| {
                    let mark = if row.current { "*" } else { "" };
                    vec![mark.to_owned(), row.name.clone(), row.address.clone()]
                };
                tables::table(
                    &["IN USE", "NAME", "ADDRESS"],
                    &rows.iter().map(row).collect::<Vec<_>>(),
                )
            });
            Ok(Exit::Done)
        }
        ContextVerb::Use { name } => {
            let mut contexts = Contexts::read(cx.environment)?;
            let address = contexts.entry(&name)?.address.clone();
            contexts.current = Some(name.clone());
            contexts.write(cx.environment)?;
            cx.output.say(&format!("{name} is in use: {address}"));
            Ok(Exit::Done)
        }
        ContextVerb::Show { name } => show(cx, name.as_deref()),
        ContextVerb::Add(args) => add(cx, &args),
    }
}

fn show(cx: &Cx<'_>, name: Option<&str>) -> Result<Exit, Failure> {
    let name = name.or(cx.shared.context.as_deref());
    let context = Context::resolve(cx.environment, name)?;
    let current = Contexts::read(cx.environment)?.current;
    let until = context.life().map(|life| life.until);
    let until = until.and_then(|until| Timestamp::try_from(until).ok());
    let value = json::host::Context {
        name: context.name.clone(),
        address: context.address.to_string(),
        current: current.as_ref() == Some(&context.name),
        who: Some(context.who()),
        certificate_until: until,
    };
    cx.output.show(&value, || {
        let until = until.map_or(0, Timestamp::as_millisecond);
        let until = words::date(until, cx.output.zone());
        format!(
            "{}\n  address    {}\n  as         {}\n  until      {until}\n",
            context.name,
            context.address,
            context.who()
        )
    });
    Ok(Exit::Done)
}

fn add(cx: &Cx<'_>, args: &ContextAdd) -> Result<Exit, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map(|path| path.display().to_string())
            .map_err(|error| {
                Failure::because(Kind::Usage, format!("finding {}", path.display()), error)
            })
    };
    let entry = Entry {
        address: args.address.to_string(),
        ca: absolute(&args.ca)?,
        cert: absolute(&args.cert)?,
        key: absolute(&args.key)?,
    };
    // What cannot be used is not written.
    let context = Context::of(&args.name, &entry, Path::new(""), cx.environment)?;
    context.tls()?;
    let mut contexts = Contexts::read(cx.environment)?;
    contexts.contexts.insert(args.name.clone(), entry);
    if args.use_it || contexts.current.is_none() {
        contexts.current = Some(args.name.clone());
    }
    let path = contexts.write(cx.environment)?;
    cx.output.say(&format!(
        "{} ({}, as {}) is in {}",
        args.name,
        context.address,
        context.who(),
        path.display()
    ));
    Ok(Exit::Done)
}
