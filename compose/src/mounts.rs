//! `volumes` and `tmpfs`: what is mounted, and from where.
//!
//! Keeps true: targets are absolute and each is there once; a bind mount's
//! source is absolute; a named volume is declared and has the engine's name
//! that Compose would give it. Whether paths exist on a host is not known here.

use std::collections::BTreeSet;

use cutover_core::spec::{Mount, MountSource};

use crate::configs;
use crate::container::Context;
use crate::fields;
use crate::reader::{Field, Fields};

/// What a service mounts.
#[derive(Default)]
pub(crate) struct Mounts {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) tmpfs: Vec<String>,
}

impl Mounts {
    /// Something that the container can write to and that outlives it, in words.
    pub(crate) fn writable(&self) -> Option<&'static str> {
        self.mounts
            .iter()
            .filter(|mount| !mount.read_only)
            .find_map(|mount| match &mount.source {
                MountSource::Volume { .. } => Some("a volume"),
                MountSource::Bind(_) => Some("a directory of the host"),
                MountSource::Content { .. } => None,
            })
    }
}

pub(crate) fn read(service: &Fields<'_>, cx: &Context<'_>) -> Mounts {
    let mut found = Mounts::default();
    let mut targets = BTreeSet::new();
    for field in service.take("volumes").iter().flat_map(Field::items) {
        let before = (found.mounts.len(), found.tmpfs.len());
        if field.node.scalar().is_some() {
            short(&field, &mut found, cx)
        } else {
            long(&field, &mut found, cx)
        };
        once(&field, &found, before, &mut targets);
    }
    for field in service.take("configs").iter().flat_map(Field::items) {
        let before = (found.mounts.len(), found.tmpfs.len());
        found.mounts.extend(configs::read(&field, cx));
        once(&field, &found, before, &mut targets);
    }
    for field in service.take("tmpfs").iter().flat_map(Field::one_or_more) {
        let before = (found.mounts.len(), found.tmpfs.len());
        let Some(text) = field.text() else { continue };
        let path = text.split(':').next().unwrap_or("");
        if absolute(&field, path) {
            found.tmpfs.push(text.to_owned());
        }
        once(&field, &found, before, &mut targets);
    }
    found.mounts.sort_by(|a, b| a.target.cmp(&b.target));
    found
}

/// Says when something else is mounted at the same place already.
fn once(field: &Field<'_>, found: &Mounts, before: (usize, usize), targets: &mut BTreeSet<String>) {
    let mounts = found.mounts[before.0..]
        .iter()
        .map(|mount| mount.target.as_str());
    let tmpfs = found.tmpfs[before.1..]
        .iter()
        .map(|text| text.split(':').next().unwrap_or(""));
    for target in mounts.chain(tmpfs) {
        if !targets.insert(target.trim_end_matches('/').to_owned()) {
            field.error(
                "is mounted where something else is already",
                "remove one of them",
            );
        }
    }
}

/// `SOURCE:TARGET[:OPTIONS]`.
fn short(field: &Field<'_>, found: &mut Mounts, cx: &Context<'_>) {
    let Some(text) = field.text() else { return };
    let mut parts = text.splitn(3, ':');
    let (source, target) = (parts.next().unwrap_or(""), parts.next());
    let Some(target) = target else {
        return anonymous(field);
    };
    let mut read_only = false;
    for option in parts.next().unwrap_or("").split(',') {
        match option {
            "" | "rw" | "cached" | "delegated" | "consistent" => {}
            "ro" => read_only = true,
            "z" | "Z" => selinux(field),
            "nocopy" => field.ignored(
                "Cutover cannot say 'nocopy' yet; the engine copies into a new, empty volume",
            ),
            _ => field.error(
                format!(
                    "is {}, with an option that Cutover cannot honour",
                    field.shown()
                ),
                "there are ro and rw",
            ),
        }
    }
    push(field, field, source, target, read_only, found, cx);
}

