//! What nginx listens on: `ports`, `expose` and `x-cutover.traffic`.
//!
//! A published port is a listener of nginx, its target the container's port.
//! `x-cutover.traffic` says it in full and takes the place of `ports`. What
//! goes from here into nginx's configuration (host, path) is checked here.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use cutover_core::spec::{Listener, Protocol};

use crate::reader::{Field, Fields};
use crate::settings::Settings;

/// Ports in one range; a longer one is a slip.
const MAX_RANGE: u16 = 1000;
/// Longest virtual host, as DNS has it.
const MAX_HOST: usize = 253;
/// Longest path prefix.
const MAX_PATH: usize = 512;

/// The ports of a service.
#[derive(Default)]
pub(crate) struct Ports {
    /// What nginx listens on.
    pub(crate) listeners: Vec<Listener>,
    /// Ports of the container that are said to be there, listened for or not.
    pub(crate) exposed: BTreeSet<u16>,
}

impl Ports {
    /// The container's port that is asked when nothing else is said.
    pub(crate) fn first(&self) -> Option<u16> {
        self.listeners
            .first()
            .map(|listener| listener.port)
            .or(self.exposed.first().copied())
    }
}

pub(crate) fn read(service: &Fields<'_>, settings: &Settings<'_>) -> Ports {
    let mut ports = Ports::default();
    for field in service.take("expose").iter().flat_map(Field::one_or_more) {
        let Some(text) = field.text() else { continue };
        let (range, transport) = text.split_once('/').unwrap_or((text, "tcp"));
        match self::range(range) {
            Some(_) if transport == "udp" => field.ignored("nginx carries HTTP and TCP, not UDP"),
            Some(range) if transport == "tcp" => ports.exposed.extend(range),
            Some(_) | None => field.error(format!("is {}, but must be a port", field.shown()), ""),
        }
    }
    let mut published = Vec::new();
    for field in service.take("ports").iter().flat_map(Field::items) {
        let before = published.len();
        if field.node.scalar().is_some() {
            short(&field, &mut ports, &mut published)
        } else {
            long(&field, &mut ports, &mut published)
        };
        let (earlier, new) = published.split_at(before);
        if let Some((_, again)) = new
            .iter()
            .find(|(_, new)| earlier.iter().any(|(_, old)| same_place(old, new)))
        {
            field.error(
                format!("listens on port {} a second time", again.listen),
                "remove one of them",
            );
        }
    }
    ports
        .exposed
        .extend(published.iter().map(|(_, listener)| listener.port));
    match settings.take("traffic") {
        Some(setting) if !setting.own => {
            setting.field.error(
                "belongs to one service",
                "two services cannot have the same traffic",
            );
        }
        Some(setting) => {
            for item in setting.field.items() {
                let Some(listener) = explicit(&item, &ports) else {
                    continue;
                };
                if ports
                    .listeners
                    .iter()
                    .any(|earlier| same_place(earlier, &listener))
                {
                    item.error(
                        "is the same port, host and path as an earlier one",
                        "remove one of them",
                    );
                } else {
                    ports.listeners.push(listener);
                }
            }
            ports
                .exposed
                .extend(ports.listeners.iter().map(|listener| listener.port));
            for (field, listener) in published {
                if !ports
                    .listeners
                    .iter()
                    .any(|chosen| chosen.listen == listener.listen)
                {
                    field.warn(
                        format!(
                            "is not acted on: 'x-cutover.traffic' does not listen on {}",
                            listener.listen
                        ),
                        "name it there, or remove it here",
                    );
                }
            }
        }
        None => {
            ports.listeners = published
                .into_iter()
                .map(|(_, listener)| listener)
                .collect()
        }
    }
    ports
}

/// Whether nginx could not tell the two apart.
pub(crate) fn same_place(a: &Listener, b: &Listener) -> bool {
    let socket = a.address == b.address && a.listen == b.listen;
    let either_tcp = a.protocol == Protocol::Tcp || b.protocol == Protocol::Tcp;
    socket && (either_tcp || (a.host == b.host && a.path == b.path))
}

type Published<'a> = Vec<(Field<'a>, Listener)>;

/// `[[HOST:]PUBLISHED:]TARGET[/TRANSPORT]`.
fn short<'a>(field: &Field<'a>, ports: &mut Ports, published: &mut Published<'a>) {
    let Some(text) = field.text() else { return };
    let (text, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    let (before, target) = match text.rsplit_once(':') {
        Some((before, target)) => (Some(before), target),
        None => (None, text),
    };
    let (host, listen) = before.map_or(("", ""), |before| {
        before.rsplit_once(':').unwrap_or(("", before))
    });
    let published_range = range(listen);
    let malformed = before == Some("") || (!listen.is_empty() && published_range.is_none());
    let (Some(target), false) = (range(target), malformed) else {
        field.error(
            format!("is {}, but must be a port like \"80:8080\"", field.shown()),
            "",
        );
        return;
    };
    let address = address(field, host);
    if !tcp(field, transport) {
        return;
    }
    publish(
        field,
        address,
        published_range,
        target,
        Protocol::Http,
        ports,
        published,
    );
}

