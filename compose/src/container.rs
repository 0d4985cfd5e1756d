//! One service's containers: the fields that go to the engine as they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cutover_core::AppName;
use cutover_core::spec::ContainerSpec;

use crate::fields::Known;
use crate::interpolate::Variables;
use crate::node::Kind;
use crate::problem::Log;
use crate::reader::{Field, Fields};
use crate::{environment, health, mounts, networks, resources, words};

/// Compose's default.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Longest user, directory or host name that is taken.
pub(crate) const MAX_TEXT: usize = 4096;

/// What every service of a release is read with.
pub(crate) struct Context<'a> {
    pub(crate) app: &'a AppName,
    /// Where relative paths begin.
    pub(crate) dir: &'a Path,
    pub(crate) variables: &'a Variables,
    pub(crate) log: &'a Log,
    /// What the file declares: `volumes`, `networks`, `configs`.
    pub(crate) declarations: BTreeMap<&'static str, Fields<'a>>,
}

impl<'a> Context<'a> {
    /// The declaration of a volume, network or config.
    pub(crate) fn declared(&self, kind: &str, name: &str) -> Option<Field<'a>> {
        self.declarations.get(kind)?.take_even_null(name)
    }

    /// The engine's name of something declared, and whether it is external.
    pub(crate) fn named(
        &self,
        declared: &Field<'a>,
        key: &str,
        known: &[Known],
    ) -> Option<(String, bool)> {
        let fields = declared.fields()?;
        let mut name = fields.take("name").and_then(|field| field.word());
        let external = match fields.take("external") {
            None => false,
            Some(field) if field.node.entries().is_some() => {
                let old = field.fields()?;
                name = name.or(old.take("name").and_then(|field| field.word()));
                old.finish(&[]);
                true
            }
            Some(field) => field.boolean()?,
        };
        fields.finish(known);
        let name = match name {
            Some(name) => name.to_owned(),
            None if external => key.to_owned(),
            None => format!("{}_{key}", self.app),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.len() > MAX_TEXT
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name.chars().all(good)
        {
            declared.error(
                "has a name that the engine does not take",
                "use letters, digits, '_', '.' and '-'",
            );
            return None;
        }
        Some((name, external))
    }
}

pub(crate) fn read(
    service: &Fields<'_>,
    deploy: Option<&Fields<'_>>,
    mounts: mounts::Mounts,
    cx: &Context<'_>,
) -> ContainerSpec {
    let text = |name: &str| service.take(name).and_then(|field| plain(&field));
    let flag = |name: &str| {
        service
            .take(name)
            .and_then(|field| field.boolean())
            .unwrap_or(false)
    };
    ContainerSpec {
        image: String::new(),
        resolved_image: String::new(),
        command: command(service, "command"),
        entrypoint: command(service, "entrypoint"),
        environment: environment::environment(service, cx),
        labels: environment::labels(service, cx),
        expose: std::collections::BTreeSet::new(),
        networks: networks::read(service, cx),
        mounts: mounts.mounts,
        user: text("user"),
        working_dir: service.take("working_dir").and_then(|field| {
            let dir = plain(&field)?;
            if !dir.starts_with('/') {
                field.error(
                    format!("is {}, but must be an absolute path", field.shown()),
                    "",
                );
            }
            Some(dir)
        }),
        hostname: service.take("hostname").and_then(|field| host_name(&field)),
        container_name: service
            .take("container_name")
            .and_then(|field| host_name(&field)),
        init: flag("init"),
        read_only: flag("read_only"),
        tmpfs: mounts.tmpfs,
        cap_add: capabilities(service, "cap_add"),
        cap_drop: capabilities(service, "cap_drop"),
        security_opt: security(service),
        sysctls: sysctls(service),
        ulimits: resources::ulimits(service),
        extra_hosts: extra_hosts(service),
        dns: dns(service),
        shm_size: service.take("shm_size").and_then(|field| field.bytes()),
        resources: resources::read(service, deploy),
        logging: resources::logging(service),
        stop_signal: service.take("stop_signal").and_then(|field| signal(&field)),
        stop_grace: service
            .take("stop_grace_period")
            .and_then(|field| field.wait())
            .unwrap_or(STOP_GRACE),
        healthcheck: health::read(service),
    }
}

