//! HTTP and gRPC: upstreams, flags, servers.
//!
//! Why it is written as it is, each learned by trying:
//! `if` and `set` stand at server level, where `if` switches nothing but the
//! variable. Blue is asked for twice, around green: a switch between two looks
//! is then seen as the route before or after it, never as none. What finds no
//! flag is a 503 with a line that says `unreadable`. An idle connection to a
//! container is given up after a second, since one that the container closes
//! first would lose the POST that is just being sent on it. A request is
//! passed on only when no byte of it could have done anything.

use std::fmt::Write as _;

use cutover_core::Slot;
use cutover_core::spec::Protocol;

use super::super::conf::Files;
use super::super::plan::{Keyed, Plan, Socket, Way, variants};
use super::super::routes;
use super::super::{Error, Site};
use super::{FINGERPRINT, Ground, buckets, head};

/// To a container. A dead address on a bridge answers nothing at all; the warm slot is then asked.
const CONNECT_TIMEOUT: &str = "250ms";
/// Less than any server's own that is in use: gunicorn's is 2 s, Node's and uvicorn's are 5 s.
const IDLE: &str = "1s";
/// Idle connections that each worker keeps to one upstream.
const KEPT: usize = 32;
/// Requests on one kept connection, as good as no end.
const PER_CONNECTION: usize = 1_000_000;

/// Where a proof of a service is asked for.
pub(in super::super) fn proof_path(key: &str) -> String {
    format!("/.cutover/proof/{key}")
}

/// `http.conf`.
pub(super) fn file(plan: &Plan<'_>, ground: &Ground<'_>) -> Result<String, Error> {
    let place = format!(
        "Include it in nginx's `http {{}}`:\n#     include {};",
        ground.paths.conf.join("http.conf").display()
    );
    let mut text = head(&place);
    if !plan.sites.iter().any(|keyed| speaks_http(keyed.site)) {
        text.push_str("# No HTTP service on this host.\n");
        return Ok(text);
    }
    text.push_str(&buckets("$request_id"));
    text.push_str(
        "map $http_upgrade $cutover_connection {\n    \"\" \"\";\n    default upgrade;\n}\n",
    );
    // Known to the log formats even while no server of ours or the admin's sets them.
    for variable in ["service", "to"] {
        let _ = write!(
            text,
            "map \"\" $cutover_{variable} {{\n    default \"\";\n}}\n"
        );
    }
    // Only a proxy that the admin trusts (realip) may say what the client spoke.
    let proto = if ground.build.realip {
        text.push_str("map \"$remote_addr $realip_remote_addr\" $cutover_trusted {\n    \"~^(.+) \\1$\" 0;\n    default 1;\n}\n");
        "$cutover_trusted:$http_x_forwarded_proto"
    } else {
        "0:"
    };
    let _ = write!(
        text,
        "map \"{proto}\" $cutover_proto {{\n    1:http http;\n    1:https https;\n    default $scheme;\n}}\n\n"
    );
    // Tabs between the fields; nginx escapes those that come from a client.
    let _ = write!(
        text,
        "log_format cutover_signal 'H\t{FINGERPRINT}\t$cutover_service\t$cutover_to\t$cutover_bucket\t$status\t\
         $upstream_status\t$upstream_addr\t$request_time\t$upstream_header_time\t$request_completion';\n\
         log_format cutover_proof 'P\t{FINGERPRINT}\t$cutover_service\t$cutover_to\t$cutover_bucket\t$arg_n';\n\n",
    );
    for keyed in plan.sites.iter().filter(|keyed| speaks_http(keyed.site)) {
        upstreams(&mut text, keyed);
    }
    for (socket, hosts) in &plan.servers {
        let grpc = speaks_grpc(*socket, hosts.values().flatten(), ground)?;
        for (host, ways) in hosts {
            server(&mut text, *socket, *host, ways, grpc, ground);
        }
    }
    Ok(text)
}

/// The files of those sites whose `server` is the admin's.
pub(super) fn include_files(plan: &Plan<'_>, ground: &Ground<'_>) -> Files {
    let mut files = Files::new();
    for keyed in plan
        .sites
        .iter()
        .filter(|keyed| keyed.site.include_only && speaks_http(keyed.site))
    {
        let service = &keyed.site.service;
        let sites = ground.paths.conf.join("sites");
        let server = format!("sites/{service}.server.conf");
        let mut text = head(&format!(
            "For a `server {{}}` of your own, which needs both:\n\
             #     include {0}/{service}.server.conf;\n\
             #     location / {{ include {0}/{service}.PORT.location.conf; }}\n\
             # (`open_file_cache` and `disable_symlinks` of yours must move into your locations.)",
            sites.display()
        ));
        text.push_str("open_file_cache off;\ndisable_symlinks off;\n");
        flags(&mut text, keyed, ground, "");
        proof(&mut text, keyed, ground, "");
        files.insert(server, text);
        for way in keyed
            .site
            .listeners
            .iter()
            .filter(|listener| listener.protocol != Protocol::Tcp)
        {
            let mut text = head(
                "For a `location {}` of your own, in a `server {}` that includes the other file.",
            );
            let way = Way {
                key: keyed.key.clone(),
                site: keyed.site,
                listener: way,
            };
            pass(&mut text, &way, ground, "");
            files.insert(
                format!("sites/{service}.{}.location.conf", way.listener.port),
                text,
            );
        }
    }
    files
}

