//! The store as its users see it, on real files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::batch::meta;
use super::engine::{Changes, Record};
use super::schema::Migration;
use super::shelf::Newest;
use super::value::Schema;
use super::*;

mod opening;
mod records;
mod recovery;

fn options() -> Options {
    Options::new(Probe::Here)
}

fn open(state: &Path) -> Opened {
    Store::open(state, &options()).expect("opens")
}

fn state() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn put(key: &str, text: &str) -> Batch {
    Batch::new().put(Table::Hosts, Key::of(key), &text.to_owned())
}

fn write(store: &Store, key: &str, text: &str) {
    store.write_blocking(put(key, text)).expect("writes");
}

fn host(store: &Store, key: &str) -> Option<String> {
    store.read(Table::Hosts, &Key::of(key)).expect("reads")
}

fn hosts(store: &Store) -> Vec<String> {
    let all = store
        .scan::<String>(Table::Hosts, &Key::all(), None, 100)
        .expect("reads");
    all.into_iter()
        .map(|(key, text)| format!("{}={text}", key.parts().text().expect("a text")))
        .collect()
}

fn snapshot(store: &Store) -> PathBuf {
    runtime().block_on(store.snapshot()).expect("a snapshot")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}
