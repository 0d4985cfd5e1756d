//! Who may open a store, and in which state it is then.

use super::*;

#[test]
fn what_was_written_is_there_after_reopening() {
    let state = state();
    let first = open(&state.path().join("a/b"));
    assert!(first.created && first.recovery.is_none());
    let id = first.store.id().to_owned();
    write(&first.store, "h1", "one");
    assert_eq!(host(&first.store, "h1").as_deref(), Some("one"));
    drop(first);
    let again = open(&state.path().join("a/b"));
    assert!(!again.created && again.recovery.is_none());
    assert_eq!(host(&again.store, "h1").as_deref(), Some("one"));
    assert_eq!((again.store.epoch(), again.store.id()), (1, id.as_str()));
}

#[test]
fn what_the_store_makes_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let state = state();
    let dir = state.path().join("cutover");
    let Opened { store, .. } = open(&dir);
    let snapshot = snapshot(&store);
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    for made in [&dir, &dir.join("store"), &dir.join("snapshots")] {
        assert_eq!(mode(made), 0o700, "{}", made.display());
    }
    for made in [&dir.join("epoch"), &dir.join("store.lock"), &snapshot] {
        assert_eq!(mode(made), 0o600, "{}", made.display());
    }
}

#[test]
fn a_second_coordinator_is_refused_and_told_who_is_first() {
    let state = state();
    let _first = open(state.path());
    let error = Store::open(state.path(), &options()).expect_err("in use");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&format!("pid {}", std::process::id())),
        "{error}"
    );
}

#[test]
fn a_raised_epoch_outlives_the_database() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    write(&store, "h1", "one");
    let taken = snapshot(&store);
    assert_eq!(runtime().block_on(store.raise_epoch(0)).expect("raises"), 2);
    assert_eq!(runtime().block_on(store.raise_epoch(7)).expect("raises"), 7);
    drop(store);
    assert_eq!(open(state.path()).store.epoch(), 7);
    fs::remove_dir_all(state.path().join("store")).expect("removes");
    let Opened {
        store, recovery, ..
    } = open(state.path());
    let recovery = recovery.expect("made anew");
    assert_eq!(
        (store.epoch(), recovery.epoch),
        (8, 8),
        "the snapshot knew of 1, the mark of 7"
    );
    assert_eq!(recovery.recovered_from, taken.display().to_string());
    assert_eq!(host(&store, "h1").as_deref(), Some("one"));
}

#[test]
fn a_raise_cut_short_between_file_and_database_is_finished_on_opening() {
    let state = state();
    drop(open(state.path()));
    mark::EpochMark::of(state.path()).write(5).expect("writes");
    assert_eq!(open(state.path()).store.epoch(), 5);
    fs::write(state.path().join("epoch"), "garbage").expect("writes");
    assert_eq!(
        open(state.path()).store.epoch(),
        5,
        "the database knows it, too"
    );
}

#[test]
fn a_store_of_a_later_schema_is_refused_and_left_as_it_is() {
    let state = state();
    let later = Layouts {
        current: 7,
        migrations: &[],
    };
    drop(Store::open_layouts(state.path(), &options(), later).expect("opens"));
    let error = Store::open(state.path(), &options()).expect_err("too new");
    let text = error.to_string();
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 7,
                known: 1,
                ..
            }
        ),
        "{text}"
    );
    assert!(
        text.contains("schema 7") && text.contains("up to 1") && text.contains("restore"),
        "{text}"
    );
    Store::open_layouts(state.path(), &options(), later).expect("as it was");
}

#[test]
fn a_store_of_an_older_schema_is_migrated_once_after_a_snapshot() {
    fn uppercase(records: &[Record]) -> Changes {
        let hosts = records
            .iter()
            .filter(|(key, _)| key[0] == Table::Hosts as u8);
        hosts
            .map(|(key, value)| {
                let text = value::decode::<String>(value).expect("a text");
                (key.clone(), Some(value::encode(&text.to_uppercase())))
            })
            .collect()
    }
    const OLD: Layouts = Layouts {
        current: 0,
        migrations: &[],
    };
    const NEW: Layouts = Layouts {
        current: 1,
        migrations: &[Migration {
            from: 0,
            what: "hosts in capitals",
            plan: uppercase,
        }],
    };

    let state = state();
    let Opened { store, .. } = Store::open_layouts(state.path(), &options(), OLD).expect("opens");
    write(&store, "h1", "one");
    drop(store);
    let error = Store::open(state.path(), &options()).expect_err("no way from 0");
    assert!(
        matches!(
            error,
            OpenError::Older {
                found: 0,
                known: 1,
                ..
            }
        ),
        "{error}"
    );

    let Opened {
        store,
        migrated_from,
        ..
    } = Store::open_layouts(state.path(), &options(), NEW).expect("migrates");
    assert_eq!(
        (migrated_from, hosts(&store)),
        (Some(0), vec!["h1=ONE".to_owned()])
    );
    let Schema { version } = store
        .read(Table::Meta, &meta::schema())
        .expect("reads")
        .expect("is there");
    assert_eq!(version, 1);
    drop(store);
    let Newest { good, .. } = Shelf::of(state.path()).newest_good().expect("reads");
    assert_eq!(good.expect("taken before the migration").1.header.schema, 0);
    let again = open(state.path());
    assert_eq!(
        (again.migrated_from, hosts(&again.store)),
        (None, vec!["h1=ONE".to_owned()])
    );
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    let state = state();
    fs::create_dir(state.path().join("store")).expect("makes");
    fs::write(state.path().join("store/db"), [9; 100]).expect("writes");
    fs::write(
        state.path().join("store/conf"),
        "what is this, a configuration?",
    )
    .expect("writes");
    let opened = open(state.path());
    assert!(opened.created && opened.recovery.is_none());
    write(&opened.store, "h1", "one");
}
