//! What one idle, connected agent costs the coordinator: at most 60 KiB each, over 1,000 of them.
//!
//! `cargo run -p cutover-tests --bin bench-agents`. The agents' ends live in a
//! process of their own (this program again), so that only the coordinator's is measured.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement prints, and panics"
)]

mod link;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cutover_coordinator::roster::RosterEvent;
use cutover_proto::tls::{ClientTls, Credentials, Dial, Trust};
use futures::StreamExt;
use link::{Coordinator, Puppet, hello};

/// So many agents.
const AGENTS: usize = 1_000;
/// One of them may cost this.
const KIB: f64 = 60.0;
/// Handshakes at once, as when a fleet comes back.
const AT_ONCE: usize = 64;
/// Before the second measurement: whatever the handshakes used is given back by then.
const SETTLE: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match std::env::var("BENCH_AGENTS_FOLDER") {
        Ok(folder) => runtime.block_on(agents(&folder)),
        Err(_) => runtime.block_on(coordinator()),
    }
}

async fn coordinator() {
    let mut coordinator = Coordinator::start();
    for number in 0..AGENTS {
        coordinator.known_host(&format!("host-{number}"), SystemTime::now());
    }
    let folder = coordinator.folder.path().to_owned();
    std::fs::write(folder.join("address"), coordinator.main().to_string()).unwrap();
    for number in 0..AGENTS {
        let issued_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let name = format!("host-{number}");
        let issued = coordinator
            .authority
            .agent(
                &link::host(&name),
                &link::request(&issued_key),
                SystemTime::now(),
            )
            .unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), issued.certificate_pem).unwrap();
        std::fs::write(
            folder.join(format!("{name}.key")),
            issued_key.serialize_pem(),
        )
        .unwrap();
    }
    let before = pss_kib();
    let from = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env("BENCH_AGENTS_FOLDER", &folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..AGENTS {
        assert!(matches!(
            coordinator.event().await,
            RosterEvent::Connected { .. }
        ));
    }
    println!(
        "{AGENTS} agents connected in {:.2} s",
        from.elapsed().as_secs_f64()
    );
    let ready = child.stdout.take().unwrap();
    tokio::task::spawn_blocking(move || BufReader::new(ready).lines().next())
        .await
        .unwrap();
    tokio::time::timeout(SETTLE, std::future::pending::<()>())
        .await
        .unwrap_err();
    assert_eq!(coordinator.roster.present().len(), AGENTS);
    #[allow(clippy::cast_precision_loss, reason = "a few gigabytes of KiB fit")]
    let each = (pss_kib() - before) as f64 / AGENTS as f64;
    println!("{each:.1} KiB an agent (at most {KIB})");
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(each <= KIB, "an idle agent costs too much");
}

/// The other process: all the agents' ends, until standard input closes.
async fn agents(folder: &str) {
    let folder = std::path::PathBuf::from(folder);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let trust = Trust::from_pem(&read("ca.pem")).unwrap();
    let address: cutover_proto::tls::Address = read("address").parse().unwrap();
    let sessions: Vec<Puppet> = futures::stream::iter(0..AGENTS)
        .map(|number| {
            let name = format!("host-{number}");
            let credentials =
                Credentials::from_pem(&read(&format!("{name}.pem")), &read(&format!("{name}.key")));
            let tls = Arc::new(ClientTls::mutual(&credentials.unwrap(), &trust).unwrap());
            let dial = Dial::new(address.clone(), tls);
            async move {
                Puppet::open(dial.connect().await.unwrap(), hello(&name))
                    .await
                    .unwrap()
                    .welcomed()
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    println!("ready");
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await;
    drop(sessions);
}

fn pss_kib() -> i64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Pss:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
