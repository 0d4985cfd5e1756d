//! What must be written for the sites: servers joined over services, names
//! that nginx accepts, and everything checked that nginx would not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use cutover_core::spec::{Listener, Protocol};
use cutover_core::{ServiceId, Slot};
use sha2::{Digest, Sha256};

use super::{Error, Paths, Site};

/// Longest socket path that the kernel takes (108 with its zero).
const LONGEST_SOCKET: usize = 107;
/// What we add to the runtime directory: `/KEY-65535-green_warm_without_999.sock`.
const SOCKET_NAME: usize = 24 + 39;
/// Readable part of a key; with prefix and suffix a variable must fit nginx's hash buckets (46 bytes).
const KEY_WORDS: usize = 14;
/// Replicas that a slot may have: each is one more lookup a request and two more upstreams.
const MOST_REPLICAS: usize = 64;

/// Where connections come in. `None` is everywhere.
pub(super) type Socket = (Option<Ipv4Addr>, u16);

/// All sites, arranged as nginx wants them.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) sites: Vec<Keyed<'a>>,
    /// HTTP and gRPC: address and port, then host, then the ways in.
    pub(super) servers: BTreeMap<Socket, BTreeMap<Option<&'a str>, Vec<Way<'a>>>>,
    /// TCP.
    pub(super) streams: BTreeMap<Socket, Way<'a>>,
}

/// A site and what its variables, upstreams and sockets are called.
#[derive(Clone, Debug)]
pub(super) struct Keyed<'a> {
    pub(super) key: String,
    pub(super) site: &'a Site,
}

/// One listener of one site.
#[derive(Clone, Debug)]
pub(super) struct Way<'a> {
    pub(super) key: String,
    pub(super) site: &'a Site,
    pub(super) listener: &'a Listener,
}

/// The short name of a service in nginx's words: unlike for unlike services.
pub(super) fn key(service: &ServiceId) -> String {
    let words = format!("{}_{}", service.app, service.service);
    let words: String = words
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(KEY_WORDS)
        .collect();
    let digest = Sha256::digest(service.to_string());
    let mark: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{words}_{mark}")
}

/// What follows a key where a way into a slot is named: `blue_warm_without_1`.
pub(super) fn variants(site: &Site, slot: Slot) -> Vec<(String, bool, Option<u32>)> {
    let count = u32::try_from(site.replicas(slot).len()).unwrap_or(u32::MAX);
    let outs = std::iter::once(None).chain((0..count).filter(|_| count > 1).map(Some));
    outs.flat_map(|out| [false, true].map(|warm| (variant(slot, warm, out), warm, out)))
        .collect()
}

pub(super) fn variant(slot: Slot, warm: bool, without: Option<u32>) -> String {
    let warm = if warm { "_warm" } else { "" };
    without.map_or_else(
        || format!("{slot}{warm}"),
        |k| format!("{slot}{warm}_without_{k}"),
    )
}

/// Checks the sites and arranges them.
pub(super) fn plan<'a>(paths: &Paths, sites: &'a [Site]) -> Result<Plan<'a>, Error> {
    let mut plan = Plan {
        sites: Vec::new(),
        servers: BTreeMap::new(),
        streams: BTreeMap::new(),
    };
    let mut keys = BTreeSet::new();
    let mut sorted: Vec<&Site> = sites
        .iter()
        .filter(|site| !site.listeners.is_empty())
        .collect();
    sorted.sort_by(|a, b| a.service.cmp(&b.service));
    for site in sorted {
        let key = key(&site.service);
        if !keys.insert(key.clone()) {
            return Err(refuse(
                site,
                "it is given twice, or its name and another's make the same key; rename one",
            ));
        }
        check(site)?;
        for listener in &site.listeners {
            let way = Way {
                key: key.clone(),
                site,
                listener,
            };
            let socket = (listener.address.or(paths.listen_address), listener.listen);
            match listener.protocol {
                Protocol::Http | Protocol::Grpc if site.include_only => {}
                Protocol::Http | Protocol::Grpc => {
                    let host = listener.host.as_deref();
                    let ways = plan
                        .servers
                        .entry(socket)
                        .or_default()
                        .entry(host)
                        .or_default();
                    if let Some(other) = ways
                        .iter()
                        .find(|other| other.listener.path == listener.path)
                    {
                        return Err(taken(&way, &other.site.service, "host and path"));
                    }
                    ways.push(way);
                }
                Protocol::Tcp => {
                    if let Some(other) = plan.streams.insert(socket, way.clone()) {
                        return Err(taken(&way, &other.site.service, "address and port"));
                    }
                }
            }
        }
        plan.sites.push(Keyed { key, site });
    }
    for (socket, way) in &plan.streams {
        if let Some(other) = plan
            .servers
            .get(socket)
            .and_then(|hosts| hosts.values().flatten().next())
        {
            return Err(taken(way, &other.site.service, "address and port"));
        }
    }
    Ok(plan)
}

