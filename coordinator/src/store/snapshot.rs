//! All records in one file: what snapshots, `backup` and `restore` read and write.
//!
//! The file is a line that names the format, then frames: a length, a CRC-32 and
//! a protobuf message. The first frame is the [`Header`], each other one a record.
//!
//! Keeps true: a file under its final name was whole when it was put there; one
//! that is damaged anywhere, or ends early, is told from a good one.
//!
//! Does not know where snapshots lie or how many are kept.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use prost::Message;

use super::batch::meta;
use super::engine::{Engine, EngineError, Record};
use super::error::SnapshotError;
use super::key::{Key, Table};
use super::value::{self, Identity, Schema, Tally};
use super::view::{Order, View};
use super::{MAX_RECORD, files};

const FORMAT: u32 = 1;
const MAGIC: &[u8] = b"cutover store snapshot\n";
/// The largest frame: a record, its key, and protobuf's own bytes.
const MAX_FRAME: usize = MAX_RECORD + 64 * 1024;

/// What a snapshot is of.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Header {
    /// The format of the file.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The layout of the tables in it.
    #[prost(uint32, tag = "2")]
    pub schema: u32,
    /// Of which store.
    #[prost(string, tag = "3")]
    pub store: String,
    /// In which epoch it was taken.
    #[prost(uint64, tag = "4")]
    pub epoch: u64,
    /// After which commit.
    #[prost(uint64, tag = "5")]
    pub sequence: u64,
    /// How many records it holds.
    #[prost(uint64, tag = "6")]
    pub records: u64,
    #[prost(fixed64, tag = "7")]
    sum: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Entry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// All records as of one commit.
#[derive(Clone, Debug)]
pub(super) struct Export {
    pub(super) header: Header,
    pub(super) records: Vec<Record>,
}

impl Export {
    /// Copies the durable records out. Called between commits.
    pub(super) fn take(view: &View, tally: Tally, epoch: u64) -> Result<Self, SnapshotError> {
        let mut records = Vec::new();
        for table in Table::ALL {
            let found = view
                .scan(&[table as u8], None, Order::Ascending, usize::MAX)
                .map_err(copying)?;
            records.extend(found);
        }
        Ok(Self::of(records, tally, epoch))
    }

    /// Copies the records out of a store that nobody else has yet.
    pub(super) fn of_engine(
        engine: &Engine,
        tally: Tally,
        epoch: u64,
    ) -> Result<Self, SnapshotError> {
        let records = engine.all().collect::<Result<_, _>>().map_err(copying)?;
        Ok(Self::of(records, tally, epoch))
    }

    fn of(mut records: Vec<Record>, tally: Tally, epoch: u64) -> Self {
        let own_tally = Table::Meta.full(&meta::tally());
        records.retain(|(key, _)| *key != own_tally);
        let Schema { version: schema } = own(&records, &meta::schema());
        let Identity { id: store } = own(&records, &meta::identity());
        let Tally {
            sequence,
            records: count,
            sum,
        } = tally;
        let header = Header {
            format: FORMAT,
            schema,
            store,
            epoch,
            sequence,
            records: count,
            sum,
        };
        Self { header, records }
    }

