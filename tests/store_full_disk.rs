//! A full disk is said clearly, takes nothing back that was acknowledged, and is
//! over when there is room again. Needs root, for a file system of two megabytes.
#![allow(clippy::print_stderr)] // what was counted is worth reading

#[path = "store_rig.rs"]
mod rig;

use std::path::Path;
use std::process::{Command, Stdio};

use cutover_coordinator::store::{Batch, Key, Store, Table, WriteError};
use rig::options;

struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let option = format!("size={size}");
        run(
            "mount",
            &["-t", "tmpfs", "-o", &option, "tmpfs", path(dir.path())],
        )
        .then_some(Self(dir))
    }

    fn resize(&self, size: &str) {
        let option = format!("remount,size={size}");
        assert!(
            run("mount", &["-o", &option, path(self.0.path())]),
            "is remounted"
        );
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &["-l", path(self.0.path())]);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn run(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn put(number: u64) -> Batch {
    Batch::new().put(Table::Facts, Key::at(number), &text(number))
}

fn text(number: u64) -> String {
    format!("{number:06}").repeat(500)
}

/// Writes until it is refused.
fn fill(store: &Store) -> (u64, WriteError) {
    for number in 0..100_000 {
        if let Err(error) = store.write_blocking(put(number)) {
            return (number, error);
        }
    }
    panic!("the disk never got full");
}

fn assert_holds(store: &Store, count: u64) {
    for number in 0..count {
        let found: Option<String> = store.read(Table::Facts, &Key::at(number)).expect("reads");
        assert_eq!(found, Some(text(number)), "record {number} of {count}");
    }
}

#[test]
fn a_disk_that_fills_up_stops_the_store_and_what_was_acknowledged_stays() {
    let Some(disk) = Tmpfs::mount("4m") else {
        return cutover_tests::skipped(
            "a_disk_that_fills_up_stops_the_store_and_what_was_acknowledged_stays",
            "it needs root, to mount a tmpfs",
        );
    };
    let state = disk.0.path().join("state");
    let store = Store::open(&state, &options()).expect("opens").store;
    let (count, error) = fill(&store);
    eprintln!(
        "after {count} records: {error}: {:?}",
        std::error::Error::source(&error).map(ToString::to_string)
    );
    assert!(matches!(error, WriteError::Stopped { .. }), "{error}");
    let again = store.write_blocking(put(0)).expect_err("stays stopped");
    assert!(matches!(again, WriteError::Stopped { .. }), "{again}");
    for number in 0..count {
        // The database may refuse to read after an error; it may not say anything else.
        if let Ok(found) = store.read::<String>(Table::Facts, &Key::at(number)) {
            assert_eq!(found, Some(text(number)));
        }
    }
    if let Ok(found) = store.read::<String>(Table::Facts, &Key::at(count)) {
        assert_eq!(found, None, "what was not acknowledged is not shown");
    }
    drop(store);

    match Store::open(&state, &options()) {
        Ok(opened) => {
            assert_eq!(opened.recovery, None);
            assert_holds(&opened.store, count);
        }
        Err(error) => eprintln!("while the disk is full: {error}"),
    }
    disk.resize("16m");
    let opened = Store::open(&state, &options()).expect("opens when there is room");
    assert_eq!(opened.recovery, None, "a full disk is no damage");
    assert_holds(&opened.store, count);
    opened
        .store
        .write_blocking(put(count))
        .expect("writes again");
}

#[test]
fn a_disk_that_is_nearly_full_refuses_and_is_forgiven_without_a_restart() {
    let Some(disk) = Tmpfs::mount("2m") else {
        return cutover_tests::skipped(
            "a_disk_that_is_nearly_full_refuses_and_is_forgiven_without_a_restart",
            "it needs root, to mount a tmpfs",
        );
    };
    let mut with_reserve = options();
    with_reserve.reserve = 600 << 10;
    let store = Store::open(&disk.0.path().join("state"), &with_reserve)
        .expect("opens")
        .store;
    let (count, error) = fill(&store);
    eprintln!("after {count} records: {error}");
    assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
    assert_holds(&store, count);
    disk.resize("16m");
    store.write_blocking(put(count)).expect("there is room");
    assert_holds(&store, count + 1);
}
