//! The layout of tables and how an older one becomes this one.
//!
//! Keeps true: a migration is one commit, after a snapshot of what was before;
//! a store of a later layout is not touched.
//!
//! Does not know the messages: a migration brings its own knowledge of them.

use super::engine::{Changes, Record};

/// The layout that this program works with.
pub(super) const CURRENT: u32 = 1;

/// The way from each older layout to the next. There was none before 1.
pub(super) const MIGRATIONS: &[Migration] = &[];

/// One step from a layout to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    /// It leads from this layout to the one after it.
    pub(super) from: u32,
    /// What it does, for the log.
    pub(super) what: &'static str,
    /// The changes, given all records; a key without value is removed.
    pub(super) plan: fn(&[Record]) -> Changes,
}

/// The layouts that this program opens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layouts {
    pub(super) current: u32,
    pub(super) migrations: &'static [Migration],
}

impl Layouts {
    pub(super) const OURS: Self = Self {
        current: CURRENT,
        migrations: MIGRATIONS,
    };

    pub(super) fn step_from(&self, version: u32) -> Option<&'static Migration> {
        self.migrations
            .iter()
            .find(|migration| migration.from == version)
    }
}
