//! What shall become true together, and what must be true before.
//!
//! Keeps true: a batch is all or nothing. Its expectations are checked against
//! every batch that was accepted before it, durable yet or not.
//!
//! Does not know how it is carried out: that is the writer's.

use prost::Message;

use super::key::{Key, Table};
use super::value::{self, Number, Recovery};

/// One durable step: expectations, then changes in the order of the calls.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) expectations: Vec<Expectation>,
    pub(super) changes: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) struct Expectation {
    pub(super) table: Table,
    pub(super) key: Key,
    /// What must be there; none: nothing.
    pub(super) value: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Put {
        table: Table,
        key: Key,
        value: Vec<u8>,
    },
    Remove {
        table: Table,
        key: Key,
    },
    RemoveAll {
        table: Table,
        prefix: Key,
    },
    Event {
        value: Vec<u8>,
    },
    RaiseCounter {
        name: Key,
        to: u64,
    },
    RecoveryTold,
}

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps `message` under `key`, whatever was there.
    #[must_use]
    pub fn put<M: Message>(self, table: Table, key: Key, message: &M) -> Self {
        self.change(Change::Put {
            table,
            key,
            value: value::encode(message),
        })
    }

    /// Forgets what is under `key`, if anything is.
    #[must_use]
    pub fn remove(self, table: Table, key: Key) -> Self {
        self.change(Change::Remove { table, key })
    }

    /// Forgets everything whose key begins with `prefix`.
    #[must_use]
    pub fn remove_all(self, table: Table, prefix: Key) -> Self {
        self.change(Change::RemoveAll { table, prefix })
    }

    /// Appends to [`Table::Events`] under the next number, and forgets the oldest
    /// beyond the number that is kept.
    #[must_use]
    pub fn event<M: Message>(self, message: &M) -> Self {
        self.change(Change::Event {
            value: value::encode(message),
        })
    }

    /// Raises the counter `name`, such as `Key::of("revision").text("shop/web")`,
    /// to at least `to`. A counter never falls, and jumps ahead when the store is
    /// made anew from a snapshot.
    #[must_use]
    pub fn raise_counter(self, name: Key, to: u64) -> Self {
        self.change(Change::RaiseCounter { name, to })
    }

    /// The recovery was told to those concerned; it need not be told again.
    #[must_use]
    pub fn recovery_told(self) -> Self {
        self.change(Change::RecoveryTold)
    }

    /// Refuses the batch unless nothing is under `key`.
    #[must_use]
    pub fn expect_absent(mut self, table: Table, key: Key) -> Self {
        self.expectations.push(Expectation {
            table,
            key,
            value: None,
        });
        self
    }

    /// Refuses the batch unless just this `message` is under `key`. Bytes are
    /// compared: a message with a map field has no one way to be written.
    #[must_use]
    pub fn expect_equal<M: Message>(mut self, table: Table, key: Key, message: &M) -> Self {
        let value = Some(value::encode(message));
        self.expectations.push(Expectation { table, key, value });
        self
    }

    /// Refuses the batch unless the counter `name` stands at `value`.
    #[must_use]
    pub fn expect_counter(mut self, name: &Key, value: u64) -> Self {
        let value = (value > 0).then(|| value::encode(&Number { value }));
        let key = meta::counter(name);
        self.expectations.push(Expectation {
            table: Table::Meta,
            key,
            value,
        });
        self
    }

    fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }
}

/// The store's own records.
pub(super) mod meta {
    use super::{Key, Message, Recovery, value};

    pub(in crate::store) fn schema() -> Key {
        Key::of("schema")
    }

    pub(in crate::store) fn identity() -> Key {
        Key::of("id")
    }

    pub(in crate::store) fn epoch() -> Key {
        Key::of("epoch")
    }

    pub(in crate::store) fn tally() -> Key {
        Key::of("tally")
    }

    pub(in crate::store) fn recovery() -> Key {
        Key::of("recovery")
    }

    pub(in crate::store) fn counters() -> Key {
        Key::of("counter")
    }

    pub(in crate::store) fn counter(name: &Key) -> Key {
        let mut bytes = counters().as_bytes().to_vec();
        bytes.extend_from_slice(name.as_bytes());
        Key::from_bytes(&bytes)
    }

    /// The counter of the last event's number.
    pub(in crate::store) fn last_event() -> Key {
        counter(&Key::of("event"))
    }

    /// A change of one of these, which no caller can ask for.
    pub(in crate::store) fn entry<M: Message>(key: &Key, message: &M) -> (Vec<u8>, Vec<u8>) {
        (super::Table::Meta.full(key), value::encode(message))
    }

    pub(in crate::store) fn recovery_entry(recovery: &Recovery) -> (Vec<u8>, Vec<u8>) {
        entry(&self::recovery(), recovery)
    }
}
