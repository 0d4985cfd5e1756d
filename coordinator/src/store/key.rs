//! Tables and keys: where a record is kept and in which order it is found.
//!
//! Keeps true: keys sort as their parts sort, part by part; a key made of the
//! first parts of another is its prefix, and no other key has that prefix. So
//! `shop/web` never finds what belongs to `shop/web2`, and revision 10 comes
//! after revision 9.
//!
//! Does not know what a record says, nor what keeps it.

/// What the coordinator remembers, by kind. The number is on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// The store's own: schema, epoch, id, counters. Only the store writes here.
    Meta = 1,
    /// service, number → revision.
    Revisions = 2,
    /// rollout number → rollout.
    Rollouts = 3,
    /// rollout number, sequence → fact.
    Facts = 4,
    /// host → host.
    Hosts = 5,
    /// token → enrolment token.
    Tokens = 6,
    /// serial → certificate issued or revoked.
    Serials = 7,
    /// host, service → desk: highest generation, current revision.
    Desks = 8,
    /// number → event, in the order of their happening. Only [`Batch::event`] writes here.
    ///
    /// [`Batch::event`]: super::Batch::event
    Events = 9,
    /// request id → what was answered.
    Requests = 10,
    /// service → service.
    Services = 11,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 11] = [
        Self::Meta,
        Self::Revisions,
        Self::Rollouts,
        Self::Facts,
        Self::Hosts,
        Self::Tokens,
        Self::Serials,
        Self::Desks,
        Self::Events,
        Self::Requests,
        Self::Services,
    ];

    /// Whether the store alone writes here, through operations of its own.
    pub(super) fn is_reserved(self) -> bool {
        matches!(self, Self::Meta | Self::Events)
    }

    /// The bytes under which `key` of this table is kept.
    pub(super) fn full(self, key: &Key) -> Vec<u8> {
        let mut full = Vec::with_capacity(1 + key.0.len());
        full.push(self as u8);
        full.extend_from_slice(&key.0);
        full
    }
}

/// A key, or the first parts of one: `Key::of("shop/web").number(7)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

/// Ends a text. A zero byte inside one is written as `0x00 0xFF`, so that the
/// end of a shorter text still sorts before anything a longer one goes on with.
const END: [u8; 2] = [0, 0];

impl Key {
    /// No parts: as a prefix, the whole table.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The key whose first part is `text`.
    #[must_use]
    pub fn of(text: impl AsRef<str>) -> Self {
        Self::all().text(text)
    }

    /// The key whose first part is `number`.
    #[must_use]
    pub fn at(number: u64) -> Self {
        Self::all().number(number)
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: impl AsRef<str>) -> Self {
        for &byte in text.as_ref().as_bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xFF);
            }
        }
        self.0.extend_from_slice(&END);
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// The parts again, in the order in which they were added.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        Parts(&self.0)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A key being taken apart. Whoever reads says what each part is, as whoever wrote did.
#[derive(Clone, Debug)]
pub struct Parts<'a>(&'a [u8]);

impl Parts<'_> {
    /// The next part, which is a text; none where there is no further or no such part.
    pub fn text(&mut self) -> Option<String> {
        let mut text = Vec::new();
        let mut rest = self.0;
        loop {
            match rest {
                [0, 0, tail @ ..] => {
                    self.0 = tail;
                    return String::from_utf8(text).ok();
                }
                [0, 0xFF, tail @ ..] => {
                    text.push(0);
                    rest = tail;
                }
                [0, ..] | [] => return None,
                [byte, tail @ ..] => {
                    text.push(*byte);
                    rest = tail;
                }
            }
        }
    }

    /// The next part, which is a number.
    pub fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }
}

/// The smallest bytes that are greater than everything with this prefix, if any are.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(end);
        }
        end.pop();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_parts_do() {
        let sorted = [
            Key::of("a"),
            Key::of("a").number(1),
            Key::of("a").number(9),
            Key::of("a").number(10),
            Key::of("a").number(u64::MAX),
            Key::of("a\0"),
            Key::of("a\0b"),
            Key::of("a-b"),
            Key::of("aa"),
            Key::of("b"),
        ];
        let mut again = sorted.to_vec();
        again.sort();
        assert_eq!(again, sorted);
    }

    #[test]
    fn a_prefix_finds_only_its_own() {
        let web = Key::of("shop/web");
        assert!(
            Key::of("shop/web")
                .number(3)
                .as_bytes()
                .starts_with(web.as_bytes())
        );
        assert!(
            !Key::of("shop/web2")
                .number(3)
                .as_bytes()
                .starts_with(web.as_bytes())
        );
    }

    #[test]
    fn a_key_gives_its_parts_back() {
        let key = Key::of("h\0st").text("shop/web").number(7);
        let mut parts = key.parts();
        assert_eq!(parts.text().as_deref(), Some("h\0st"));
        assert_eq!(parts.text().as_deref(), Some("shop/web"));
        assert_eq!(parts.number(), Some(7));
        assert_eq!(parts.number(), None);
        assert_eq!(parts.text(), None);
    }

    #[test]
    fn what_follows_a_prefix_is_no_part_of_it() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255]), None);
    }

    #[test]
    fn no_two_tables_share_a_number() {
        let numbers: std::collections::BTreeSet<u8> = Table::ALL.iter().map(|t| *t as u8).collect();
        assert_eq!(numbers.len(), Table::ALL.len());
    }
}
