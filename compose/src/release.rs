//! The whole way: files → one tree → a [`Release`].
//!
//! Each file is parsed, its variables are replaced, and it is merged into those
//! before it; then the services that are wanted are read. Problems are
//! collected on the way; with one error there is no release.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use cutover_core::spec::{ServiceSpec, Strategy};
use cutover_core::{AppName, ServiceName};

use crate::container::Context;
use crate::image;
use crate::input::{self, Input, Project};
use crate::interpolate;
use crate::merge;
use crate::node::{Kind, Node};
use crate::order;
use crate::problem::{Log, Problem, Problems, Severity};
use crate::reader::{Field, Fields};
use crate::{fields, hint, service, traffic, yaml};

/// What Compose declares beside services, and what is read of it.
const DECLARATIONS: [&str; 3] = ["volumes", "networks", "configs"];

/// Services of one app; each is a state machine on each host.
const MAX_SERVICES: usize = 500;

/// One app as its files say it shall run.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The app.
    pub app: AppName,
    /// The services that are in it, each after those that it depends on.
    pub services: Vec<ServiceSpec>,
    /// What each of them depends on, as far as that is in the release.
    pub depends_on: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// Every service of the files, those of other profiles and those left out
    /// by `only` included: what is not among them was removed.
    pub declared: BTreeSet<ServiceName>,
    /// The files it was made from, in order.
    pub files: Vec<PathBuf>,
}

/// A release with what should be known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The release.
    pub release: Release,
    /// Warnings and notes, sorted by place; no errors.
    pub notes: Vec<Problem>,
}

/// Reads the files that `input` means and makes a release of them.
///
/// # Errors
/// All that is wrong with them, in the order of the files.
pub fn load(input: &Input) -> Result<Loaded, Problems> {
    let log = Log::default();
    let release = input::locate(input, &log).and_then(|project| assemble(input, project, &log));
    let (failed, notes) = log.finish();
    match release {
        Some(release) if !failed => Ok(Loaded { release, notes }),
        Some(_) | None => Err(Problems::new(notes)),
    }
}

fn assemble(input: &Input, mut project: Project, log: &Log) -> Option<Release> {
    let documents = parse(&project.files, log)?;
    let app = app(input, &project, &documents, log)?;
    project
        .variables
        .insert("COMPOSE_PROJECT_NAME".to_owned(), app.to_string());
    let tree = documents
        .into_iter()
        .map(|mut document| {
            interpolate::interpolate(&mut document, "", &project.variables, log);
            document
        })
        .reduce(|base, over| merge::merge(base, over, log))
        .map(merge::settle)?;
    let root = Field {
        node: &tree,
        at: &tree.at,
        path: String::new(),
        log,
    }
    .fields()?;
    let services = root.must("services").and_then(|field| field.fields());
    let shared = root.take("x-cutover").and_then(|field| field.fields());
    let _ = root.take("name");
    let mut cx = Context {
        app: &app,
        dir: &project.dir,
        variables: &project.variables,
        log,
        declarations: BTreeMap::new(),
    };
    for kind in DECLARATIONS {
        if let Some(fields) = root.take(kind).and_then(|field| field.fields()) {
            cx.declarations.insert(kind, fields);
        }
    }
    root.finish(fields::FILE);
    let services = services?;
    let release = read_services(input, &project, &services, shared.as_ref(), &cx);
    if let Some(shared) = &shared {
        shared.finish(fields::CUTOVER);
    }
    for field in cx.declarations.values().flat_map(Fields::unasked) {
        if !field
            .path
            .rsplit('.')
            .next()
            .unwrap_or("")
            .starts_with("x-")
        {
            field.warn("is used by no service of this release, and is not made", "");
        }
    }
    release
}

/// Every document of every file, in order.
fn parse(files: &[PathBuf], log: &Log) -> Option<Vec<Node>> {
    let mut documents = Some(Vec::new());
    for path in files {
        let name: Arc<str> = path.display().to_string().into();
        log.file(&name);
        let found = match input::bytes(path) {
            Ok(bytes) => yaml::parse(&name, &bytes, log),
            Err(error) => {
                log.refuse(format!("{name} {error}"), "");
                None
            }
        };
        let found = found.filter(|found| {
            let empty = found.iter().all(|document| document.kind == Kind::Null);
            if empty {
                log.refuse(format!("{name} is empty"), "");
            }
            !empty
        });
        match (&mut documents, found) {
            (Some(documents), Some(found)) => documents.extend(found),
            _ => documents = None,
        }
    }
    documents
}