fn speaks_http(site: &Site) -> bool {
    site.listeners
        .iter()
        .any(|listener| listener.protocol != Protocol::Tcp)
}

/// Whether a socket speaks HTTP/2. Before 1.25.1 nginx can't speak both on one without TLS.
fn speaks_grpc<'a>(
    socket: Socket,
    ways: impl Iterator<Item = &'a Way<'a>>,
    ground: &Ground<'_>,
) -> Result<bool, Error> {
    let (grpc, plain): (Vec<_>, Vec<_>) =
        ways.partition(|way| way.listener.protocol == Protocol::Grpc);
    match (grpc.first(), plain.first()) {
        (Some(grpc), Some(plain)) if !ground.build.http2_directive() => Err(Error::Site {
            service: grpc.site.service.clone(),
            why: format!(
                "gRPC on port {}, where {} speaks HTTP, needs nginx 1.25.1 or newer (here: {}); give it a port of its own",
                socket.1, plain.site.service, ground.build.version
            ),
        }),
        (grpc, _) => Ok(grpc.is_some()),
    }
}

fn upstreams(text: &mut String, keyed: &Keyed<'_>) {
    let mut ports: Vec<u16> = keyed
        .site
        .listeners
        .iter()
        .filter(|l| l.protocol != Protocol::Tcp)
        .map(|l| l.port)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    let _ = writeln!(text, "# {}", keyed.site.service);
    for port in ports {
        for slot in Slot::ALL {
            for (variant, warm, without) in variants(keyed.site, slot) {
                let _ = writeln!(text, "upstream cutover_{}_{port}_{variant} {{", keyed.key);
                servers(text, keyed.site, port, slot, warm, without);
                let _ = write!(
                    text,
                    "    keepalive {KEPT};\n    keepalive_timeout {IDLE};\n    keepalive_requests {PER_CONNECTION};\n}}\n"
                );
            }
        }
    }
    text.push('\n');
}

/// The `server` lines of an upstream.
pub(super) fn servers(
    text: &mut String,
    site: &Site,
    port: u16,
    slot: Slot,
    warm: bool,
    without: Option<u32>,
) {
    for (index, address) in site.replicas(slot).iter().enumerate() {
        if without.is_none_or(|out| usize::try_from(out) != Ok(index)) {
            let _ = writeln!(text, "    server {address}:{port} max_fails=0;");
        }
    }
    for address in site.replicas(slot.other()).iter().filter(|_| warm) {
        let _ = writeln!(text, "    server {address}:{port} max_fails=0 backup;");
    }
}

