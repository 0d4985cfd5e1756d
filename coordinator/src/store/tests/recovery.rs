//! A store that is damaged, and what comes back.

use super::*;

#[test]
fn the_last_three_snapshots_are_kept_and_a_damaged_one_is_passed_over() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    let mut taken = Vec::new();
    for n in 0..5 {
        write(&store, "h1", &n.to_string());
        taken.push(snapshot(&store));
    }
    let kept = fs::read_dir(state.path().join("snapshots")).expect("lists");
    let kept: BTreeSet<PathBuf> = kept.map(|entry| entry.expect("reads").path()).collect();
    assert_eq!(kept, taken[2..].iter().cloned().collect());
    drop(store);
    fs::write(&taken[4], "damaged").expect("writes");
    fs::remove_file(state.path().join("store/db")).expect("removes");
    let Opened {
        store, recovery, ..
    } = open(state.path());
    assert_eq!(host(&store, "h1").as_deref(), Some("3"));
    assert_eq!(
        recovery.expect("made anew").recovered_from,
        taken[3].display().to_string()
    );
    // Snapshots of the new store are newer than all of the old one.
    assert!(snapshot(&store) > taken[4]);
}

#[test]
fn a_store_made_anew_gives_no_number_out_twice() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    let web = Key::of("revision").text("shop/web");
    store
        .write_blocking(
            Batch::new()
                .raise_counter(web.clone(), 7)
                .event(&"e".to_owned()),
        )
        .expect("writes");
    snapshot(&store);
    store
        .write_blocking(
            Batch::new()
                .raise_counter(web.clone(), 12)
                .event(&"e".to_owned()),
        )
        .expect("writes");
    drop(store);
    fs::remove_dir_all(state.path().join("store")).expect("removes");
    let Opened {
        store, recovery, ..
    } = open(state.path());
    assert!(recovery.is_some());
    assert_eq!(store.counter(&web).expect("reads"), 7 + COUNTER_GAP);
    store
        .write_blocking(Batch::new().event(&"e".to_owned()))
        .expect("writes");
    let (last, _) = &store
        .scan_back::<String>(Table::Events, &Key::all(), None, 1)
        .expect("reads")[0];
    assert_eq!(last.parts().number(), Some(1 + COUNTER_GAP + 1));
    drop(store);

    let told = open(state.path());
    assert!(told.recovery.is_some(), "until it was told");
    told.store
        .write_blocking(Batch::new().recovery_told())
        .expect("writes");
    drop(told);
    assert!(open(state.path()).recovery.is_none());
}

#[test]
fn a_store_that_fell_behind_its_snapshot_is_made_anew() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    write(&store, "h1", "old");
    drop(store);
    let copy = state.path().join("copy");
    fs::create_dir_all(copy.join("blobs")).expect("makes");
    for name in ["db", "conf"] {
        fs::copy(state.path().join("store").join(name), copy.join(name)).expect("copies");
    }
    let Opened { store, .. } = open(state.path());
    write(&store, "h1", "new");
    snapshot(&store);
    drop(store);
    fs::rename(state.path().join("store"), state.path().join("was")).expect("moves");
    fs::rename(copy, state.path().join("store")).expect("moves");
    let Opened {
        store, recovery, ..
    } = open(state.path());
    let reason = recovery.expect("made anew").reason;
    assert!(reason.contains("a snapshot tells of commit"), "{reason}");
    assert_eq!(host(&store, "h1").as_deref(), Some("new"));
}

#[test]
fn without_a_snapshot_a_damaged_store_is_refused_and_left_alone() {
    let state = state();
    drop(open(state.path()));
    let db = state.path().join("store/db");
    fs::remove_file(&db).expect("removes");
    let error = Store::open(state.path(), &options()).expect_err("damaged");
    let text = error.to_string();
    assert!(
        text.contains("there is no snapshot yet") && text.contains("restore FILE"),
        "{text}"
    );
    assert!(!state.path().join("store.damaged-1").exists());
}

#[test]
fn rebuilding_can_be_switched_off() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    snapshot(&store);
    drop(store);
    fs::remove_dir_all(state.path().join("store")).expect("removes");
    let error = Store::open(
        state.path(),
        &Options {
            rebuild: false,
            ..options()
        },
    )
    .expect_err("damaged");
    assert!(error.to_string().contains("switched off"), "{error}");
    assert!(open(state.path()).recovery.is_some());
}

