//! The daemons' own doctors, on real engines and a real nginx.

use std::process::{Command, Output};

use cutover_tests::fleet::Fleet;
use cutover_tests::process::built;
use cutover_tests::root_or_skip;
use serde_json::Value;

/// What a person must mend.
const NEEDS_PERSON: i32 = 8;

/// The level of the finding that says so, and what mends it.
fn found(output: &Output, words: &str) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(&output.stdout);
    let all: Vec<Value> = serde_json::from_str(&text).expect("a doctor prints an array");
    let says = |one: &&Value| {
        one["what"]
            .as_str()
            .is_some_and(|what| what.contains(words))
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter()
        .find(says)
        .map(|one| (text(&one["level"]), text(&one["mend"])))
}

fn level(output: &Output, words: &str) -> String {
    found(output, words).map_or_else(|| format!("nothing says {words:?}"), |(level, _)| level)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hosts_doctor_finds_what_is_wrong_and_says_what_mends_it() {
    if !root_or_skip("a_hosts_doctor_finds_what_is_wrong_and_says_what_mends_it") {
        return;
    }
    let mut fleet = Fleet::start_light(1).await;
    let well = fleet.hosts[0].agent_says(&["doctor", "-o", "json"]);
    println!("{}", String::from_utf8_lossy(&well.stdout));
    assert_eq!(well.status.code(), Some(0));
    for words in [
        "connected to its coordinator",
        "holds for",
        "nginx accepts",
        "can be made",
        "cutover-agent may open",
        "a worker of nginx takes",
    ] {
        assert_eq!(level(&well, words), "ok");
    }
    // The engines of these tests run without it.
    let (restore, mend) = found(&well, "live-restore is off").expect("it is off");
    assert_eq!(restore, "warn");
    assert!(mend.contains("daemon.json"), "{mend}");

    // Another default server, and an agent that does not run: both worth a word, neither an error.
    let address = fleet.hosts[0].address;
    fleet.hosts[0].nginx.write_http(
        "zz-default.conf",
        &format!("server {{ listen {address}:8099 default_server; return 200; }}\n"),
    );
    fleet.hosts[0].agent.kill().await;
    let warned = fleet.hosts[0].agent_says(&["doctor", "-o", "json"]);
    assert_eq!(warned.status.code(), Some(0));
    assert_eq!(level(&warned, "could not ask the agent"), "warn");
    let (_, mend) = found(&warned, "is the default server of").expect("it is found");
    assert!(mend.contains("zz-default.conf"), "{mend}");

    // A configuration that is refused, no master, no engine: a person must mend them.
    fleet.hosts[0]
        .nginx
        .write_http("zz-default.conf", "no such directive;\n");
    fleet.hosts[0].nginx.kill_all().await;
    fleet.engine.stop().await;
    let sick = fleet.hosts[0].agent_says(&["doctor", "-o", "json"]);
    assert_eq!(sick.status.code(), Some(NEEDS_PERSON));
    assert_eq!(level(&sick, "refuses its configuration"), "error");
    assert_eq!(level(&sick, "nginx does not run"), "error");
    assert_eq!(
        found(&sick, "asking the engine what it is").map(|(level, _)| level),
        Some("error".to_owned())
    );
    let words = fleet.hosts[0].agent_says(&["doctor"]);
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    assert!(
        words.contains("mend: systemctl reset-failed docker; systemctl start docker"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinators_doctor_looks_at_a_store_in_use_at_rest_and_damaged() {
    if !root_or_skip("a_coordinators_doctor_looks_at_a_store_in_use_at_rest_and_damaged") {
        return;
    }
    let mut fleet = Fleet::start_light(0).await;
    let home = fleet.path().join("coordinator");
    let ask = || {
        Command::new(built("cutover-coordinator"))
            .args(["doctor", "-o", "json", "--config"])
            .arg(home.join("coordinator.toml"))
            .output()
            .expect("the coordinator's program starts")
    };
    let runs = ask();
    println!("{}", String::from_utf8_lossy(&runs.stdout));
    assert_eq!(runs.status.code(), Some(0));
    assert_eq!(level(&runs, "the store is in use"), "ok");
    assert_eq!(level(&runs, "the main gate is on"), "ok");
    assert_eq!(level(&runs, "its certificate holds for"), "ok");

    fleet.coordinator.kill().await;
    let rests = ask();
    assert_eq!(rests.status.code(), Some(0));
    assert_eq!(level(&rests, "can be read from end to end"), "ok");
    assert_eq!(level(&rests, "is free for the main gate"), "ok");

    std::fs::remove_file(home.join("state/pki/ca.pem")).expect("it was there");
    let sick = ask();
    assert_eq!(sick.status.code(), Some(NEEDS_PERSON));
}
