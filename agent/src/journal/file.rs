//! One preallocated file of records, each with its length and checksum.
//!
//! A record's checksum covers the file's sequence number, so that what an
//! earlier use of the same file left behind the end is never taken for a record.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of a file; all of them are written when it is made.
pub(super) const SIZE: usize = 1024 * 1024;
/// What a file begins with.
const MAGIC: &[u8; 8] = b"cutover1";
/// Magic, sequence number, checksum of both.
const HEADER: usize = 8 + 8 + 4;
/// Length and checksum before each record.
const PREFIX: usize = 8;

/// Bytes that a record takes in the file.
pub(super) fn room(record: &[u8]) -> usize {
    PREFIX + record.len()
}

#[derive(Debug)]
pub(super) struct File {
    file: fs::File,
    /// Higher is newer; 0: never begun.
    sequence: u64,
    end: usize,
}

impl File {
    /// Opens a file, made and filled with zeros when missing or short.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if file.metadata()?.len() < SIZE as u64 {
            file.write_all_at(&vec![0; SIZE], 0)?;
            file.sync_all()?;
            if let Some(folder) = path.parent() {
                fs::File::open(folder)?.sync_all()?;
            }
        }
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        Ok(Self {
            file,
            sequence: sequence_in(&header),
            end: HEADER,
        })
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    #[cfg(test)]
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Every whole record; what follows the first that is not is forgotten.
    pub(super) fn read_all(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut bytes = vec![0; SIZE];
        self.file.read_exact_at(&mut bytes, 0)?;
        let mut records = Vec::new();
        self.end = HEADER;
        while self.sequence > 0 {
            let Some(record) = self.record_at(&bytes, self.end) else {
                break;
            };
            self.end += room(record);
            records.push(record.to_vec());
        }
        Ok(records)
    }

    fn record_at<'a>(&self, bytes: &'a [u8], at: usize) -> Option<&'a [u8]> {
        let prefix = bytes.get(at..at + PREFIX)?;
        let length = u32::from_le_bytes(prefix.get(..4)?.try_into().ok()?) as usize;
        let sum = u32::from_le_bytes(prefix.get(4..)?.try_into().ok()?);
        let record = bytes.get(at + PREFIX..at + PREFIX + length)?;
        (length > 0 && self.sum(record) == sum).then_some(record)
    }

    fn sum(&self, record: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.sequence.to_le_bytes());
        hasher.update(record);
        hasher.finalize()
    }

    pub(super) fn has_room(&self, record: &[u8]) -> bool {
        self.sequence > 0 && self.end + room(record) <= SIZE
    }

    /// Adds records; they are on the disk when this returns.
    pub(super) fn append(&mut self, records: &[&[u8]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend_from_slice(
                &u32::try_from(record.len())
                    .unwrap_or(u32::MAX)
                    .to_le_bytes(),
            );
            bytes.extend_from_slice(&self.sum(record).to_le_bytes());
            bytes.extend_from_slice(record);
        }
        self.file.write_all_at(&bytes, self.end as u64)?;
        self.file.sync_data()?;
        self.end += bytes.len();
        Ok(())
    }

    /// Begins the file anew with these records; its header comes last, so that it is either the old one or whole.
    pub(super) fn begin(&mut self, sequence: u64, records: &[&[u8]]) -> io::Result<()> {
        self.file.write_all_at(&[0; HEADER], 0)?;
        self.file.sync_data()?;
        self.sequence = sequence;
        self.end = HEADER;
        self.append(records)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&sequence.to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        self.file.write_all_at(&header, 0)?;
        self.file.sync_data()
    }
}

/// The sequence number in a header; 0: it was never begun, or is torn.
fn sequence_in(header: &[u8; HEADER]) -> u64 {
    let (named, sum) = header.split_at(16);
    let good = named.starts_with(MAGIC) && crc32fast::hash(named).to_le_bytes() == sum;
    let number: [u8; 8] = named[8..].try_into().unwrap_or_default();
    if good { u64::from_le_bytes(number) } else { 0 }
}