fn server(
    text: &mut String,
    socket: Socket,
    host: Option<&str>,
    ways: &[Way<'_>],
    grpc: bool,
    ground: &Ground<'_>,
) {
    text.push_str("server {\n");
    for listen in ground.listens(socket) {
        let default = if host.is_none() {
            " default_server"
        } else {
            ""
        };
        let http2 = if grpc && !ground.build.http2_directive() {
            " http2"
        } else {
            ""
        };
        let _ = writeln!(text, "    listen {listen}{default}{http2};");
    }
    if grpc && ground.build.http2_directive() {
        text.push_str("    http2 on;\n");
    }
    let _ = writeln!(text, "    server_name {};", host.unwrap_or("_"));
    text.push_str("    open_file_cache off;\n    disable_symlinks off;\n");
    let mut keys: Vec<&Way<'_>> = ways.iter().collect();
    keys.dedup_by(|a, b| a.key == b.key);
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    keys.dedup_by(|a, b| a.key == b.key);
    for way in &keys {
        let keyed = Keyed {
            key: way.key.clone(),
            site: way.site,
        };
        flags(text, &keyed, ground, "    ");
        proof(text, &keyed, ground, "    ");
    }
    for way in ways {
        let path = way.listener.path.trim_end_matches('/');
        let locations = match path {
            "" => vec!["location /".to_owned()],
            // A prefix ends at a slash: /api is not /apis. `^~`: no expression of the admin's comes first.
            path if way.listener.path.ends_with('/') => vec![format!("location ^~ \"{path}/\"")],
            path => vec![
                format!("location = \"{path}\""),
                format!("location ^~ \"{path}/\""),
            ],
        };
        for location in locations {
            let _ = writeln!(text, "    {location} {{");
            pass(text, way, ground, "        ");
            text.push_str("    }\n");
        }
    }
    if !ways.iter().any(|way| way.listener.path == "/") {
        text.push_str("    location / {\n        return 404;\n    }\n");
    }
    text.push_str("}\n\n");
}

/// Reads the route into `$cutover_KEY_to`.
fn flags(text: &mut String, keyed: &Keyed<'_>, ground: &Ground<'_>, indent: &str) {
    let (key, here) = (
        &keyed.key,
        routes::directory(&ground.paths.routes, &keyed.site.service),
    );
    let (here, slot) = (here.display(), format!("$cutover_{key}_slot"));
    let mut line = |words: String| {
        let _ = writeln!(text, "{indent}{words}");
    };
    line(format!("set {slot} unreadable;"));
    line(format!("set $cutover_{key}_dark 1;"));
    line(format!(
        "if (-f {here}/current/nobody) {{ set {slot} nobody; }}"
    ));
    for colour in ["blue", "green", "blue"] {
        line(format!(
            "if (-f {here}/current/$cutover_bucket.{colour}) {{ set {slot} {colour}; set $cutover_{key}_dark 0; }}"
        ));
    }
    line(format!("set $cutover_{key}_to {slot};"));
    line(format!("set $cutover_{key}_warm {here}/current/warm;"));
    line(format!(
        "if ($cutover_{key}_dark) {{ set $cutover_{key}_warm {here}/current/none; }}"
    ));
    line(format!(
        "if (-f $cutover_{key}_warm) {{ set $cutover_{key}_to ${{cutover_{key}_slot}}_warm; }}"
    ));
    let replicas = Slot::ALL
        .map(|slot| keyed.site.replicas(slot).len())
        .into_iter()
        .max()
        .unwrap_or(0);
    for replica in (0..replicas).filter(|_| replicas > 1) {
        line(format!(
            "if (-f {here}/{slot}/out.{replica}) {{ set $cutover_{key}_to ${{cutover_{key}_to}}_without_{replica}; }}"
        ));
    }
}

fn proof(text: &mut String, keyed: &Keyed<'_>, ground: &Ground<'_>, indent: &str) {
    let key = &keyed.key;
    let _ = write!(
        text,
        "{indent}location = {} {{\n\
         {indent}    set $cutover_service {};\n\
         {indent}    set $cutover_to $cutover_{key}_to;\n\
         {indent}    {};\n\
         {indent}    if ($remote_addr != $server_addr) {{ return 404; }}\n\
         {indent}    return 204;\n\
         {indent}}}\n",
        proof_path(key),
        keyed.site.service,
        ground.signal("cutover_proof"),
    );
}

/// Everything in a `location` that passes requests to the container.
fn pass(text: &mut String, way: &Way<'_>, ground: &Ground<'_>, indent: &str) {
    let (key, site, port) = (&way.key, way.site, way.listener.port);
    let grpc = way.listener.protocol == Protocol::Grpc;
    let pass = if grpc { "grpc" } else { "proxy" };
    let mut line = |words: &str| {
        let _ = writeln!(text, "{indent}{words};");
    };
    line(&format!("set $cutover_service {}", site.service));
    line(&format!("set $cutover_to $cutover_{key}_to"));
    if let Some(log) = &ground.paths.access_log {
        line(&format!("access_log {log}"));
    }
    line(&ground.signal("cutover_signal"));
    line("client_max_body_size 0");
    let timeout = format!("{}ms", site.request_timeout.as_millis());
    // Each upstream is asked at most once for a request, and none after the request's time is over.
    let tries = Slot::ALL
        .map(|slot| site.replicas(slot).len())
        .into_iter()
        .sum::<usize>();
    for (directive, value) in [
        ("connect_timeout", CONNECT_TIMEOUT),
        ("read_timeout", &timeout),
        ("send_timeout", &timeout),
        ("next_upstream", "error timeout"),
        ("next_upstream_tries", &tries.to_string()),
        ("next_upstream_timeout", &timeout),
        ("socket_keepalive", "on"),
        ("intercept_errors", "off"),
        ("set_header", "Host $http_host"),
        ("set_header", "X-Real-IP $remote_addr"),
        ("set_header", "X-Forwarded-For $remote_addr"),
        ("set_header", "X-Forwarded-Proto $cutover_proto"),
        ("set_header", "X-Forwarded-Host $http_host"),
        ("set_header", "X-Forwarded-Port $server_port"),
    ] {
        line(&format!("{pass}_{directive} {value}"));
    }
    if !grpc {
        for words in [
            "proxy_http_version 1.1",
            "proxy_set_header Upgrade $http_upgrade",
            "proxy_set_header Connection $cutover_connection",
            "proxy_buffering off",
            "proxy_request_buffering off",
            "proxy_redirect off",
        ] {
            line(words);
        }
    }
    let scheme = if grpc { "grpc" } else { "http" };
    let _ = writeln!(text, "{indent}if ($cutover_{key}_dark) {{ return 503; }}");
    let _ = writeln!(
        text,
        "{indent}{pass}_pass {scheme}://cutover_{key}_{port}_$cutover_{key}_to;"
    );
}