/// What the app is called.
fn app(input: &Input, project: &Project, documents: &[Node], log: &Log) -> Option<AppName> {
    if let Some(app) = &input.app {
        return Some(app.clone());
    }
    if let Some(name) = project
        .variables
        .get("COMPOSE_PROJECT_NAME")
        .filter(|name| !name.is_empty())
    {
        return name
            .parse()
            .map_err(|error| log.refuse(format!("COMPOSE_PROJECT_NAME: {error}"), ""))
            .ok();
    }
    if let Some(node) = documents
        .iter()
        .rev()
        .filter_map(|document| document.child("name"))
        .find(|name| name.kind != Kind::Null)
    {
        let mut node = node.clone();
        interpolate::interpolate(&mut node, "name", &project.variables, log);
        let field = Field {
            node: &node,
            at: &node.at,
            path: "name".to_owned(),
            log,
        };
        if log.failed() {
            return None;
        }
        return field.text()?.parse().map_err(|_| name_error(&field)).ok();
    }
    let directory = project.dir.canonicalize().ok();
    let directory = directory
        .as_deref()
        .and_then(|path| path.file_name())
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let name: String = directory
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
        .collect();
    match name.trim_start_matches(['-', '_']).parse::<AppName>() {
        Ok(app) => {
            let what = format!("the app is called {app}, as its directory is");
            log.say(
                Severity::Note,
                None,
                "",
                what,
                "write 'name:' into the file, so that it does not depend on where the file lies",
            );
            Some(app)
        }
        Err(_) => {
            log.refuse(
                "the app has no name",
                "write 'name:' into the file, or say -p NAME",
            );
            None
        }
    }
}

fn name_error(field: &Field<'_>) {
    field.error(
        format!("is {}, which is no name", field.shown()),
        "use at most 63 of a-z, 0-9, '-', '_' and '.', and begin with a letter or digit",
    );
}

/// A service of the files that is read.
struct Wanted<'a> {
    name: ServiceName,
    fields: Fields<'a>,
}

fn read_services<'a>(
    input: &Input,
    project: &Project,
    services: &Fields<'a>,
    shared: Option<&Fields<'a>>,
    cx: &Context<'a>,
) -> Option<Release> {
    let mut declared = BTreeSet::new();
    let mut wanted = Vec::new();
    if services.all().len() > MAX_SERVICES {
        services.of.error(
            format!("has more than {MAX_SERVICES} services"),
            "make several apps of it",
        );
        return None;
    }
    for (key, field) in services.all() {
        if key.starts_with("x-") {
            continue;
        }
        let Ok(name) = key.parse::<ServiceName>() else {
            field.error(
                "has a name that Cutover cannot use",
                "use at most 63 of a-z, 0-9, '-', '_' and '.', and begin with a letter or digit",
            );
            continue;
        };
        declared.insert(name.clone());
        let Some(fields) = field.fields() else {
            continue;
        };
        let listed = fields
            .take("profiles")
            .map_or_else(Vec::new, |field| field.items());
        let on = |profile: &Field<'_>| {
            let name = profile.text();
            project
                .profiles
                .iter()
                .any(|on| on == "*" || Some(on.as_str()) == name)
        };
        if listed.is_empty() || listed.iter().any(on) || input.only.contains(&name) {
            wanted.push(Wanted { name, fields });
        } else {
            let profiles: Vec<String> = listed.iter().map(Field::shown).collect();
            field.note(
                format!(
                    "is not in this release: its profile ({}) is off",
                    profiles.join(", ")
                ),
                "",
            );
        }
    }
    names_exist(input, &declared, services, cx);
    let mut specs: Vec<(Field<'_>, ServiceSpec)> = Vec::new();
    let mut depends_on = BTreeMap::new();
    for Wanted { name, fields } in &wanted {
        depends_on.insert(
            name.clone(),
            order::dependencies(fields, &declared, |other| {
                wanted.iter().any(|wanted| wanted.name == *other)
            }),
        );
        specs.push((
            fields.of.clone(),
            service::read(name, fields, shared, &input.images, cx),
        ));
    }
    if specs.is_empty() {
        services.of.error(
            "has no service that is in this release",
            "name one, or turn a profile on",
        );
    }
    listeners_differ(&specs);
    called_past_the_proxy(&specs, &depends_on);
    let place: BTreeMap<&ServiceName, &Field<'_>> = specs
        .iter()
        .map(|(field, spec)| (&spec.service, field))
        .collect();
    let sorted = order::sort(
        &depends_on,
        &wanted
            .iter()
            .map(|wanted| wanted.name.clone())
            .collect::<Vec<_>>(),
    );
    let sorted = match sorted {
        Ok(sorted) => sorted,
        Err(circle) => {
            let names: Vec<&str> = circle.iter().map(ServiceName::as_str).collect();
            if let Some(field) = circle.first().and_then(|name| place.get(name)) {
                field.error(
                    format!("depends on itself: {}", names.join(" → ")),
                    "take one of these 'depends_on' away",
                );
            }
            return None;
        }
    };
    let mut by_name: BTreeMap<ServiceName, ServiceSpec> = specs
        .into_iter()
        .map(|(_, spec)| (spec.service.clone(), spec))
        .collect();
    let chosen = |name: &ServiceName| input.only.is_empty() || input.only.contains(name);
    let services: Vec<ServiceSpec> = sorted
        .iter()
        .filter(|name| chosen(name))
        .filter_map(|name| by_name.remove(name))
        .collect();
    depends_on.retain(|name, _| chosen(name));
    for others in depends_on.values_mut() {
        others.retain(|name| chosen(name));
    }
    Some(Release {
        app: cx.app.clone(),
        services,
        depends_on,
        declared,
        files: project.files.clone(),
    })
}