#[test]
fn a_backup_restores_on_another_machine_in_a_higher_epoch() {
    let (here, there) = (state(), state());
    let Opened { store, .. } = open(here.path());
    write(&store, "h1", "one");
    let large = "x".repeat(100_000);
    write(&store, "h2", &large);
    let file = here.path().join("backup");
    let header = runtime().block_on(store.backup(&file)).expect("a backup");
    assert_eq!((header.epoch, header.store.as_str()), (1, store.id()));

    let other = open(there.path());
    write(&other.store, "h9", "stranger");
    assert!(matches!(
        Store::restore(there.path(), &file),
        Err(OpenError::Locked { .. })
    ));
    drop(other);
    let recovery = Store::restore(there.path(), &file).expect("restores");
    assert!(
        Path::new(&recovery.set_aside).exists(),
        "what was there is kept"
    );
    let Opened {
        store: restored,
        recovery,
        ..
    } = open(there.path());
    assert_eq!(recovery.expect("is told").reason, "restored by an operator");
    assert_eq!((restored.id(), restored.epoch()), (store.id(), 2));
    assert_eq!(
        hosts(&restored),
        ["h1=one".to_owned(), format!("h2={large}")]
    );

    fs::write(&file, "no backup").expect("writes");
    drop(restored);
    let error = Store::restore(there.path(), &file).expect_err("no backup");
    assert!(
        matches!(error, OpenError::Snapshot(SnapshotError::Damaged { .. })),
        "{error}"
    );
    assert_eq!(open(there.path()).store.epoch(), 2, "nothing was changed");
}

#[test]
fn a_store_that_quietly_lost_its_last_commits_goes_on_from_what_is_left() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    write(&store, "h1", "one");
    drop(store);
    mark::CommitMark::open(state.path())
        .expect("opens")
        .note(99)
        .expect("notes");
    let refused = Store::open(
        state.path(),
        &Options {
            rebuild: false,
            ..options()
        },
    );
    let text = refused.expect_err("behind").to_string();
    assert!(
        text.contains("ends at commit 2, and commit 99 was made"),
        "{text}"
    );
    let Opened {
        store, recovery, ..
    } = open(state.path());
    assert_eq!(
        recovery.expect("made anew").recovered_from,
        "what was left of it"
    );
    assert_eq!(
        (hosts(&store), store.epoch()),
        (vec!["h1=one".to_owned()], 2)
    );
    write(&store, "h2", "two");
    drop(store);
    assert_eq!(open(state.path()).store.epoch(), 2, "once");
}

#[test]
fn a_record_that_went_missing_inside_the_database_is_noticed() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    write(&store, "h1", "one");
    write(&store, "h2", "two");
    snapshot(&store);
    drop(store);
    let engine = engine::Engine::open(&state.path().join("store"), 1 << 20, true).expect("opens");
    let gone = Table::Hosts.full(&Key::of("h1"));
    engine
        .apply(&Changes::from([(gone, None)]))
        .expect("applies");
    engine.make_durable().expect("durable");
    drop(engine);
    let Opened {
        store, recovery, ..
    } = open(state.path());
    let reason = recovery.expect("made anew").reason;
    assert!(
        reason.contains("holds 4 records and should hold 5"),
        "{reason}"
    );
    assert_eq!(hosts(&store), ["h1=one", "h2=two"]);
}

#[test]
fn a_store_made_anew_comes_after_every_commit_that_is_known_of() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    let backup = snapshot(&store);
    drop(store);
    let far = state.path().join("snapshots/snapshot-00000000000000050000");
    fs::write(&far, "damaged").expect("writes");
    Store::restore(state.path(), &backup).expect("restores");
    let Opened { store, .. } = open(state.path());
    assert!(snapshot(&store) > far, "or it would be the first to go");
    drop(store);

    let noted = mark::CommitMark::open(state.path()).expect("opens");
    noted.note(99_999).expect("notes");
    Store::restore(state.path(), &backup).expect("restores");
    let Opened { recovery, .. } = open(state.path());
    let reason = recovery.expect("is told").reason;
    assert_eq!(reason, "restored by an operator", "nothing is missed anew");
}