    /// Writes them to `path`: whole, or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), SnapshotError> {
        let failed = |doing| {
            move |source| SnapshotError::Files {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let temporary = files::with_suffix(path, ".new");
        let written = (|| {
            let mut out = BufWriter::new(files::create_private(&temporary)?);
            out.write_all(MAGIC)?;
            write_frame(&mut out, &self.header.encode_to_vec())?;
            for (key, value) in &self.records {
                let entry = Entry {
                    key: key.clone(),
                    value: value.clone(),
                };
                write_frame(&mut out, &entry.encode_to_vec())?;
            }
            out.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()
        })();
        if let Err(error) = written {
            // What it takes up may be what is missing.
            let _ = fs::remove_file(&temporary);
            return Err(failed("write the snapshot")(error));
        }
        files::rename(&temporary, path).map_err(failed("name the snapshot"))
    }

    /// Reads a file back, if it is whole.
    pub(super) fn read(path: &Path) -> Result<Self, SnapshotError> {
        let damaged = |why| SnapshotError::Damaged {
            path: path.to_owned(),
            why,
        };
        let mut file = open(path)?;
        let header = read_header(&mut file, path)?;
        let mut tally = Tally {
            sequence: header.sequence,
            ..Tally::default()
        };
        let mut records = Vec::new();
        for _ in 0..header.records {
            let Entry { key, value } = read_frame(&mut file, path)?;
            tally.add(&key, &value);
            records.push((key, value));
        }
        let expected = Tally {
            sequence: header.sequence,
            records: header.records,
            sum: header.sum,
        };
        if !tally.agrees(&expected) {
            return Err(damaged("its records are not those that it was made of"));
        }
        if file.read(&mut [0]).map_err(reading(path))? != 0 {
            return Err(damaged("something follows its last record"));
        }
        Ok(Self { header, records })
    }
}

fn copying(source: EngineError) -> SnapshotError {
    SnapshotError::Engine {
        doing: "copy out",
        source,
    }
}

/// One of the store's own records, or its default.
fn own<M: Message + Default>(records: &[Record], key: &Key) -> M {
    let key = Table::Meta.full(key);
    let found = records.iter().find(|(other, _)| *other == key);
    found
        .and_then(|(_, value)| value::decode(value).ok())
        .unwrap_or_default()
}

/// What a file is a snapshot of; its records are not looked at.
pub(super) fn peek(path: &Path) -> Result<Header, SnapshotError> {
    read_header(&mut open(path)?, path)
}

fn open(path: &Path) -> Result<BufReader<File>, SnapshotError> {
    File::open(path).map(BufReader::new).map_err(reading(path))
}

fn reading(path: &Path) -> impl Fn(io::Error) -> SnapshotError {
    move |source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return SnapshotError::Damaged {
                path,
                why: "it ends early",
            };
        }
        SnapshotError::Files {
            doing: "read the snapshot",
            path,
            source,
        }
    }
}

fn read_header(file: &mut impl Read, path: &Path) -> Result<Header, SnapshotError> {
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(reading(path))?;
    if magic != *MAGIC {
        return Err(SnapshotError::Damaged {
            path: path.to_owned(),
            why: "it does not begin as one",
        });
    }
    let header: Header = read_frame(file, path)?;
    if header.format != FORMAT {
        return Err(SnapshotError::Newer {
            path: path.to_owned(),
            found: header.format,
            known: FORMAT,
        });
    }
    Ok(header)
}

fn write_frame(out: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&crc32fast::hash(message).to_be_bytes())?;
    out.write_all(message)
}

fn read_frame<M: Message + Default>(file: &mut impl Read, path: &Path) -> Result<M, SnapshotError> {
    let damaged = |why| SnapshotError::Damaged {
        path: path.to_owned(),
        why,
    };
    let mut length = [0; 4];
    let mut sum = [0; 4];
    file.read_exact(&mut length).map_err(reading(path))?;
    file.read_exact(&mut sum).map_err(reading(path))?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(damaged("a record in it claims an impossible length"));
    }
    let mut message = vec![0; length];
    file.read_exact(&mut message).map_err(reading(path))?;
    if crc32fast::hash(&message) != u32::from_be_bytes(sum) {
        return Err(damaged("a record in it fails its checksum"));
    }
    M::decode(message.as_slice()).map_err(|_| damaged("a record in it cannot be decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(records: &[(&[u8], &[u8])]) -> Export {
        let mut tally = Tally {
            sequence: 9,
            ..Tally::default()
        };
        for (key, value) in records {
            tally.add(key, value);
        }
        let Tally {
            sequence,
            records: count,
            sum,
        } = tally;
        let header = Header {
            format: FORMAT,
            schema: 1,
            store: "s".into(),
            epoch: 2,
            sequence,
            records: count,
            sum,
        };
        Export {
            header,
            records: records
                .iter()
                .map(|(k, v)| (k.to_vec(), v.to_vec()))
                .collect(),
        }
    }

    #[test]
    fn a_snapshot_gives_back_what_it_was_made_of() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let one = export(&[(b"a", b"1"), (b"b", &[3; 100_000])]);
        one.write(&path).expect("writes");
        let again = Export::read(&path).expect("is whole");
        assert_eq!(
            (again.header, again.records),
            (one.header.clone(), one.records)
        );
        assert_eq!(peek(&path).expect("has a header"), one.header);
    }

    #[test]
    fn a_snapshot_with_any_bit_flipped_or_any_tail_cut_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        export(&[(b"a", b"1"), (b"b", b"22"), (b"c", b"")])
            .write(&path)
            .expect("writes");
        let good = fs::read(&path).expect("reads");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).expect("writes");
            assert!(Export::read(&path).is_err(), "bit flipped in byte {at}");
            fs::write(&path, &good[..at]).expect("writes");
            assert!(Export::read(&path).is_err(), "cut to {at} bytes");
        }
    }
}
