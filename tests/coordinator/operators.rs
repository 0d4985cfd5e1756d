//! Operators' certificates: made by the program, believed by the coordinator that runs.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use cutover_coordinator::pki::{Authority, operators};
use cutover_proto::identity::Identity;
use cutover_proto::tls::{Credentials, Dial, PRIVATE, PUBLIC, Serial, write_file};
use cutover_proto::v1;
use cutover_proto::v1::operator_client::OperatorClient;
use cutover_tests::process::built;

use crate::bed::{Bed, operator};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// `cutover-coordinator operator …` on the bed's machine.
fn renew(bed: &Bed, name: &str, context_dir: &Path) -> Output {
    Command::new(built("cutover-coordinator"))
        .args(["operator", name, "--config"])
        .arg(bed.scratch.join("coordinator.toml"))
        .arg("--context-dir")
        .arg(context_dir)
        .output()
        .expect("it starts")
}

fn held(context_dir: &Path) -> (Identity, Serial) {
    let read = |name: &str| std::fs::read_to_string(context_dir.join(name)).expect("written");
    let held = Credentials::from_pem(&read("default.pem"), &read("default.key")).expect("a pair");
    assert!(held.fits());
    (
        Identity::of_certificate(held.certificate()).expect("names somebody"),
        Serial::of_certificate(held.certificate()).expect("has one"),
    )
}

async fn answers(dial: &Dial) {
    let connection = dial.connect().await.expect("believed");
    let mut api = OperatorClient::new(connection.channel);
    let status = api.status(v1::StatusRequest::default()).await;
    status.expect("answered");
}

// It was told 127.0.0.1, where `init --local` had made the coordinator.
#[test]
fn an_operator_on_another_machine_is_told_an_address_that_leads_here() {
    let bed = Bed::empty();
    let file = bed.scratch.join("coordinator.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    let both = "addresses = [\"127.0.0.1\", \"deploy.example.com\"]";
    let others = text.lines().filter(|line| !line.starts_with("addresses"));
    let lines: Vec<&str> = std::iter::once(both).chain(others).collect();
    std::fs::write(&file, lines.join("\n")).expect("writable");
    let ci = bed.scratch.join("ci");
    let made = renew(&bed, "ci", &ci);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{said}");
    assert!(said.contains("--address deploy.example.com:"), "{said}");
    let contexts = std::fs::read_dir(&ci).expect("written");
    let told = contexts.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    let told: String = told.collect();
    assert!(told.contains("deploy.example.com:"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_old_or_new_gets_a_certificate_that_the_running_coordinator_believes() {
    let bed = Bed::empty();
    drop(bed.api().await); // it runs
    let context = bed.scratch.join("context");
    let before = held(&context);
    let made = renew(&bed, "admin", &context);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(
        made.status.success() && said.contains("for 90 days"),
        "{said}"
    );
    let after = held(&context);
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1, "it is a new one");
    answers(&operator(&context, &bed.address)).await;

    let ci = bed.scratch.join("ci");
    let made = renew(&bed, "ci@example", &ci);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{said}");
    assert!(said.contains("cutover context add default"), "{said}");
    answers(&operator(&ci, &bed.address)).await;
    let known = operators::newest(&bed.scratch.join("state/pki"), SystemTime::now())
        .expect("it can be read");
    let serials: Vec<_> = known
        .iter()
        .map(|(name, line)| (name.as_str(), line.serial.clone()))
        .collect();
    assert_eq!(
        serials,
        [
            ("admin", after.1.to_string()),
            ("ci@example", held(&ci).1.to_string())
        ],
        "who has one is known"
    );
}

#[test]
fn a_context_of_somebody_else_or_of_another_coordinator_is_not_written_over() {
    let (bed, other) = (Bed::empty(), Bed::empty());
    let context = bed.scratch.join("context");
    let before = held(&context);
    for (from, name, why) in [
        (&bed, "alice", "admin's"),
        (&other, "admin", "coordinator at"),
    ] {
        let made = renew(from, name, &context);
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(!made.status.success(), "{said}");
        assert!(said.contains(why) && said.contains("--context"), "{said}");
        assert_eq!(held(&context), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_names_the_command_that_renews_an_expired_certificate() {
    let bed = Bed::empty();
    drop(bed.api().await);
    let authority = Authority::load(&bed.scratch.join("state/pki")).expect("made by init");
    let name = "alice".parse().expect("a name");
    let context = bed.scratch.join("context");
    let cutover = |arguments: &[&str], age: Duration| {
        let issued = authority.operator(&name, SystemTime::now() - age);
        let issued = issued.expect("signed");
        let key = issued.key_pem.expect("made here");
        let at = |file: &str| bed.scratch.join(file);
        let cert = issued.certificate_pem;
        write_file(&at("old.pem"), cert.as_bytes(), PUBLIC).expect("writable");
        write_file(&at("old.key"), key.expose().as_bytes(), PRIVATE).expect("writable");
        let ran = Command::new(built("cutover"))
            .args(arguments)
            .env("CUTOVER_ADDRESS", format!("{}:7443", bed.address))
            .env("CUTOVER_CA", context.join("default-ca.pem"))
            .env("CUTOVER_CERT", at("old.pem"))
            .env("CUTOVER_KEY", at("old.key"))
            .output()
            .expect("it starts");
        let said = [ran.stdout.as_slice(), ran.stderr.as_slice()].concat();
        (
            ran.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let command = "sudo cutover-coordinator operator";
    let (code, said) = cutover(&["doctor"], 91 * DAY);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(&format!("{command} alice`")), "{said}");
    let (code, said) = cutover(&["status"], 91 * DAY);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains(command), "{said}");
    let (code, said) = cutover(&["doctor"], 80 * DAY);
    assert_eq!(code, Some(0), "it still holds: {said}");
    assert!(said.contains(&format!("{command} alice`")), "{said}");
    let (_, said) = cutover(&["doctor"], DAY);
    assert!(!said.contains(command), "{said}");
}