/// `command` and `entrypoint`: a list, or a text that is split into words.
fn command(service: &Fields<'_>, name: &str) -> Option<Vec<String>> {
    let field = service.take(name)?;
    if let Kind::List(_) = field.node.kind {
        return Some(field.texts());
    }
    let split = words::split(field.text()?);
    if split.is_none() {
        field.error("has a quote that is never closed", "");
    }
    split
}

fn plain(field: &Field<'_>) -> Option<String> {
    let text = field.word()?;
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        field.error(
            format!(
                "is too long or has control characters ({} bytes)",
                text.len()
            ),
            "",
        );
        return None;
    }
    Some(text.to_owned())
}

fn host_name(field: &Field<'_>) -> Option<String> {
    let text = field.word()?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.len() <= 253
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(good)
    {
        return Some(text.to_owned());
    }
    field.error(
        format!("is {}, but must be a name", field.shown()),
        "use letters, digits, '_', '.' and '-'",
    );
    None
}

fn capabilities(service: &Fields<'_>, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for field in service.take(name).iter().flat_map(Field::items) {
        let Some(text) = field.word() else { continue };
        if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            found.push(text.to_ascii_uppercase());
        } else {
            field.error(
                format!("is {}, but must be a capability", field.shown()),
                "write it like NET_BIND_SERVICE",
            );
        }
    }
    found.sort();
    found.dedup();
    found
}

fn security(service: &Fields<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for field in service.take("security_opt").iter().flat_map(Field::items) {
        let Some(text) = field.word() else { continue };
        let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        let good = match name {
            "no-new-privileges" => matches!(value, "" | "true" | "false"),
            "seccomp" => matches!(value, "unconfined" | "builtin"),
            "apparmor" | "label" => !value.is_empty(),
            "systempaths" => value == "unconfined",
            _ => false,
        };
        if good {
            found.push(text.to_owned());
        } else {
            field.error(
                format!("is {}, which Cutover cannot honour", field.shown()),
                "there are no-new-privileges, apparmor, label, and seccomp=unconfined; profiles in files are not supported yet",
            );
        }
    }
    found
}

fn sysctls(service: &Fields<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (field, name, value) in service
        .take("sysctls")
        .iter()
        .flat_map(|field| field.pairs(&['=']))
    {
        match value {
            Some(value) if !name.is_empty() => {
                found.insert(name, value);
            }
            Some(_) | None => field.error(
                "has no name or no value",
                "write it like net.core.somaxconn=1024",
            ),
        }
    }
    found
}

fn extra_hosts(service: &Fields<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Some(all) = service.take("extra_hosts") else {
        return found;
    };
    let mut add = |field: &Field<'_>, name: &str, address: &str| {
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty()
            || (address != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err())
        {
            field.error(
                "is no name with an address",
                "write it like db.example.com=192.0.2.7",
            );
        } else {
            found.push((name.to_owned(), bare.to_owned()));
        }
    };
    if all.node.entries().is_some() {
        for (name, field) in all.fields().iter().flat_map(Fields::all) {
            for address in field.one_or_more() {
                add(&address, name, address.text().unwrap_or(""));
            }
        }
    } else {
        for (field, name, address) in all.pairs(&['=', ':']) {
            add(&field, &name, address.as_deref().unwrap_or(""));
        }
    }
    found
}

fn dns(service: &Fields<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for field in service.take("dns").iter().flat_map(Field::one_or_more) {
        let Some(text) = field.text() else { continue };
        if text.parse::<std::net::IpAddr>().is_err() {
            field.error(
                format!("is {}, but must be an IP address", field.shown()),
                "",
            );
        } else {
            found.push(text.to_owned());
        }
    }
    found
}

fn signal(field: &Field<'_>) -> Option<String> {
    let text = field.word()?;
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let number = text
        .parse::<u8>()
        .is_ok_and(|number| (1..=64).contains(&number));
    let named = matches!(
        name.split(['+', '-']).next().unwrap_or(""),
        "HUP"
            | "INT"
            | "QUIT"
            | "ABRT"
            | "KILL"
            | "USR1"
            | "USR2"
            | "PIPE"
            | "ALRM"
            | "TERM"
            | "CONT"
            | "STOP"
            | "TSTP"
            | "TTIN"
            | "TTOU"
            | "URG"
            | "WINCH"
            | "IO"
            | "PWR"
            | "RTMIN"
            | "RTMAX"
    );
    if number || named {
        return Some(text.to_owned());
    }
    field.error(
        format!("is {}, but must be a signal", field.shown()),
        "write it like SIGTERM",
    );
    None
}