fn long(field: &Field<'_>, found: &mut Mounts, cx: &Context<'_>) {
    let Some(fields) = field.fields() else { return };
    let kind = fields.must("type");
    let source = fields.take("source");
    let target = fields.must("target").and_then(|field| field.word());
    let read_only = fields
        .take("read_only")
        .and_then(|field| field.boolean())
        .unwrap_or(false);
    let _ = fields.take("consistency");
    if let Some(bind) = fields.take("bind").and_then(|bind| bind.fields()) {
        if let Some(create) = bind.take("create_host_path")
            && create.boolean() == Some(false)
        {
            create.ignored("a directory that is missing is made");
        }
        if let Some(field) = bind.take("selinux") {
            selinux(&field);
        }
        for name in ["propagation", "recursive"] {
            if let Some(field) = bind.take(name) {
                field.error("cannot be honoured: Cutover mounts privately", "remove it");
            }
        }
        bind.finish(&[]);
    }
    if let Some(volume) = fields.take("volume").and_then(|volume| volume.fields()) {
        if let Some(field) = volume.take("nocopy") {
            field.ignored("the engine copies into a new, empty volume");
        }
        if let Some(field) = volume.take("labels") {
            field.ignored("Cutover sets none on volumes");
        }
        if let Some(field) = volume.take("subpath") {
            field.error(
                "cannot be honoured: Cutover mounts whole volumes",
                "use a volume of its own",
            );
        }
        volume.finish(&[]);
    }
    let tmpfs = fields.take("tmpfs");
    let kind_text = kind.as_ref().and_then(Field::text);
    match (kind_text, target, kind) {
        (Some("tmpfs"), Some(target), _) => {
            let options = tmpfs.map_or(String::new(), |field| tmpfs_options(&field));
            let good = absolute(field, target);
            found
                .tmpfs
                .extend(good.then(|| format!("{target}{options}")));
        }
        (Some(kind @ ("bind" | "volume")), Some(target), _) => match &source {
            None if kind == "volume" => anonymous(field),
            None => field.error("has no 'source'", ""),
            Some(source) => {
                if let Some(text) = source.word() {
                    let is_path = text.starts_with(['/', '.', '~']);
                    if kind == "bind" && !is_path {
                        relative(source);
                    } else if kind == "volume" && is_path {
                        source.error(
                            format!("is {}, but must be the name of a volume", source.shown()),
                            "",
                        );
                    } else {
                        push(field, source, text, target, read_only, found, cx);
                    }
                }
            }
        },
        (Some(_), Some(_), Some(kind)) => {
            kind.error(
                format!("is {}, which Cutover cannot mount", kind.shown()),
                "there are volume, bind and tmpfs",
            );
        }
        _ => {}
    }
    fields.finish(&[]);
}

fn push(
    field: &Field<'_>,
    at: &Field<'_>,
    source: &str,
    target: &str,
    read_only: bool,
    found: &mut Mounts,
    cx: &Context<'_>,
) {
    if !absolute(field, target) {
        return;
    }
    let source = if source.starts_with('/') {
        MountSource::Bind(source.to_owned())
    } else if source.starts_with(['.', '~']) || source.contains('/') {
        return relative(at);
    } else {
        match volume(at, source, cx) {
            Some((name, external)) => MountSource::Volume { name, external },
            None => return,
        }
    };
    found.mounts.push(Mount {
        source,
        target: target.to_owned(),
        read_only,
    });
}

/// The engine's name of a named volume, and whether it is external.
fn volume(field: &Field<'_>, name: &str, cx: &Context<'_>) -> Option<(String, bool)> {
    let Some(declared) = cx.declared("volumes", name) else {
        field.error(
            format!("is {}, whose volume is not declared", field.shown()),
            "add it under 'volumes' of the file",
        );
        return None;
    };
    cx.named(&declared, name, fields::VOLUME)
}

fn tmpfs_options(field: &Field<'_>) -> String {
    let Some(fields) = field.fields() else {
        return String::new();
    };
    let size = fields
        .take("size")
        .and_then(|field| field.bytes())
        .map(|bytes| format!("size={bytes}"));
    let mode = fields
        .take("mode")
        .and_then(|field| configs::octal(&field))
        .map(|mode| format!("mode={mode:o}"));
    fields.finish(&[]);
    let options: Vec<String> = size.into_iter().chain(mode).collect();
    if options.is_empty() {
        String::new()
    } else {
        format!(":{}", options.join(","))
    }
}

pub(crate) fn absolute(field: &Field<'_>, path: &str) -> bool {
    let good = path.starts_with('/')
        && path.len() > 1
        && !path.contains(':')
        && !path.split('/').any(|part| part == "..");
    if !good {
        field.error(
            format!(
                "is {}, whose path in the container is not absolute",
                field.shown()
            ),
            "write the whole path, without '..'",
        );
    }
    good
}

fn relative(field: &Field<'_>) {
    field.error(
        "is a bind mount with a relative source: the hosts do not have this directory",
        "put files under 'configs:' (file: …), which travel with the release; or write the host's absolute path",
    );
}

fn anonymous(field: &Field<'_>) {
    field.error(
        "is a volume without a name: its data would be lost with every new version",
        "name it and declare it under 'volumes', or use 'tmpfs'",
    );
}

fn selinux(field: &Field<'_>) {
    field.ignored("Cutover does not relabel for SELinux; label the directory on the host");
}