fn long<'a>(field: &Field<'a>, ports: &mut Ports, published: &mut Published<'a>) {
    let Some(fields) = field.fields() else { return };
    let target = fields.must("target").and_then(|field| field.port());
    let listen = fields.take("published");
    let range = listen.as_ref().and_then(|field| {
        let range = range(field.text()?.trim());
        if range.is_none() {
            field.error(format!("is {}, but must be a port", field.shown()), "");
        }
        range
    });
    let host = fields.take("host_ip");
    let address = host
        .as_ref()
        .and_then(|field| address(field, field.text()?));
    let transport = fields.take("protocol");
    let transport = transport.as_ref().and_then(Field::text).unwrap_or("tcp");
    let protocol = fields
        .take("app_protocol")
        .map_or(Protocol::Http, |field| spoken(&field));
    if let Some(mode) = fields.take("mode") {
        mode.ignored("nginx of each host listens, and only there");
    }
    let _ = fields.take("name");
    fields.finish(&[]);
    if !tcp(field, transport) || (listen.is_some() && range.is_none()) {
        return;
    }
    if let Some(target) = target {
        publish(
            field,
            address,
            range,
            target..=target,
            protocol,
            ports,
            published,
        );
    }
}

fn tcp(field: &Field<'_>, transport: &str) -> bool {
    if transport == "udp" {
        field.error(
            "is UDP, which Cutover cannot carry: nginx switches HTTP and TCP",
            "publish it by other means",
        );
    } else if transport != "tcp" {
        field.error(
            format!("is {}, but the transport must be tcp", field.shown()),
            "",
        );
    }
    transport == "tcp"
}

fn publish<'a>(
    field: &Field<'a>,
    address: Option<Ipv4Addr>,
    listen: Option<Range>,
    target: Range,
    protocol: Protocol,
    ports: &mut Ports,
    published: &mut Published<'a>,
) {
    let Some(listen) = listen else {
        field.warn(
            "is not listened for: no port is published",
            "write \"LISTEN:PORT\", or 'expose' if only containers call it",
        );
        ports.exposed.extend(target);
        return;
    };
    if listen.len() != target.len() {
        field.error(
            "has ranges of different length",
            "write as many published ports as container ports",
        );
        return;
    }
    for (listen, port) in listen.zip(target) {
        let listener = Listener {
            address,
            listen,
            host: None,
            path: "/".to_owned(),
            port,
            protocol,
        };
        published.push((field.clone(), listener));
    }
}

/// One item of `x-cutover.traffic`.
fn explicit(item: &Field<'_>, ports: &Ports) -> Option<Listener> {
    let fields = item.fields()?;
    let listen = fields.must("listen").and_then(|field| field.port());
    let host = fields.take("host").and_then(|field| virtual_host(&field));
    let path = fields.take("path");
    let port = fields.take("port");
    let protocol = fields
        .take("protocol")
        .and_then(|field| {
            field.choice(&[
                ("http", Protocol::Http),
                ("grpc", Protocol::Grpc),
                ("tcp", Protocol::Tcp),
            ])
        })
        .unwrap_or(Protocol::Http);
    fields.finish(&[]);
    let port = match port {
        Some(field) => field.port()?,
        None if ports.exposed.len() == 1 => ports.exposed.first().copied()?,
        None => {
            item.error(
                "has no 'port'",
                "say which port of the container gets the traffic",
            );
            return None;
        }
    };
    if protocol == Protocol::Tcp && (host.is_some() || path.is_some()) {
        item.error(
            "has a host or path, which TCP does not know",
            "give it a port of its own to listen on",
        );
        return None;
    }
    let path = path.map_or(Some("/".to_owned()), |field| prefix(&field))?;
    Some(Listener {
        address: None,
        listen: listen?,
        host,
        path,
        port,
        protocol,
    })
}

fn virtual_host(field: &Field<'_>) -> Option<String> {
    let host = field.word()?.to_ascii_lowercase();
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let good = |label: &str| {
        !label.is_empty()
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if host.len() <= MAX_HOST && name.split('.').all(good) {
        return Some(host);
    }
    field.error(
        format!("is {}, but must be a host name", field.shown()),
        "write it like shop.example.com or *.example.com",
    );
    None
}

fn prefix(field: &Field<'_>) -> Option<String> {
    let path = field.word()?;
    let good = |c: char| c.is_ascii_alphanumeric() || "/-._~%+@:=,!".contains(c);
    if path.starts_with('/') && path.len() <= MAX_PATH && path.chars().all(good) {
        return Some(path.to_owned());
    }
    field.error(
        format!("is {}, but must be a path", field.shown()),
        "write it like /shop",
    );
    None
}

/// `app_protocol`: HTTP, gRPC, or something that nginx need not understand.
fn spoken(field: &Field<'_>) -> Protocol {
    match field.text().unwrap_or("http") {
        "http" | "ws" | "kubernetes.io/ws" => Protocol::Http,
        "grpc" => Protocol::Grpc,
        "tcp" => Protocol::Tcp,
        _ => {
            field.note(
                format!(
                    "is {}, which is carried as plain TCP connections",
                    field.shown()
                ),
                "",
            );
            Protocol::Tcp
        }
    }
}

fn address(field: &Field<'_>, text: &str) -> Option<Ipv4Addr> {
    if text.is_empty() {
        return None;
    }
    let address = text.parse().ok();
    if address.is_none() {
        let advice = if text.contains([':', '[']) {
            "IPv6 is not supported yet"
        } else {
            "write it like 127.0.0.1"
        };
        field.error(
            format!("is {}, whose address is no IPv4 address", field.shown()),
            advice,
        );
    }
    address
}

type Range = std::ops::RangeInclusive<u16>;

/// `80` or `8000-8010`.
fn range(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last && last - first < MAX_RANGE).then_some(first..=last)
}
