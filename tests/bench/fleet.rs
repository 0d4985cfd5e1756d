//! Figure: what one idle, connected agent costs the coordinator, over 1,000 of them.
//!
//! The coordinator's gates and roster, on real sockets, in a process of their own (this program again), and the agents'
//! ends in another, so that only the coordinator's side is measured.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cutover_coordinator::roster::RosterEvent;
use cutover_proto::tls::{ClientTls, Credentials, Dial, Trust};
use futures::StreamExt;

use crate::link::{self, Coordinator, Puppet, hello};
use crate::spread::Spread;
use crate::table::{Limit, Row};

/// So many agents.
const AGENTS: usize = 1_000;
/// One of them may cost this.
const KIB: f64 = 60.0;
/// Handshakes at once, as when a fleet comes back.
const AT_ONCE: usize = 64;
/// Before the second measurement: whatever the handshakes used is given back by then.
const SETTLE: Duration = Duration::from_secs(3);
/// Looks at the settled coordinator.
const LOOKS: usize = 10;
/// Tells this program that it is one of the two processes: `coordinator`, or the folder of the agents' keys.
const ROLE: &str = "CUTOVER_BENCH_FLEET";

pub(crate) async fn measure() -> Vec<Row> {
    let output = tokio::task::spawn_blocking(|| again("coordinator").output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = said.split_whitespace();
    let seconds = words.next().expect("it says how long the handshakes took");
    let note = format!(
        "{AGENTS} agents connected in {seconds} s, {AT_ONCE} at a time, both ends on this machine"
    );
    vec![Row {
        figure: "fleet",
        what: "memory of the coordinator, each of 1,000 connected agents",
        unit: "KiB",
        measured: Spread::of(words.map(|word| word.parse().unwrap())),
        beside: None,
        limit: Limit::AtMost(KIB),
        notes: vec![note],
    }]
}

pub(crate) fn is_another_process() -> bool {
    std::env::var_os(ROLE).is_some()
}

pub(crate) async fn run_other_process() {
    match std::env::var(ROLE).unwrap().as_str() {
        "coordinator" => coordinator().await,
        folder => agents(Path::new(folder)).await,
    }
}

fn again(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, role);
    command
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
    let mut child = again(&folder.display().to_string())
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
    println!("{:.2}", from.elapsed().as_secs_f64());
    let ready = child.stdout.take().unwrap();
    tokio::task::spawn_blocking(move || BufReader::new(ready).lines().next())
        .await
        .unwrap();
    let mut looks = tokio::time::interval(SETTLE);
    looks.tick().await;
    for _ in 0..LOOKS {
        looks.tick().await;
        assert_eq!(coordinator.roster.present().len(), AGENTS);
        #[allow(clippy::cast_precision_loss, reason = "a few gigabytes of KiB fit")]
        let each = (pss_kib() - before) as f64 / AGENTS as f64;
        println!("{each:.2}");
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// The other process: all the agents' ends, until standard input closes.
async fn agents(folder: &Path) {
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
