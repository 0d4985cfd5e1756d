//! A process that is killed at any instant loses nothing that it acknowledged
//! (P3, P5): not while opening, not while writing, not amid a snapshot.
#![allow(clippy::print_stderr)] // what was counted is worth reading

#[path = "store_rig.rs"]
mod rig;

use std::fs;
use std::path::Path;
use std::time::Duration;

use cutover_coordinator::store::Store;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::{Writer, linger, lost, options};

const RUNS: u64 = 50;

#[test]
fn p5_fifty_times_killed_nothing_acknowledged_is_lost() {
    let state = tempfile::tempdir().expect("a directory");
    let mut all = Vec::new();
    let mut busy = 0;
    for run in 0..RUNS {
        let writer = Writer::start(state.path(), &format!("r{run}"), &["snapshots"]);
        // Every fifth is killed while it starts.
        if run % 5 == 4 {
            linger(Duration::from_millis(run));
        } else {
            writer.wait_acked();
            linger(Duration::from_millis(20 + run * 37 % 280));
        }
        let acked = writer.kill();
        busy += u32::from(!acked.is_empty());
        let opened = Store::open(state.path(), &options()).expect("opens");
        assert_eq!(opened.recovery, None, "run {run}: a kill is no damage");
        assert_eq!(
            lost(&opened.store, &acked),
            Vec::<String>::new(),
            "run {run}"
        );
        all.extend(acked);
    }
    let opened = Store::open(state.path(), &options()).expect("opens");
    assert_eq!(
        lost(&opened.store, &all),
        Vec::<String>::new(),
        "in the end"
    );
    assert!(busy >= 30, "only {busy} runs wrote anything");
    eprintln!(
        "killed {RUNS} times, {busy} while writing; {} acknowledged, none lost",
        all.len()
    );
}

/// Broke once: the probe went on without its coordinator, and kept the next one out.
#[test]
fn p5_a_coordinator_killed_while_it_looks_at_its_store_leaves_nobody_in_the_way() {
    let state = tempfile::tempdir().expect("a directory");
    let writer = Writer::start(state.path(), "before", &[]);
    writer.wait_ready();
    linger(Duration::from_millis(300));
    let mut acked = writer.kill();
    let mut caught = 0;
    for run in 0..40 {
        let writer = Writer::start(state.path(), &format!("r{run}"), &[]);
        if let Some(probe) = catch_probe(state.path(), &writer) {
            caught += 1;
            acked.extend(writer.kill());
            Store::open(state.path(), &options()).expect("opens");
            // It is gone, or it was caught before it had done anything.
            let _ = kill(probe, Signal::SIGKILL);
        } else {
            acked.extend(writer.kill());
        }
        if caught == 3 {
            break;
        }
    }
    assert!(caught > 0, "no probe was ever caught at work");
    let opened = Store::open(state.path(), &options()).expect("opens");
    assert_eq!(lost(&opened.store, &acked), Vec::<String>::new());
}

/// Stops the probe of this store as soon as it has the database's file open, unless it is done by then.
fn catch_probe(state: &Path, writer: &Writer) -> Option<Pid> {
    let db = state.join("store/db");
    while !writer.is_ready() {
        for process in fs::read_dir("/proc").expect("lists").flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let is_probe = command
                .split(|byte| *byte == 0)
                .any(|word| word == b"store-probe");
            let files = fs::read_dir(process.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            if is_probe
                && files
                    .map(|file| fs::read_link(file.path()))
                    .any(|file| file.is_ok_and(|file| file == db))
            {
                let pid = Pid::from_raw(process.file_name().to_str()?.parse().ok()?);
                return kill(pid, Signal::SIGSTOP).is_ok().then_some(pid);
            }
        }
    }
    None
}
