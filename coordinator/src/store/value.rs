//! How a record is written: one version byte, then a protobuf message; and the
//! few messages that are the store's own.
//!
//! Keeps true: a value of a later version is never read as if it were of this one.
//!
//! Does not know the messages of others: it takes any [`prost::Message`].

use prost::Message;

/// The version of values that this program writes.
pub(super) const VERSION: u8 = 1;

/// Why bytes are no such message.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// There was not even a version.
    #[error("the value is empty")]
    Empty,
    /// Written by a later program.
    #[error(
        "the value has version {0}, this program knows {VERSION}; use the program that wrote it, or a later one"
    )]
    Version(u8),
    /// Not this message.
    #[error("the value is not what its table holds")]
    Message(#[from] prost::DecodeError),
}

pub(super) fn encode<M: Message>(message: &M) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + message.encoded_len());
    value.push(VERSION);
    value.extend_from_slice(&message.encode_to_vec());
    value
}

pub(super) fn decode<M: Message + Default>(value: &[u8]) -> Result<M, ValueError> {
    match value {
        [VERSION, message @ ..] => Ok(M::decode(message)?),
        [other, ..] => Err(ValueError::Version(*other)),
        [] => Err(ValueError::Empty),
    }
}

/// Which layout of tables this store has.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Schema {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
}

/// Whose store this is; goes along into snapshots and backups.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Identity {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// A number that only rises: the epoch, revision counters.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Number {
    #[prost(uint64, tag = "1")]
    pub(super) value: u64,
}

/// What the store must hold to be whole: how many commits, how many records, and
/// the sum of their fingerprints. A page that went missing shows in it.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Tally {
    #[prost(uint64, tag = "1")]
    pub(super) sequence: u64,
    #[prost(uint64, tag = "2")]
    pub(super) records: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) sum: u64,
}

impl Tally {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(fingerprint(key, value));
    }

    pub(super) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(fingerprint(key, value));
    }

    /// Whether both counted the same records, whatever the number of commits.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.records == other.records && self.sum == other.sum
    }
}

fn fingerprint(key: &[u8], value: &[u8]) -> u64 {
    let mut one = crc32fast::Hasher::new();
    one.update(key);
    one.update(value);
    let mut other = crc32fast::Hasher::new_with_initial(0x0043_5554);
    other.update(value);
    other.update(key);
    (u64::from(one.finalize()) << 32) | u64::from(other.finalize())
}

/// That the store was made anew, and from what. Kept until [`Batch::recovery_told`].
///
/// [`Batch::recovery_told`]: super::Batch::recovery_told
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Recovery {
    /// The snapshot or backup that was loaded, or `what was left of it`.
    #[prost(string, tag = "1")]
    pub recovered_from: String,
    /// What was wrong with the store before, or who asked.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// Where the former store lies now; empty where there was none.
    #[prost(string, tag = "3")]
    pub set_aside: String,
    /// The epoch that began with it.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// The last commit that the snapshot held; what was committed after it is lost here.
    #[prost(uint64, tag = "5")]
    pub up_to: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_a_later_version_is_refused_by_name() {
        let mut value = encode(&"x".to_owned());
        assert_eq!(decode::<String>(&value).expect("ours"), "x");
        value[0] = 9;
        let error = decode::<String>(&value).expect_err("a later version");
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    #[test]
    fn a_tally_notices_what_is_gone_and_what_changed() {
        let mut all = Tally::default();
        all.add(b"a", b"1");
        all.add(b"b", b"2");
        let mut other = Tally::default();
        other.add(b"b", b"2");
        assert!(!all.agrees(&other));
        other.add(b"a", b"3");
        assert!(!all.agrees(&other));
        other.remove(b"a", b"3");
        other.add(b"a", b"1");
        assert!(all.agrees(&other));
    }
}
