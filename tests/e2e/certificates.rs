//! Who is not believed gets nothing, and is told so.

use std::process::Command;

use cutover_tests::fleet::Fleet;
use cutover_tests::process::built;
use cutover_tests::root_or_skip;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_of_another_ca_is_refused_and_the_exit_code_is_5() {
    if !root_or_skip("an_operator_of_another_ca_is_refused_and_the_exit_code_is_5") {
        return;
    }
    let fleet = Fleet::start(0).await;
    // Another coordinator's operator, with the CA that this one is believed by.
    let (state, context) = (
        fleet.path().join("other"),
        fleet.path().join("other-config/cutover"),
    );
    let made = Command::new(built("cutover-coordinator"))
        .args(["init", "--address", "127.0.0.1", "--state-dir"])
        .arg(&state)
        .arg("--context-dir")
        .arg(&context)
        .output()
        .expect("the coordinator's program starts");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let find = |name: &str| {
        let files = std::fs::read_dir(&context)
            .expect("init wrote it")
            .filter_map(Result::ok);
        let path = files
            .map(|file| file.path())
            .find(|path| path.to_string_lossy().ends_with(name));
        path.unwrap_or_else(|| panic!("no {name} in {}", context.display()))
    };
    let output = fleet
        .cutover(&["status", "-o", "json"])
        .env("CUTOVER_CERT", find("default.pem"))
        .env("CUTOVER_KEY", find("default.key"))
        .output()
        .expect("the cutover program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("certificate_refused"), "{said}");
}
