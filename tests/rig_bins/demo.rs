//! What Cutover does, in a dozen lines, on this machine: a good release under
//! load, a bad one, and what Docker Swarm makes of the same bad one.
//!
//! Everything is real and private: an engine, an nginx for each of three hosts,
//! a coordinator, agents, load. Every figure printed was just measured.
#![allow(clippy::print_stdout, reason = "it is made to be looked at")]

use std::process::ExitCode;
use std::time::Duration;

use cutover_tests::fleet::{Fleet, PORT, Wishes};
use cutover_tests::image;
use cutover_tests::load::{Load, Running, Tally};
use cutover_tests::scratch::Loopback;
use cutover_tests::swarm::Swarm;

/// Requests a second at each host's door.
const RATE: f64 = 100.0;

fn compose(image: &str) -> String {
    format!(
        "name: shop\nservices:\n  web:\n    image: {image}\n    restart: unless-stopped\n    stop_grace_period: 2s\n\
         \x20   ports: [\"{PORT}:8080\"]\n    x-cutover:\n      ready: {{http: /healthz, every: 250ms}}\n      drain: 5s\n      observe: 5s\n"
    )
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!(
            "the demo starts a Docker engine and an nginx of its own, which needs root: sudo make demo"
        );
        return ExitCode::FAILURE;
    }
    println!(
        "  starting a coordinator and three hosts (127.0.1.1 to 127.0.1.3), each with its own nginx …"
    );
    let fleet = Fleet::start_at(3, Loopback::of_the_demo(), Wishes::default()).await;
    for tag in ["1", "2", "dies"] {
        image::web(&fleet.engine, tag).await;
    }
    let file =
        |tag: &str| fleet.compose("compose.yaml", &compose(&format!("cutover-test/web:{tag}")));

    println!("$ cutover deploy -f compose.yaml          # image: web:1");
    show(&fleet, &file("1"));
    let loads: Vec<Running> = fleet.hosts.iter().map(|host| load(host.door())).collect();

    println!(
        "$ cutover deploy -f compose.yaml          # image: web:2, under {} requests a second",
        RATE * 3.0
    );
    show(&fleet, &file("2"));
    let (sent, lost) = stop(loads).await;
    println!("  counted at the clients: {lost} of {sent} requests lost");

    let loads: Vec<Running> = fleet.hosts.iter().map(|host| load(host.door())).collect();
    println!(
        "$ cutover deploy -f compose.yaml          # image: web:3, which crashes 3 s after its start"
    );
    let code = show(&fleet, &file("dies"));
    let (sent, lost) = stop(loads).await;
    println!("  exit code {code}; counted at the clients: {lost} of {sent} requests lost");

    swarm(&fleet).await;
    if code == 3 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn load(door: std::net::SocketAddr) -> Running {
    Load::new(door, "shop.example")
        .keep_alive(16, RATE * 0.8)
        .one_shot(RATE * 0.2)
        .longest(Duration::from_secs(300))
        .start()
}

async fn stop(loads: Vec<Running>) -> (u64, u64) {
    let (mut sent, mut lost) = (0, 0);
    for load in loads {
        let tally: Tally = load.stop().await;
        sent += tally.kinds.values().map(|kind| kind.sent).sum::<u64>();
        lost += tally.lost();
    }
    (sent, lost)
}

/// Runs a deploy and prints how it ended; gives its exit code.
fn show(fleet: &Fleet, file: &str) -> i32 {
    let (code, out, err) = fleet.run(&["deploy", "-f", file]);
    // Standard output ends with one sentence: what is so now. Last lines of a log may follow it, further in.
    let said = out
        .lines()
        .rfind(|line| !line.trim().is_empty() && !line.starts_with(' '));
    let last = said
        .or_else(|| err.lines().last())
        .unwrap_or("nothing was said");
    println!("  {}", last.trim());
    code
}

/// The same bad release in Docker Swarm, on the same engine.
async fn swarm(fleet: &Fleet) {
    let Some(swarm) = Swarm::begin(&fleet.engine, "cutover-test/web:2", 3, 1) else {
        println!("  (Docker Swarm can't be started here, so it is not compared)");
        return;
    };
    println!(
        "$ docker service update --image web:3 web  # the same, in Docker Swarm (start-first, monitor 5 s, rollback)"
    );
    let update = swarm.update("cutover-test/web:dies").await;
    println!(
        "  {} after {:.1} s; exit code {}",
        update.state,
        update.took.as_secs_f64(),
        update.code
    );
    swarm.end();
}
