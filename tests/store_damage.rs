//! A store whose files are damaged never brings the process down: it opens whole,
//! or is made anew from its snapshot and says so, or is refused with a message.
//! At least what the snapshot held is back.
#![allow(clippy::print_stderr)] // what was counted is worth reading

#[path = "store_rig.rs"]
mod rig;

use std::fs;
use std::path::Path;

use cutover_coordinator::store::{Batch, Key, Store, Table};
use rig::options;

const SNAPSHOT: u64 = 400;
const ALL: u64 = 440;

fn text(number: u64) -> String {
    format!("{number:05}").repeat(if number.is_multiple_of(20) { 3000 } else { 150 })
}

fn prepare(state: &Path) {
    let store = Store::open(state, &options()).expect("opens").store;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    for number in 0..ALL {
        if number == SNAPSHOT {
            runtime.block_on(store.snapshot()).expect("a snapshot");
        }
        let batch = Batch::new()
            .put(Table::Facts, Key::at(number), &text(number))
            .put(Table::Desks, Key::of("hot"), &number.to_string());
        store.write_blocking(batch).expect("writes");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("reads");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

type Damage = (String, Box<dyn Fn(&Path)>);

fn cut(length: u64) -> Damage {
    let act = move |store: &Path| {
        let db = fs::File::options()
            .write(true)
            .open(store.join("db"))
            .expect("opens");
        db.set_len(length).expect("cuts");
    };
    (format!("db cut to {length}"), Box::new(act))
}

fn flip(file: &'static str, at: usize, length: usize) -> Damage {
    let act = move |store: &Path| {
        let mut bytes = fs::read(store.join(file)).expect("reads");
        bytes
            .iter_mut()
            .skip(at)
            .take(length)
            .for_each(|byte| *byte ^= 0x5A);
        fs::write(store.join(file), bytes).expect("writes");
    };
    (
        format!("{length} bytes of {file} flipped at {at}"),
        Box::new(act),
    )
}

fn zero(at: usize, length: usize) -> Damage {
    let act = move |store: &Path| {
        let mut bytes = fs::read(store.join("db")).expect("reads");
        bytes
            .iter_mut()
            .skip(at)
            .take(length)
            .for_each(|byte| *byte = 0);
        fs::write(store.join("db"), bytes).expect("writes");
    };
    (
        format!("{length} bytes of db zeroed at {at}"),
        Box::new(act),
    )
}

fn delete(prefix: &'static str) -> Damage {
    let act = move |store: &Path| {
        for entry in fs::read_dir(store).expect("lists") {
            let path = entry.expect("reads").path();
            if path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(prefix))
            {
                if path.is_dir() {
                    fs::remove_dir_all(path).expect("removes");
                } else {
                    fs::remove_file(path).expect("removes");
                }
            }
        }
    };
    (format!("{prefix}* deleted"), Box::new(act))
}

#[test]
fn p5_a_damaged_store_opens_anew_from_its_snapshot_and_never_panics() {
    let base = tempfile::tempdir().expect("a directory");
    let pristine = base.path().join("pristine");
    prepare(&pristine);
    let size = fs::metadata(pristine.join("store/db"))
        .expect("is there")
        .len();
    let conf = usize::try_from(
        fs::metadata(pristine.join("store/conf"))
            .expect("is there")
            .len(),
    )
    .expect("small");

    let mut damages = vec![
        delete("db"),
        delete("conf"),
        delete("blobs"),
        delete("snap"),
        delete(""),
    ];
    damages.extend(
        [
            0,
            1,
            100,
            size / 4,
            size / 2,
            size - 512 * 1024,
            size - 100,
            size - 1,
        ]
        .map(cut),
    );
    damages.extend((0..conf).step_by(3).map(|at| flip("conf", at, 1)));
    let size = usize::try_from(size).expect("small");
    damages.extend((0..40).map(|n| flip("db", n * size / 40 + n * 7, 1)));
    damages.extend((0..12).map(|n| flip("db", n * size / 12 + 13, 4096)));
    damages.extend((0..12).map(|n| zero(n * size / 12, 16 * 1024)));

    let (mut whole, mut anew, mut reasons) = (0, 0, std::collections::BTreeSet::new());
    for (number, (what, damage)) in damages.iter().enumerate() {
        let state = base.path().join(number.to_string());
        copy(&pristine, &state);
        damage(&state.join("store"));
        let opened = match Store::open(&state, &options()) {
            Ok(opened) => opened,
            Err(error) => panic!("{what}: {error}: {:?}", std::error::Error::source(&error)),
        };
        for number in 0..SNAPSHOT {
            let found: Option<String> = opened
                .store
                .read(Table::Facts, &Key::at(number))
                .expect("reads");
            assert_eq!(found, Some(text(number)), "{what}: record {number}");
        }
        let rest = (SNAPSHOT..ALL).filter(|number| {
            let found: Option<String> = opened
                .store
                .read(Table::Facts, &Key::at(*number))
                .expect("reads");
            found.is_some()
        });
        match opened.recovery {
            Some(recovery) => {
                assert!(
                    Path::new(&recovery.set_aside).exists(),
                    "{what}: nothing is deleted"
                );
                assert_eq!(opened.store.epoch(), 2, "{what}");
                anew += 1;
                reasons.insert(recovery.reason);
            }
            None if rest.count() as u64 == ALL - SNAPSHOT => whole += 1,
            None => panic!("{what}: commits after the snapshot are gone, and nothing is said"),
        }
        opened
            .store
            .write_blocking(Batch::new().event(&what.clone()))
            .expect("goes on");
        drop(opened.store);
        fs::remove_dir_all(&state).expect("removes");
    }
    let all = damages.len();
    eprintln!("{all} damages: {whole} harmless, {anew} made anew");
    for reason in reasons {
        eprintln!("  {reason}");
    }
    assert!(anew > 0);
}
