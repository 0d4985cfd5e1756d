//! Figure: what an agent costs its host while nothing happens, with twenty committed services, each probed every 10 s.
//!
//! Memory is PSS, as the kernel shares it out (`smaps_rollup`). Time is the process's own clock of CPU time, in
//! nanoseconds, threads that ended included; over whole windows of 10 s, so that each holds one probe of every service.

use std::fs;
use std::time::Duration;

use cutover_tests::fleet::{Fleet, Host};
use cutover_tests::image;
use nix::sys::time::TimeSpec;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::Rounds;
use crate::spread::Spread;
use crate::table::{Limit, Row};

/// Committed services of one container each.
const SERVICES: u16 = 20;
/// In MiB.
const MEMORY: f64 = 10.0;
/// In percent of one core.
const TIME: f64 = 0.1;
/// What a swap leaves behind (reports, logs, threads that wait) is over by then.
const SETTLE: Duration = Duration::from_secs(30);
/// One probe of each service.
const WINDOW: Duration = Duration::from_secs(10);

pub(crate) async fn measure(rounds: Rounds) -> Vec<Row> {
    let mut fleet = Fleet::start(1).await;
    let image = image::web(&fleet.engine, "1").await;
    // As it is installed: the rig's agents say every decision.
    let agent = &mut fleet.hosts[0].agent;
    agent.kill().await;
    agent.change(|recipe| recipe.env("CUTOVER_LOG", "info"));
    agent.start_again();
    fleet.wait_for_hosts(1).await;
    fleet.ok(&["deploy", "-f", &fleet.compose("many.yaml", &many(&image))]);
    pass(SETTLE).await;

    let pid = fleet.hosts[0].agent.pid();
    let (mut memory, mut time) = (Vec::new(), Vec::new());
    let mut before = cpu_time(pid);
    let windows = rounds.of(10, 2);
    for _ in 0..windows {
        pass(WINDOW).await;
        let now = cpu_time(pid);
        time.push((now.saturating_sub(before)).as_secs_f64() / WINDOW.as_secs_f64() * 100.0);
        before = now;
        memory.push(pss_mib(pid));
    }
    let note = format!(
        "{SERVICES} services with `live` each 10 s; {windows} windows of {} s, {} s after the last commit; {} threads; {}",
        WINDOW.as_secs(),
        SETTLE.as_secs(),
        threads(pid),
        parts(&fleet.hosts[0]),
    );
    vec![
        Row {
            figure: "idle",
            what: "memory of an agent with 20 services",
            unit: "MiB",
            measured: Spread::of(memory),
            beside: None,
            limit: Limit::AtMost(MEMORY),
            notes: vec![note],
        },
        Row {
            figure: "idle",
            what: "CPU of an agent with 20 services",
            unit: "%",
            measured: Spread::of(time),
            beside: None,
            limit: Limit::AtMost(TIME),
            notes: Vec::new(),
        },
    ]
}

fn many(image: &str) -> String {
    let mut text = "name: many\nservices:\n".to_owned();
    for number in 1..=SERVICES {
        text.push_str(&format!(
            "  s{number}:\n    image: {image}\n    restart: unless-stopped\n    stop_grace_period: 2s\n    ports: [\"{}:8080\"]\n\
             \x20   x-cutover:\n      ready: {{http: /healthz, every: 250ms, successes: 1}}\n\
             \x20     live: {{http: /healthz, every: 10s}}\n      drain: 1s\n      observe: 0s\n",
            9000 + number
        ));
    }
    text
}

/// Time passes; nothing is waited for.
async fn pass(time: Duration) {
    let never = tokio::time::timeout(time, std::future::pending::<()>());
    never.await.unwrap_err();
}

fn cpu_time(pid: Pid) -> Duration {
    let clock = clock_getcpuclockid(pid).expect("the agent runs");
    let time: TimeSpec = clock_gettime(clock).expect("its clock can be read");
    time.into()
}

fn pss_mib(pid: Pid) -> f64 {
    kib(pid, "Pss:") / 1024.0
}

fn kib(pid: Pid, what: &str) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the agent runs");
    let line = rollup.lines().find(|line| line.starts_with(what));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("the kernel says it")
}

fn threads(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// What the memory consists of.
fn parts(host: &Host) -> String {
    let pid = host.agent.pid();
    format!(
        "of its PSS {:.1} MiB are its own heap and stacks, the rest pages of its program; its RSS is {:.1} MiB",
        kib(pid, "Pss_Anon:") / 1024.0,
        kib(pid, "Rss:") / 1024.0
    )
}
