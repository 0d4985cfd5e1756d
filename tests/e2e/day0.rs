//! Day 0: from installed programs to a host that is ready, in one command or two, and again.

use cutover_tests::machine::{Machine, NAME};
use cutover_tests::{root_or_skip, wait};
use std::time::Duration;

/// For a host to be connected once its agent was started.
const SOON: Duration = Duration::from_secs(30);

fn ok(machine: &Machine, line: &str) -> String {
    let (code, said) = machine.says(line);
    assert_eq!(code, 0, "{line}\n{said}");
    said
}

#[test]
fn one_command_makes_a_machine_coordinator_and_host_and_again_changes_nothing() {
    if !root_or_skip("one_command_makes_a_machine_coordinator_and_host_and_again_changes_nothing") {
        return;
    }
    let machine = Machine::boot();
    let said = ok(&machine, "cutover-coordinator init --local");
    println!("{said}");
    for words in [
        "CA and certificate for 127.0.0.1",
        "cutover-coordinator is started",
        "enrolled as one",
        "cutover-agent is started",
        "the host one is ready",
        "next: cutover deploy -f compose.yaml",
    ] {
        assert!(said.contains(words), "nothing says {words:?}: {said}");
    }
    let hosts = ok(&machine, "cutover host ls");
    assert!(hosts.contains(NAME) && hosts.contains("ready"), "{hosts}");

    let all = "find /etc/cutover /var/lib/cutover-* ! -path '*/store*' ! -path '*/snapshots*' -type f -exec sha256sum {} + | sort; \
               find \"$HOME\" -type f -exec sha256sum {} + | sort";
    let before = ok(&machine, all);
    let again = ok(&machine, "cutover-coordinator init --local");
    println!("{again}");
    assert!(again.contains("unchanged"), "{again}");
    assert!(
        !again.contains("started") && !again.contains("CA and"),
        "{again}"
    );
    assert_eq!(ok(&machine, all), before);

    // What a second run finds stopped it starts; the rest stays.
    ok(
        &machine,
        "systemctl stop cutover-agent && systemctl stop cutover-coordinator",
    );
    let third = ok(&machine, "cutover-coordinator init --local");
    println!("{third}");
    for words in [
        "cutover-coordinator is started",
        "unchanged",
        "the host one is ready",
    ] {
        assert!(third.contains(words), "nothing says {words:?}: {third}");
    }
    assert!(!third.contains("CA and"), "{third}");
    // Another operator, and the same one anew, get a context of their own.
    let made = ok(
        &machine,
        "cutover-coordinator operator ci --context-dir \"$HOME/ci/cutover\"",
    );
    assert!(made.contains("operator ci, for 90 days"), "{made}");
    ok(&machine, "XDG_CONFIG_HOME=\"$HOME/ci\" cutover status");
    ok(
        &machine,
        "cutover-coordinator operator admin && cutover status",
    );
    let again = ok(&machine, "cutover-coordinator init --local");
    assert!(again.contains("unchanged"), "{again}");
    // A lost context is made anew, for the same operator.
    ok(&machine, "rm -r \"$HOME/.config\"");
    let fourth = ok(&machine, "cutover-coordinator init --local");
    assert!(fourth.contains("operator admin, context"), "{fourth}");
    ok(&machine, "cutover status");
}

#[test]
fn a_run_that_stopped_half_way_says_what_to_read_and_the_next_one_goes_on() {
    if !root_or_skip("a_run_that_stopped_half_way_says_what_to_read_and_the_next_one_goes_on") {
        return;
    }
    let machine = Machine::boot();
    let mark = |name: &str| machine.path().join(name);
    // Nothing is made where something is missing.
    std::fs::write(mark("absent-cutover-agent"), "").expect("written");
    let (code, said) = machine.says("cutover-coordinator init --local");
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("apt-get install --reinstall cutover-agent"),
        "{said}"
    );
    assert_ne!(machine.says("test -e /var/lib/cutover-coordinator").0, 0);
    std::fs::remove_file(mark("absent-cutover-agent")).expect("it was there");

    for unit in ["cutover-coordinator", "cutover-agent"] {
        let broken = mark(&format!("broken-{unit}"));
        std::fs::write(&broken, "").expect("written");
        let (code, said) = machine.says("cutover-coordinator init --local");
        println!("{said}");
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("journalctl -u {unit}")), "{said}");
        std::fs::remove_file(broken).expect("it was there");
    }
    let said = ok(&machine, "cutover-coordinator init --local");
    assert!(said.contains("the host one is ready"), "{said}");
    assert!(!said.contains("CA and"), "{said}");
}

#[tokio::test]
async fn by_hand_init_and_enroll_start_their_units_unless_told_not_to() {
    if !root_or_skip("by_hand_init_and_enroll_start_their_units_unless_told_not_to") {
        return;
    }
    let machine = Machine::boot();
    let said = ok(&machine, "cutover-coordinator init --address 127.0.0.1");
    assert!(said.contains("cutover-coordinator is started"), "{said}");
    wait::until(SOON, "the coordinator to answer", || {
        let (code, _) = machine.says("cutover status");
        async move { code == 0 }
    })
    .await;
    ok(&machine, "cutover host token --uses 9 >/run/token");
    let enroll = "cutover-agent enroll --coordinator 127.0.0.1:7444 --token-file";
    let said = ok(&machine, &format!("{enroll} /run/token --no-start"));
    assert!(
        said.contains("enrolled as one\nstart it with: systemctl"),
        "{said}"
    );
    let asked = || std::fs::read_to_string(machine.path().join("asked")).unwrap_or_default();
    assert!(!asked().contains("start cutover-agent"), "{}", asked());
    // The second time changes nothing but that it runs now.
    let said = ok(&machine, &format!("{enroll} - </run/token"));
    assert!(
        said.contains("already enrolled as one; unchanged"),
        "{said}"
    );
    assert!(said.contains("cutover-agent is started"), "{said}");
    ok(&machine, "cutover host wait one --for ready --timeout 30s");
    let said = ok(&machine, &format!("{enroll} /run/token"));
    assert_eq!(said, "already enrolled as one; unchanged\n");

    // Another configuration is not the unit's: it is left to whoever made it.
    let other =
        "cutover-coordinator init --address 127.0.0.9 --state-dir /run/other --context other";
    let said = ok(&machine, other);
    assert!(said.contains("next: systemctl enable --now"), "{said}");
}

#[test]
fn what_root_makes_in_the_home_of_who_called_sudo_is_theirs() {
    if !root_or_skip("what_root_makes_in_the_home_of_who_called_sudo_is_theirs") {
        return;
    }
    let machine = Machine::boot();
    let line = "mkdir -p \"$HOME/op\" && echo \"op:x:4321:4321::$HOME/op:/bin/sh\" >>/etc/passwd && chown 4321:4321 \"$HOME/op\" && \
                SUDO_USER=op cutover-coordinator init --local";
    let said = ok(&machine, line);
    assert!(said.contains("/op/.config/cutover/context.toml"), "{said}");
    let others = ok(&machine, "find \"$HOME/op\" ! -user 4321");
    assert_eq!(others, "", "not theirs");
    let open = ok(&machine, "find \"$HOME/op\" -name '*.key' ! -perm 600");
    assert_eq!(open, "", "open to others");
}