fn check(site: &Site) -> Result<(), Error> {
    for slot in Slot::ALL {
        let replicas = site.replicas(slot);
        if replicas.is_empty() || replicas.len() > MOST_REPLICAS {
            let count = replicas.len();
            return Err(refuse(
                site,
                &format!("{slot} has {count} replicas; nginx is given 1 to {MOST_REPLICAS}"),
            ));
        }
    }
    if site.request_timeout.is_zero() {
        return Err(refuse(
            site,
            "a request timeout of 0 would end every request; give it a second or more",
        ));
    }
    for listener in &site.listeners {
        let host = listener.host.as_deref().unwrap_or("a");
        let name = host.strip_prefix("*.").unwrap_or(host);
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || name.len() > 253 || !name.chars().all(good) || host == "_" {
            return Err(refuse(
                site,
                &format!("{host:?} is no host name; use letters, digits, '-', '.', or *.NAME"),
            ));
        }
        let path = &listener.path;
        let bad = |c: char| {
            c.is_control()
                || c.is_whitespace()
                || matches!(c, '"' | '\'' | '\\' | '$' | '{' | '}' | ';' | '?' | '#')
        };
        if !path.starts_with('/') || path.chars().any(bad) {
            return Err(refuse(
                site,
                &format!(
                    "{path:?} is no path prefix; begin it with / and use no space, quote or any of $ {{ }} ; ? # \\"
                ),
            ));
        }
        if listener.listen == 0 || listener.port == 0 {
            return Err(refuse(site, "port 0 is no port to listen on or to send to"));
        }
    }
    Ok(())
}

/// Refuses paths that a configuration can't hold as they are.
pub(super) fn check_path(path: &Path) -> Result<(), Error> {
    let good =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+' | '@' | '~');
    let why = match path.to_str() {
        Some(text) if !text.chars().all(good) => {
            "it has characters other than letters, digits and / - _ . + @ ~"
        }
        Some(text) if !text.starts_with('/') => "it is not absolute",
        None => "it is not UTF-8",
        Some(_) => return Ok(()),
    };
    Err(Error::Path {
        path: path.to_owned(),
        why,
    })
}

/// Refuses a runtime directory in which sockets would have no room.
pub(super) fn check_socket_room(runtime: &Path) -> Result<(), Error> {
    if runtime.as_os_str().len() + SOCKET_NAME > LONGEST_SOCKET {
        return Err(Error::Path {
            path: runtime.to_owned(),
            why: "it is longer than 44 bytes, too long for sockets in it",
        });
    }
    Ok(())
}

fn refuse(site: &Site, why: &str) -> Error {
    Error::Site {
        service: site.service.clone(),
        why: why.to_owned(),
    }
}

fn taken(way: &Way<'_>, other: &ServiceId, what: &str) -> Error {
    let Listener {
        listen, host, path, ..
    } = way.listener;
    let host = host.as_deref().unwrap_or("any host");
    refuse(
        way.site,
        &format!(
            "its listener on port {listen} ({host}, {path}) has the same {what} as one of {other}; change one of them"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlike_services_have_unlike_keys_that_fit_nginx() {
        let ids = ["a.b/c", "a/b.c", "a_b/c", "a/b_c", "a-b/c"]
            .map(|id| id.parse::<ServiceId>().expect("good names"));
        let keys: BTreeSet<String> = ids.iter().map(key).collect();
        assert_eq!(keys.len(), ids.len());
        let long = "x".repeat(63);
        let longest = key(&format!("{long}/{long}").parse().expect("good names"));
        assert!(
            format!("cutover_{longest}_without").len() <= 46,
            "{longest}"
        );
    }
}
