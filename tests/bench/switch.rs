//! Figure: what a switch of the route alone loses, beside a reload of nginx: two servers that stay, one client load of
//! 2,000 requests a second on 64 kept connections, twenty switches each way. No agent and no engine take part.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use cutover_tests::load::{Load, Tally};
use cutover_tests::process::{Daemon, Recipe};
use cutover_tests::proxy::Nginx;
use cutover_tests::scratch::{Loopback, Scratch};
use cutover_tests::{service, wait};

use crate::Rounds;
use crate::spread::Spread;
use crate::table::{Limit, Row};
use crate::web;

const DOOR: u16 = 8080;
const CONNECTIONS: usize = 64;
/// Requests a second.
const RATE: f64 = 2_000.0;
/// Between two switches.
const EVERY: Duration = Duration::from_millis(700);
/// For the two servers to be up.
const STARTING: Duration = Duration::from_secs(20);

pub(crate) async fn measure(rounds: Rounds) -> Vec<Row> {
    let switches = rounds.of(20, 4);
    let scratch = Scratch::new("switch");
    let loopback = Loopback::claim();
    let servers = [
        SocketAddr::from((loopback.address(2), 8081)),
        SocketAddr::from((loopback.address(3), 8082)),
    ];
    let app = tokio::task::spawn_blocking(service::app_path)
        .await
        .unwrap();
    let _running: Vec<Daemon> = servers
        .iter()
        .map(|at| serve(&app, *at, &scratch))
        .collect();
    for server in servers {
        wait::until(STARTING, "the server", async || {
            web::get(server, "/healthz").await.is_ok()
        })
        .await;
    }
    let nginx = Nginx::start(&scratch.folder("nginx"), loopback.address(1)).await;
    let door = SocketAddr::from((loopback.address(1), DOOR));

    let by_reload = under_load(door, switches, &nginx, async |n| {
        nginx.write_http("switch.conf", &reloaded(door, servers[n % 2]));
        nginx.reload().await;
    });
    let by_reload = by_reload.await;
    let routes = routes(&scratch);
    nginx.write_http("switch.conf", &flagged(door, servers, &routes));
    nginx.reload().await;
    let by_flag = under_load(door, switches, &nginx, async |n| {
        let new = routes.join("new");
        symlink(["states/blue", "states/green"][n % 2], &new).unwrap();
        fs::rename(&new, routes.join("current")).unwrap();
    });
    let by_flag = by_flag.await;
    let lost = |tally: &Tally| {
        Spread::of([f64::from(
            u32::try_from(tally.failed_in_all()).unwrap_or(u32::MAX),
        )])
    };
    vec![Row {
        figure: "switch",
        what: "requests lost by switches of the route alone",
        unit: "lost",
        measured: lost(&by_flag),
        beside: Some(("nginx -s reload", lost(&by_reload))),
        limit: Limit::AtMost(0.0),
        notes: vec![format!(
            "{switches} switches each, {CONNECTIONS} kept connections: {} requests by renames, {} by reloads",
            by_flag.sent_in_all(),
            by_reload.sent_in_all()
        )],
    }]
}

/// Switches so often while the load goes on.
async fn under_load(
    door: SocketAddr,
    switches: usize,
    nginx: &Nginx,
    mut switch: impl AsyncFnMut(usize),
) -> Tally {
    switch(0).await;
    wait::until(STARTING, "nginx to pass requests on", async || {
        web::get(door, "/")
            .await
            .is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let load = Load::new(door, "shop.example")
        .keep_alive(CONNECTIONS, RATE)
        .start();
    for n in 1..=switches {
        let never = tokio::time::timeout(EVERY, std::future::pending::<()>());
        never.await.unwrap_err();
        switch(n).await;
    }
    let tally = load.stop().await;
    nginx.wait_for_old_workers(STARTING).await;
    tally
}

fn serve(app: &Path, at: SocketAddr, scratch: &Scratch) -> Daemon {
    Recipe::new(app, scratch.join(&format!("{}.log", at.port())))
        .env("BIND", at.ip().to_string())
        .env("PORT", at.port().to_string())
        .start()
}

fn reloaded(door: SocketAddr, server: SocketAddr) -> String {
    format!(
        "upstream web {{ server {server}; keepalive 64; }}\nserver {{\n  listen {door};\n  location / {{\n    \
         proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    proxy_pass http://web;\n  }}\n}}\n"
    )
}

fn flagged(door: SocketAddr, servers: [SocketAddr; 2], routes: &Path) -> String {
    let [blue, green] = servers;
    format!(
        "upstream web_blue {{ server {blue}; keepalive 64; }}\nupstream web_green {{ server {green}; keepalive 64; }}\n\
         server {{\n  listen {door};\n  open_file_cache off;\n  set $slot blue;\n  if (-f {}/current/green) {{ set $slot green; }}\n  \
         location / {{\n    proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n    proxy_pass http://web_$slot;\n  }}\n}}\n",
        routes.display()
    )
}

/// A directory of flags for each slot, and the link that says which of them counts.
fn routes(scratch: &Scratch) -> std::path::PathBuf {
    let routes = scratch.folder("routes");
    for slot in ["blue", "green"] {
        let state = scratch.folder(&format!("routes/states/{slot}"));
        fs::write(state.join(slot), "").unwrap();
    }
    symlink("states/blue", routes.join("current")).unwrap();
    routes
}