/// `--only` and `--image` must name what is there.
fn names_exist(
    input: &Input,
    declared: &BTreeSet<ServiceName>,
    services: &Fields<'_>,
    cx: &Context<'_>,
) {
    let known = || declared.iter().map(ServiceName::as_str);
    for name in input.only.iter().filter(|name| !declared.contains(name)) {
        cx.log.refuse(
            format!("--only {name}: there is no such service"),
            hint::did_you_mean(name.as_str(), known()),
        );
    }
    let images: Vec<&str> = services
        .all()
        .iter()
        .filter_map(|(_, field)| field.node.child("image")?.scalar())
        .map(|scalar| image::repository(&scalar.text))
        .collect();
    for choice in &input.images {
        let name = choice.name.as_str();
        if !known().any(|known| known == name) && !images.contains(&name) {
            let advice = hint::did_you_mean(name, known().chain(images.iter().copied()));
            cx.log.refuse(
                format!(
                    "--image {name}={}: no service and no image is called {name}",
                    choice.reference
                ),
                advice,
            );
        }
    }
}

/// What other containers call by its name does not go through nginx: that switch can lose requests.
fn called_past_the_proxy(
    specs: &[(Field<'_>, ServiceSpec)],
    depends_on: &BTreeMap<ServiceName, BTreeSet<ServiceName>>,
) {
    for (field, spec) in specs {
        let called = !spec.container.expose.is_empty()
            || depends_on
                .values()
                .any(|others| others.contains(&spec.service));
        let side_by_side = spec.policy.strategy != Strategy::Recreate;
        if spec.traffic.is_empty() && called && side_by_side {
            field.warn(
                "is called by other containers by its name, past nginx: they may reach a candidate before it is proved, \
                 and its switch can lose requests",
                "publish a port and let them call that, or say 'strategy: recreate'",
            );
        }
    }
}

/// Two services cannot have the same place at nginx.
fn listeners_differ(specs: &[(Field<'_>, ServiceSpec)]) {
    for (index, (field, spec)) in specs.iter().enumerate() {
        for (_, earlier) in &specs[..index] {
            let clash = spec.traffic.iter().find(|listener| {
                earlier
                    .traffic
                    .iter()
                    .any(|other| traffic::same_place(listener, other))
            });
            if let Some(listener) = clash {
                field.error(
                    format!("listens on port {}, as '{}' does", listener.listen, earlier.service),
                    "give one another port, or each a host: 'x-cutover: {traffic: [{listen: …, host: …, port: …}]}'",
                );
            }
        }
    }
}
