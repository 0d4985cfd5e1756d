//! One CA takes over from another, by the program, on a coordinator that is killed at each step.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use cutover_proto::v1;
use cutover_tests::process::built;
use cutover_tests::root_or_skip;
use nix::sys::signal::Signal;

use crate::bed::{Bed, spec, until};

fn run(bed: &Bed, arguments: &[&str]) -> Output {
    Command::new(built("cutover-coordinator"))
        .args(arguments)
        .arg("--config")
        .arg(bed.scratch.join("coordinator.toml"))
        .output()
        .expect("it starts")
}

/// A step that is taken, or refused with this in its words.
fn step(bed: &Bed, arguments: &[&str], refused: Option<&str>) -> String {
    let ran = run(bed, &[&["ca"], arguments].concat());
    let said = [ran.stdout.as_slice(), ran.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let code = refused.map_or(0, |_| 7);
    assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(
        said.contains(refused.unwrap_or("")),
        "{arguments:?}: {said}"
    );
    said
}

async fn says(bed: &Bed, words: &str) -> String {
    until(words, async || {
        let said = step(bed, &["status"], None);
        said.contains(words).then_some(said)
    })
    .await
}

async fn killed_and_started(bed: &mut Bed) {
    bed.coordinator.signal(Signal::SIGKILL);
    until("it to be dead", async || bed.coordinator.ended()).await;
    bed.coordinator.start_again();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_step_is_taken_before_every_host_and_operator_is_ready_and_each_says_who_is_not() {
    let mut bed = Bed::new(&["h1", "h2", "h3"]).await;
    step(&bed, &["switch"], Some("no CA takes over"));
    step(&bed, &["end"], None); // there is nothing to end, and nothing changes
    bed.host("h2").cut().await;
    bed.host("h3").cut().await;

    let said = step(&bed, &["begin"], None);
    assert!(said.contains("next: systemctl restart"), "{said}");
    step(
        &bed,
        &["end"],
        Some("`cutover-coordinator ca switch` comes before"),
    );
    step(&bed, &["switch"], Some("has not taken the step before"));
    killed_and_started(&mut bed).await;
    says(
        &bed,
        "1 of 3 believe the next CA; not yet: h2 (away), h3 (away)",
    )
    .await;
    let said = step(&bed, &["switch"], Some("h2 (away), h3 (away)"));
    assert!(!said.contains("h1"), "{said}");
    let status = run(&bed, &["ca", "status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["stage"], "begun");
    let believes = |host: usize| {
        let trusts = status["coordinator"]["hosts"][host]["trusts"].as_array();
        trusts.is_some_and(|trusts| trusts.contains(&status["next"]["sha256"]))
    };
    assert_eq!([believes(0), believes(1)], [true, false], "{status}");
    let doctor = run(&bed, &["doctor"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        doctor.contains("one CA takes over from another") && doctor.contains("1 of 3"),
        "{doctor}"
    );
    bed.host("h2").connect();
    says(&bed, "not yet: h3 (away)").await;
    let request = v1::HostRequest {
        host: "h3".to_owned(),
        force: true,
        ..v1::HostRequest::default()
    };
    bed.api().await.remove_host(request).await.expect("removed");
    says(&bed, "next: cutover-coordinator ca switch").await;
    // What a host holds is remembered while it is away.
    bed.host("h2").cut().await;
    killed_and_started(&mut bed).await;
    says(&bed, "2 of 2 believe the next CA").await;

    let said = step(&bed, &["switch"], None);
    assert!(
        said.contains("cutover-coordinator operator admin"),
        "{said}"
    );
    step(&bed, &["end"], Some("has not taken the step before"));
    killed_and_started(&mut bed).await;
    says(
        &bed,
        "1 of 2 have a certificate of the next CA; not yet: h2 (away)",
    )
    .await;
    step(&bed, &["end"], Some("h2 (away)"));
    bed.host("h2").connect();
    says(&bed, "2 of 2 have a certificate of the next CA").await;
    step(&bed, &["end"], Some("cutover-coordinator operator admin"));
    let context = bed.scratch.join("context");
    let renewed = run(
        &bed,
        &[
            "operator",
            "admin",
            "--context-dir",
            &context.to_string_lossy(),
        ],
    );
    assert!(renewed.status.success(), "{renewed:?}");
    bed.connected(2).await; // as the operator that was renewed

    bed.coordinator.signal(Signal::SIGKILL);
    until("it to be dead", async || bed.coordinator.ended()).await;
    step(&bed, &["end"], Some("start it, or use --force"));
    bed.coordinator.start_again();
    says(&bed, "next: cutover-coordinator ca end").await;
    step(&bed, &["end"], None);
    killed_and_started(&mut bed).await;
    says(&bed, "2 of 2 have its certificate and believe no other").await;
    let shown = bed.deploy(spec("shop/web", "1")).await;
    assert_eq!(shown.outcome(), v1::Outcome::Committed, "{shown:?}");
    bed.assert_sound();
}

#[test]
fn what_root_changes_in_the_folder_of_the_services_user_is_that_users() {
    if !root_or_skip("what_root_changes_in_the_folder_of_the_services_user_is_that_users") {
        return;
    }
    const NOBODY: u32 = 65_534;
    let bed = Bed::empty();
    let pki = bed.scratch.join("state/pki");
    let files = || {
        let entries = std::fs::read_dir(&pki).expect("readable");
        let paths = entries.map(|entry| entry.expect("readable").path());
        paths.collect::<Vec<_>>()
    };
    let give = |path: &Path| chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    give(&bed.scratch.join("state"));
    give(&pki);
    files().iter().for_each(|path| give(path));
    let context = bed.scratch.join("context");
    let steps: [&[&str]; 4] = [
        &["ca", "begin"],
        &["ca", "switch", "--force"],
        &[
            "operator",
            "admin",
            "--context-dir",
            &context.to_string_lossy(),
        ],
        &["ca", "end", "--force"],
    ];
    for arguments in steps {
        let ran = run(&bed, arguments);
        assert!(ran.status.success(), "{arguments:?}: {ran:?}");
        for path in files() {
            let metadata = path.metadata().expect("readable");
            assert_eq!(metadata.uid(), NOBODY, "{}", path.display());
            let secret = path.extension().is_some_and(|end| end == "key");
            let expected = if secret { 0o600 } else { 0o644 };
            assert_eq!(metadata.mode() & 0o777, expected, "{}", path.display());
        }
    }

    // A link that this user has put there leads root no further than the user may go.
    let (secret, record) = (bed.scratch.join("secret"), pki.join("operators"));
    std::fs::write(&secret, "root's").expect("writable");
    let alone = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&secret, alone).expect("ours");
    std::fs::remove_file(&record).expect("it was there");
    symlink(&secret, &record).expect("root may");
    let ran = run(&bed, steps[2]);
    assert!(!ran.status.success(), "{ran:?}");
    let link = std::fs::symlink_metadata(&record).expect("there");
    assert!(link.is_symlink(), "nothing was made of what it leads to");
    assert_eq!(std::fs::read_to_string(&secret).expect("ours"), "root's");
    assert_eq!(secret.metadata().expect("there").uid(), 0);
}
