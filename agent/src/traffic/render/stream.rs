//! TCP: a front for each listener, an inner listener for each way into a slot.
//!
//! nginx's stream has no `if`. The front passes a connection to a path, which
//! the route's links turn into the inner listener of one slot; the kernel
//! resolves it in one go. Front and inner listener speak the PROXY protocol
//! with each other, so that the inner one knows who came; the container sees
//! none of it.

use std::fmt::Write as _;

use cutover_core::Slot;

use super::super::plan::{Plan, Way, variants};
use super::super::routes::inner_socket;
use super::{FINGERPRINT, Ground, buckets, head, http::servers};

/// To a container, as for HTTP.
const CONNECT_TIMEOUT: &str = "250ms";
/// Longest silence on a connection: databases keep theirs for hours. Dead peers are found by keep-alive probes.
const SILENCE: &str = "24h";
/// Connections that may wait at an inner listener; a full queue refuses at once there.
const BACKLOG: u32 = 4096;

/// `stream.conf`.
pub(super) fn file(plan: &Plan<'_>, ground: &Ground<'_>) -> String {
    let place = format!(
        "Include it in a `stream {{}}` beside nginx's `http {{}}`:\n#     stream {{ include {}; }}",
        ground.paths.conf.join("stream.conf").display()
    );
    let mut text = head(&place);
    if plan.streams.is_empty() {
        text.push_str("# No TCP service on this host.\n");
        return text;
    }
    text.push_str(&buckets("$remote_addr:$remote_port $connection $msec"));
    text.push_str("map $status $cutover_refused {\n    200 0;\n    default 1;\n}\n\n");
    for (socket, way) in &plan.streams {
        let listens = ground.listens(*socket);
        front(&mut text, &listens, way, ground);
        for slot in Slot::ALL {
            for (variant, warm, without) in variants(way.site, slot) {
                inner(&mut text, way, slot, &variant, warm, without, ground);
            }
        }
        text.push('\n');
    }
    text
}

fn front(text: &mut String, listens: &[String], way: &Way<'_>, ground: &Ground<'_>) {
    let (key, service, port) = (&way.key, &way.site.service, way.listener.listen);
    let name = format!("cutover_{key}_{port}");
    let _ = writeln!(
        text,
        "# {service}\nlog_format {name} 'F\t{FINGERPRINT}\t{service}\t{port}\t$status\t$remote_port';\nserver {{"
    );
    for listen in listens {
        let _ = writeln!(text, "    listen {listen} so_keepalive=on;");
    }
    let _ = writeln!(
        text,
        "    proxy_pass unix:{}/{key}/tcp.$cutover_bucket/{port}.sock;",
        ground.paths.runtime.display()
    );
    let _ = writeln!(
        text,
        "    proxy_protocol on;\n    {} if=$cutover_refused;",
        ground.signal(&name)
    );
    common(text, ground);
}

fn inner(
    text: &mut String,
    way: &Way<'_>,
    slot: Slot,
    variant: &str,
    warm: bool,
    without: Option<u32>,
    ground: &Ground<'_>,
) {
    let (key, service, port) = (&way.key, &way.site.service, way.listener.listen);
    let name = format!("cutover_{key}_{port}_{variant}");
    let _ = writeln!(text, "upstream {name} {{");
    servers(text, way.site, way.listener.port, slot, warm, without);
    let _ = writeln!(
        text,
        "}}\nlog_format {name} 'T\t{FINGERPRINT}\t{service}\t{variant}\t{port}\t$status\t$upstream_addr\t$session_time\t\
         $proxy_protocol_port';\nserver {{"
    );
    let socket = inner_socket(&ground.paths.runtime, key, port, variant);
    let _ = writeln!(
        text,
        "    listen unix:{} proxy_protocol backlog={BACKLOG};",
        socket.display()
    );
    let _ = writeln!(
        text,
        "    proxy_pass {name};\n    {};",
        ground.signal(&name)
    );
    common(text, ground);
}

fn common(text: &mut String, ground: &Ground<'_>) {
    let _ = writeln!(
        text,
        "    proxy_connect_timeout {CONNECT_TIMEOUT};\n    proxy_timeout {SILENCE};\n    proxy_socket_keepalive on;"
    );
    // Passed through as it is: who has sent all may still wait for the answer.
    if ground.build.half_close() {
        text.push_str("    proxy_half_close on;\n");
    }
    text.push_str("}\n");
}
