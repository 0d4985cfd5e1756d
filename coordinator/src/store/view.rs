//! What readers see: durable records only.
//!
//! Keeps true: from the moment a change is applied until it is durable, and for
//! good if it never becomes so, readers find what was there before (P3: no
//! answer depends on a change that a power cut could take back). The lock is
//! held for single reads and for applying, never while the disk is awaited.
//!
//! Does not know who writes, nor what the records mean.

use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use super::engine::{Changes, Engine, EngineError, Record};
use super::key::after_prefix;

/// What was durable before the changes that are under way.
type Former = Changes;
type Found = Result<Record, EngineError>;

/// The engine, behind the former values of what is not durable yet.
#[derive(Debug)]
pub(super) struct View {
    pub(super) engine: Engine,
    former: RwLock<Former>,
}

/// Which end of a range is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

impl View {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            former: RwLock::default(),
        }
    }

    /// The durable value under `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let former = self.former.read().unwrap_or_else(PoisonError::into_inner);
        match former.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.engine.get(key),
        }
    }

    /// Up to `limit` durable records whose keys begin with `prefix`, starting
    /// with `from` where that is given.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Record>, EngineError> {
        let former = self.former.read().unwrap_or_else(PoisonError::into_inner);
        let first = Bound::Included(prefix.to_vec());
        let last = after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let range = match (from, order) {
            (Some(from), Order::Ascending) if from > prefix => {
                (Bound::Included(from.to_vec()), last)
            }
            (Some(from), Order::Descending) if from.starts_with(prefix) => {
                (first, Bound::Included(from.to_vec()))
            }
            (Some(_) | None, Order::Ascending | Order::Descending) => (first, last),
        };
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let now = self.engine.range(range.clone()).filter(|found| {
            !found
                .as_ref()
                .is_ok_and(|(key, _)| former.contains_key(key))
        });
        let before = former.range(range).filter_map(|(key, value)| {
            value.as_ref().map(|value| Ok((key.clone(), value.clone())))
        });
        match order {
            Order::Ascending => merge(now, before, |a, b| a < b).take(limit).collect(),
            Order::Descending => merge(now.rev(), before.rev(), |a, b| a > b)
                .take(limit)
                .collect(),
        }
    }

    /// Applies changes; until [`Self::uncover`], readers see `former` in their place.
    pub(super) fn apply(&self, changes: &Changes, former: Former) -> Result<(), EngineError> {
        let mut hidden = self.former.write().unwrap_or_else(PoisonError::into_inner);
        *hidden = former;
        self.engine.apply(changes)
    }

    /// All that was applied is durable: let it be seen.
    pub(super) fn uncover(&self) {
        self.former
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// `BTreeMap::range` panics on a range that ends before it begins.
fn is_empty(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> bool {
    match range {
        (Bound::Included(first), Bound::Included(last)) => first > last,
        (Bound::Included(first), Bound::Excluded(last)) => first >= last,
        (Bound::Included(_) | Bound::Excluded(_) | Bound::Unbounded, _) => false,
    }
}

fn merge(
    one: impl Iterator<Item = Found>,
    other: impl Iterator<Item = Found>,
    comes_first: fn(&[u8], &[u8]) -> bool,
) -> impl Iterator<Item = Found> {
    let mut one: Peekable<_> = one.peekable();
    let mut other: Peekable<_> = other.peekable();
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(Ok((a, _))), Some(Ok((b, _)))) if comes_first(b, a) => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(pairs: &[(&str, Option<&str>)]) -> Former {
        pairs
            .iter()
            .map(|(key, value)| {
                (
                    key.as_bytes().to_vec(),
                    value.map(|value| value.as_bytes().to_vec()),
                )
            })
            .collect()
    }

    fn names(found: Result<Vec<Record>, EngineError>) -> Vec<String> {
        found
            .expect("reads")
            .into_iter()
            .map(|(key, value)| {
                format!(
                    "{}={}",
                    String::from_utf8_lossy(&key),
                    String::from_utf8_lossy(&value)
                )
            })
            .collect()
    }

    #[test]
    fn readers_see_what_is_durable_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let view = View::new(Engine::open(dir.path(), 1 << 20, true).expect("opens"));
        view.apply(
            &records(&[("t/a", Some("1")), ("t/c", Some("1"))]),
            Former::new(),
        )
        .expect("applies");
        view.engine.make_durable().expect("durable");
        view.uncover();

        let changes = records(&[("t/a", Some("2")), ("t/b", Some("2")), ("t/c", None)]);
        let former = records(&[("t/a", Some("1")), ("t/b", None), ("t/c", Some("1"))]);
        view.apply(&changes, former).expect("applies");
        let up = |from: Option<&str>, limit| {
            view.scan(b"t/", from.map(str::as_bytes), Order::Ascending, limit)
        };
        let down =
            |from: Option<&str>| view.scan(b"t/", from.map(str::as_bytes), Order::Descending, 9);
        assert_eq!(view.get(b"t/b").expect("reads"), None);
        assert_eq!(names(up(None, 9)), ["t/a=1", "t/c=1"]);
        assert_eq!(names(up(Some("t/b"), 9)), ["t/c=1"]);
        assert_eq!(names(down(None)), ["t/c=1", "t/a=1"]);

        view.engine.make_durable().expect("durable");
        view.uncover();
        assert_eq!(names(up(None, 9)), ["t/a=2", "t/b=2"]);
        assert_eq!(names(up(None, 1)), ["t/a=2"]);
        assert_eq!(names(down(Some("t/a"))), ["t/a=2"]);
        assert!(
            up(Some("u"), 9).expect("reads").is_empty(),
            "from beyond the prefix"
        );
    }
}
