//! The configuration as text.
//!
//! Everything in it comes from a checked [`Plan`]; the fingerprint of the whole
//! is written into the log lines, so that a proof knows which configuration
//! answered it.

mod http;
mod stream;

use std::net::Ipv4Addr;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::conf::Files;
use super::plan::{Plan, Socket};
use super::process::Build;
use super::{Error, Paths};

pub(super) use http::proof_path;

/// Stands for the fingerprint while the text is made that it is the fingerprint of.
const FINGERPRINT: &str = "@FINGERPRINT@";

/// What the generated text depends on besides the sites.
#[derive(Debug)]
struct Ground<'a> {
    paths: &'a Paths,
    signals: &'a Path,
    build: &'a Build,
    ipv6: bool,
}

/// All files of a configuration, and its fingerprint.
pub(super) fn render(
    plan: &Plan<'_>,
    paths: &Paths,
    signals: &Path,
    build: &Build,
) -> Result<(String, Files), Error> {
    let ipv6 =
        std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.is_empty());
    let ground = Ground {
        paths,
        signals,
        build,
        ipv6,
    };
    let mut files = http::include_files(plan, &ground);
    files.insert("http.conf".to_owned(), http::file(plan, &ground)?);
    files.insert("stream.conf".to_owned(), stream::file(plan, &ground));
    let mut hash = Sha256::new();
    for (name, text) in &files {
        hash.update(name);
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
    let fingerprint: String = hash
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for text in files.values_mut() {
        *text = text.replace(FINGERPRINT, &fingerprint);
    }
    Ok((fingerprint, files))
}

/// The first lines of every file.
fn head(what: &str) -> String {
    format!(
        "# Written by cutover-agent, configuration {FINGERPRINT}. Edits are lost: the agent\n\
         # writes this file anew. {what}\n\n"
    )
}

impl Ground<'_> {
    /// What `listen` says for one socket; everywhere means IPv6, too.
    fn listens(&self, (address, port): Socket) -> Vec<String> {
        match address {
            Some(Ipv4Addr::UNSPECIFIED) => vec![format!("{port}")],
            Some(address) => vec![format!("{address}:{port}")],
            None if self.ipv6 => vec![format!("{port}"), format!("[::]:{port}")],
            None => vec![format!("{port}")],
        }
    }

    /// An `access_log` to the signals socket.
    fn signal(&self, format: &str) -> String {
        format!(
            "access_log syslog:server=unix:{},nohostname,tag=cutover {format}",
            self.signals.display()
        )
    }
}

/// `split_clients` in a hundred parts of one percent.
fn buckets(by: &str) -> String {
    let mut text = format!("split_clients \"{by}\" $cutover_bucket {{\n");
    for bucket in 0..99 {
        text.push_str(&format!("    1% {bucket:02};\n"));
    }
    text.push_str("    * 99;\n}\n\n");
    text
}
