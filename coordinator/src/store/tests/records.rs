//! What is written is what is read.

use super::*;

#[test]
fn a_batch_with_an_unmet_expectation_changes_nothing() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    write(&store, "h1", "one");
    let counter = Key::of("revision").text("shop/web");
    let refused = [
        put("h2", "x").expect_absent(Table::Hosts, Key::of("h1")),
        put("h2", "x").expect_equal(Table::Hosts, Key::of("h1"), &"two".to_owned()),
        put("h2", "x").expect_equal(Table::Hosts, Key::of("h9"), &"one".to_owned()),
        put("h2", "x").expect_counter(&counter, 1),
    ];
    for batch in refused {
        let error = store.write_blocking(batch).expect_err("not met");
        assert!(matches!(error, WriteError::Conflict { .. }), "{error}");
    }
    assert_eq!(hosts(&store), ["h1=one"]);
    let met = put("h2", "two")
        .expect_absent(Table::Hosts, Key::of("h2"))
        .expect_equal(Table::Hosts, Key::of("h1"), &"one".to_owned())
        .expect_counter(&counter, 0)
        .raise_counter(counter.clone(), 1);
    store.write_blocking(met).expect("met");
    store
        .write_blocking(
            Batch::new()
                .expect_counter(&counter, 1)
                .remove(Table::Hosts, Key::of("h1")),
        )
        .expect("met");
    assert_eq!(hosts(&store), ["h2=two"]);
}

#[test]
fn batches_of_one_group_see_each_other_in_turn() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    let claim = || put("h1", "mine").expect_absent(Table::Hosts, Key::of("h1"));
    let outcomes = runtime().block_on(futures::future::join_all(
        (0..50).map(|_| store.write(claim())),
    ));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let sequences: BTreeSet<u64> = runtime()
        .block_on(futures::future::join_all(
            (0..50).map(|n| store.write(put(&format!("n{n}"), "x"))),
        ))
        .into_iter()
        .map(|done| done.expect("writes").sequence)
        .collect();
    assert_eq!(sequences.len(), 50, "each commit has its number");
}

#[test]
fn callers_cannot_write_what_is_the_stores_own_or_too_large() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    let text = String::new();
    let forbidden = [
        Batch::new().put(Table::Meta, Key::of("schema"), &text),
        Batch::new().put(Table::Events, Key::at(1), &text),
        Batch::new().remove(Table::Meta, Key::of("epoch")),
        Batch::new().remove_all(Table::Events, Key::all()),
    ];
    for batch in forbidden {
        let error = store
            .write_blocking(put("h1", "x"))
            .and(store.write_blocking(batch));
        let error = error.expect_err("the store's own");
        assert!(matches!(error, WriteError::Reserved { .. }), "{error}");
    }
    let error = store
        .write_blocking(put("h1", &"x".repeat(MAX_RECORD)))
        .expect_err("too large");
    assert!(matches!(error, WriteError::TooLarge { .. }), "{error}");
    let most = "x".repeat(MAX_RECORD - 16);
    write(&store, "h1", &most);
    assert_eq!(host(&store, "h1"), Some(most));
}

#[test]
fn ranges_are_ordered_bounded_and_of_one_prefix() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    let mut batch = Batch::new();
    for service in ["shop/web", "shop/web2", "shop/a"] {
        for number in [1, 2, 9, 10, 300] {
            let key = Key::of(service).number(number);
            batch = batch.put(Table::Revisions, key, &format!("{service}@{number}"));
        }
    }
    store.write_blocking(batch).expect("writes");
    let web = Key::of("shop/web");
    let names = |found: Result<Vec<(Key, String)>, ReadError>| -> Vec<String> {
        found
            .expect("reads")
            .into_iter()
            .map(|(_, text)| text)
            .collect()
    };
    let all = [
        "shop/web@1",
        "shop/web@2",
        "shop/web@9",
        "shop/web@10",
        "shop/web@300",
    ];
    assert_eq!(names(store.scan(Table::Revisions, &web, None, 100)), all);
    assert_eq!(
        names(store.scan(Table::Revisions, &web, Some(&web.clone().number(3)), 2)),
        all[2..4]
    );
    assert_eq!(
        names(store.scan_back(Table::Revisions, &web, None, 2)),
        [all[4], all[3]]
    );
    assert_eq!(
        names(store.scan_back(Table::Revisions, &web, Some(&web.clone().number(8)), 9)),
        [all[1], all[0]]
    );
    store
        .write_blocking(Batch::new().remove_all(Table::Revisions, web.clone()))
        .expect("writes");
    assert!(names(store.scan(Table::Revisions, &web, None, 100)).is_empty());
    assert_eq!(
        names(store.scan(Table::Revisions, &Key::all(), None, 100)).len(),
        10
    );
}

#[test]
fn events_keep_their_order_and_their_number_stays_bounded() {
    let state = state();
    let small = Options {
        events_kept: 5,
        ..options()
    };
    for round in 0..3 {
        let Opened { store, .. } = Store::open(state.path(), &small).expect("opens");
        for n in 0..4 {
            let event = format!("{round}.{n}");
            store
                .write_blocking(Batch::new().event(&event).event(&event))
                .expect("writes");
        }
    }
    let Opened { store, .. } = Store::open(state.path(), &small).expect("opens");
    let kept = store
        .scan::<String>(Table::Events, &Key::all(), None, 100)
        .expect("reads");
    let kept: Vec<_> = kept
        .iter()
        .map(|(key, text)| (key.parts().number().expect("a number"), text.as_str()))
        .collect();
    assert_eq!(
        kept,
        [
            (20, "2.1"),
            (21, "2.2"),
            (22, "2.2"),
            (23, "2.3"),
            (24, "2.3")
        ]
    );
}

#[test]
fn after_a_failed_write_nothing_is_written_until_reopened_and_reading_goes_on() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    write(&store, "h1", "one");
    fs::create_dir(state.path().join("epoch.new")).expect("an obstacle");
    let error = runtime()
        .block_on(store.raise_epoch(0))
        .expect_err("cannot write the file");
    assert!(matches!(error, WriteError::Stopped { .. }), "{error}");
    let error = store.write_blocking(put("h2", "two")).expect_err("stopped");
    assert!(
        error.to_string().contains("restart the coordinator"),
        "{error}"
    );
    assert_eq!(hosts(&store), ["h1=one"]);
    snapshot(&store);
    drop(store);
    fs::remove_dir(state.path().join("epoch.new")).expect("removes");
    let Opened { store, .. } = open(state.path());
    write(&store, "h2", "two");
    assert_eq!(hosts(&store), ["h1=one", "h2=two"]);
}

#[test]
fn a_nearly_full_disk_refuses_and_is_forgiven() {
    let state = state();
    let Opened { store, .. } = open(state.path());
    write(&store, "h1", "one");
    drop(store);
    let all_of_it = Options {
        reserve: u64::MAX,
        ..options()
    };
    let Opened { store, .. } = Store::open(state.path(), &all_of_it).expect("opens");
    for _ in 0..2 {
        let error = store.write_blocking(put("h2", "two")).expect_err("no room");
        assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
    }
    assert_eq!(hosts(&store), ["h1=one"]);
}
