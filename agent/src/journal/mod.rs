//! What this host must not forget: where each berth stands, and the facts of its open swap.
//!
//! Two preallocated files take turns: records are appended to one until it is
//! full, then what still counts is written to the other, which is the newer from
//! the moment its header is on the disk. Room is taken when the files are made,
//! so a reflex is recorded on a full disk, too.
//!
//! Kept true: when [`Journal::append`] returns, the facts outlive a power cut. A
//! torn last record was never answered for and is forgotten. The journal does
//! not know what facts mean.

mod file;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use cutover_core::ServiceId;
use cutover_core::swap::{Berth, Stamped, Summary};
use cutover_proto::convert::Malformed;
use cutover_proto::v1;
use prost::Message;

use file::{File, SIZE};

/// Why the journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system failed.
    #[error("could not {doing} the journal {}; is there room, and is its directory ours?", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record is whole but says something impossible: another version wrote it.
    #[error("a record of the journal {} makes no sense to this version; was the agent downgraded?", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which part.
        source: Malformed,
    },
    /// What must be kept is larger than a journal file may be.
    #[error(
        "what must be kept needs {needed} bytes, and the journal holds {SIZE}: too many services on one host"
    )]
    Full {
        /// Bytes.
        needed: usize,
    },
}

/// What a journal held when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// The journal, ready for more.
    pub journal: Journal,
    /// Every berth, as its facts left it.
    pub berths: BTreeMap<ServiceId, Berth>,
    /// Which start of the agent this is, from 1.
    pub start: u64,
    /// The host booted since the last start.
    pub rebooted: bool,
    /// It held nothing: a new host, or one that forgot everything.
    pub empty: bool,
}

/// The journal of one host; one process at a time.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    active: File,
    /// Which of the two files is the active one.
    turn: usize,
    start: v1::AgentStart,
    kept: BTreeMap<ServiceId, Kept>,
}

/// What counts of one berth.
#[derive(Debug, Default)]
struct Kept {
    summary: Option<v1::BerthSummary>,
    facts: Vec<v1::BerthFact>,
}

impl Journal {
    /// Opens the journal in `folder`, made when missing.
    ///
    /// # Errors
    /// When the files can't be made or read, or were written by another version.
    pub fn open(folder: &Path, boot_id: &str) -> Result<Opened, JournalError> {
        let make = |source| JournalError::Io {
            doing: "make the folder of",
            path: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(make)?;
        let paths = [folder.join("journal.a"), folder.join("journal.b")];
        let files = [File::open(&paths[0]), File::open(&paths[1])];
        let [a, b] = files;
        let (a, b) = (
            a.map_err(io_error("open", &paths[0]))?,
            b.map_err(io_error("open", &paths[1]))?,
        );
        let turn = usize::from(b.sequence() > a.sequence());
        let mut active = if turn == 1 { b } else { a };
        let records = active.read_all().map_err(io_error("read", &paths[turn]))?;
        let empty = records.is_empty();
        let mut kept: BTreeMap<ServiceId, Kept> = BTreeMap::new();
        let mut last = v1::AgentStart::default();
        for bytes in &records {
            take(&mut kept, &mut last, bytes).map_err(|source| JournalError::Malformed {
                path: paths[turn].clone(),
                source,
            })?;
        }
        let berths = kept
            .iter()
            .map(|(service, kept)| Ok((service.clone(), kept.berth(service)?)));
        let berths = berths
            .collect::<Result<BTreeMap<_, _>, Malformed>>()
            .map_err(|source| JournalError::Malformed {
                path: paths[turn].clone(),
                source,
            })?;
        let rebooted = !last.boot_id.is_empty() && last.boot_id != boot_id;
        let start = v1::AgentStart {
            start: last.start + 1,
            boot_id: boot_id.to_owned(),
        };
        let mut journal = Self {
            folder: folder.to_owned(),
            active,
            turn,
            start: start.clone(),
            kept,
        };
        journal.write(&v1::JournalRecord {
            record: Some(v1::journal_record::Record::Start(start.clone())),
        })?;
        Ok(Opened {
            journal,
            berths,
            start: start.start,
            rebooted,
            empty,
        })
    }

    /// Keeps these facts of a berth. They are on the disk when this returns.
    ///
    /// # Errors
    /// When they are not; nothing that depends on them may be done.
    pub fn append(&mut self, service: &ServiceId, facts: &[Stamped]) -> Result<(), JournalError> {
        let facts: Vec<v1::BerthFact> = facts.iter().map(Into::into).collect();
        let record = v1::BerthFacts {
            service: service.to_string(),
            facts: facts.clone(),
        };
        self.write(&v1::JournalRecord {
            record: Some(v1::journal_record::Record::Facts(record)),
        })?;
        // Not before: who could not keep them comes with the same facts again.
        let kept = self.kept.entry(service.clone()).or_default();
        kept.facts.extend(facts);
        Ok(())
    }

    /// A berth's swap is over: its facts before now count no more.
    ///
    /// Nothing is written until the file is full, so nothing can fail.
    pub fn condense(&mut self, summary: &Summary) {
        let kept = Kept {
            summary: Some(summary.into()),
            facts: Vec::new(),
        };
        self.kept.insert(summary.service.clone(), kept);
    }

    /// Keeps where a berth stands that nobody remembered. It is on the disk when this returns.
    ///
    /// # Errors
    /// When it is not.
    pub fn adopt(&mut self, summary: &Summary) -> Result<(), JournalError> {
        self.write(&v1::JournalRecord {
            record: Some(v1::journal_record::Record::Summary(summary.into())),
        })?;
        self.condense(summary);
        Ok(())
    }

    fn write(&mut self, record: &v1::JournalRecord) -> Result<(), JournalError> {
        let bytes = record.encode_to_vec();
        if self.active.has_room(&bytes) {
            let path = self.path(self.turn);
            return self
                .active
                .append(&[&bytes])
                .map_err(io_error("write to", &path));
        }
        self.turn_over(bytes)
    }

    /// Writes what counts to the other file, and after it what found no room in this one.
    fn turn_over(&mut self, newest: Vec<u8>) -> Result<(), JournalError> {
        let start = v1::JournalRecord {
            record: Some(v1::journal_record::Record::Start(self.start.clone())),
        };
        let mut records = vec![start.encode_to_vec()];
        for (service, kept) in &self.kept {
            if let Some(summary) = &kept.summary {
                let record = v1::journal_record::Record::Summary(summary.clone());
                records.push(
                    v1::JournalRecord {
                        record: Some(record),
                    }
                    .encode_to_vec(),
                );
            }
            let record = v1::BerthFacts {
                service: service.to_string(),
                facts: kept.facts.clone(),
            };
            let record = v1::JournalRecord {
                record: Some(v1::journal_record::Record::Facts(record)),
            };
            records.push(record.encode_to_vec());
        }
        records.push(newest);
        let needed: usize = records.iter().map(|record| file::room(record)).sum();
        if needed > SIZE / 2 {
            return Err(JournalError::Full { needed });
        }
        let turn = 1 - self.turn;
        let path = self.path(turn);
        let mut other = File::open(&path).map_err(io_error("open", &path))?;
        let all: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        other
            .begin(self.active.sequence() + 1, &all)
            .map_err(io_error("write to", &path))?;
        self.active = other;
        self.turn = turn;
        Ok(())
    }

    fn path(&self, turn: usize) -> PathBuf {
        self.folder
            .join(if turn == 0 { "journal.a" } else { "journal.b" })
    }
}

impl Kept {
    fn berth(&self, service: &ServiceId) -> Result<Berth, Malformed> {
        let mut berth = match &self.summary {
            Some(summary) => Berth::resume(summary.clone().try_into()?),
            None => Berth::new(service.clone()),
        };
        for fact in &self.facts {
            let stamped: Stamped = fact.clone().try_into()?;
            berth.apply(stamped.at, &stamped.fact);
        }
        Ok(berth)
    }
}

fn take(
    kept: &mut BTreeMap<ServiceId, Kept>,
    last: &mut v1::AgentStart,
    bytes: &[u8],
) -> Result<(), Malformed> {
    let record = v1::JournalRecord::decode(bytes).map_err(|_| Malformed("a record"))?;
    match record.record.ok_or(Malformed("a record"))? {
        v1::journal_record::Record::Start(start) => *last = start,
        v1::journal_record::Record::Summary(summary) => {
            let service = summary.service.parse()?;
            kept.insert(
                service,
                Kept {
                    summary: Some(summary),
                    facts: Vec::new(),
                },
            );
        }
        v1::journal_record::Record::Facts(facts) => {
            let service: ServiceId = facts.service.parse()?;
            kept.entry(service).or_default().facts.extend(facts.facts);
        }
    }
    Ok(())
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_core::swap::Fact;
    use cutover_core::{Generation, Moment, Route, Slot};

    fn service() -> ServiceId {
        "shop/web".parse().expect("a name")
    }

    fn cut(n: u64) -> Stamped {
        let route = if n.is_multiple_of(2) {
            Route::Alone(Slot::Blue)
        } else {
            Route::Alone(Slot::Green)
        };
        Stamped {
            at: Moment::from_millis(n),
            fact: Fact::CutOver(route),
        }
    }

    #[test]
    fn p5_what_was_appended_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut opened = Journal::open(folder.path(), "boot-1").expect("it opens");
        assert!(opened.empty && opened.start == 1);
        opened
            .journal
            .append(
                &service(),
                &[
                    cut(1),
                    Stamped {
                        at: Moment::ZERO,
                        fact: Fact::Fenced(Generation {
                            epoch: 1,
                            number: 7,
                        }),
                    },
                ],
            )
            .expect("kept");
        drop(opened);
        let opened = Journal::open(folder.path(), "boot-2").expect("it opens");
        assert!(opened.rebooted && !opened.empty && opened.start == 2);
        let berth = &opened.berths[&service()];
        assert_eq!(berth.route(), Route::Alone(Slot::Green));
        assert_eq!(berth.fence().number, 7);
    }

    #[test]
    fn p5_a_torn_record_is_forgotten_and_what_follows_it_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut opened = Journal::open(folder.path(), "b").expect("it opens");
        opened.journal.append(&service(), &[cut(1)]).expect("kept");
        let (end, path) = (
            opened.journal.active.end(),
            opened.journal.path(opened.journal.turn),
        );
        opened.journal.append(&service(), &[cut(2)]).expect("kept");
        drop(opened);
        let mut bytes = std::fs::read(&path).expect("it is there");
        bytes[end + 9] ^= 0xff;
        std::fs::write(&path, bytes).expect("written");
        let mut opened = Journal::open(folder.path(), "b").expect("it opens");
        assert_eq!(opened.berths[&service()].route(), Route::Alone(Slot::Green));
        opened.journal.append(&service(), &[cut(4)]).expect("kept");
        drop(opened);
        let opened = Journal::open(folder.path(), "b").expect("it opens");
        assert_eq!(opened.berths[&service()].route(), Route::Alone(Slot::Blue));
    }

    #[test]
    fn facts_that_could_not_be_kept_are_not_remembered_and_are_kept_once_when_they_can_be() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().join("journal");
        let mut opened = Journal::open(&folder, "b").expect("it opens");
        let journal = &mut opened.journal;
        let many: Vec<Stamped> = (0..2000).map(cut).collect();
        while journal.active.has_room(&vec![0; SIZE / 8]) {
            journal.append(&service(), &many).expect("kept");
            let berth = Berth::replay(service(), &many);
            journal.condense(&berth.summary().expect("no swap is open"));
        }
        let too_many: Vec<Stamped> = (0..16_000).map(cut).collect();
        // The other file can't be made: nothing is kept of it.
        std::fs::remove_dir_all(&folder).expect("removed");
        for _ in 0..3 {
            assert!(journal.append(&service(), &too_many).is_err());
            assert_eq!(
                journal.kept[&service()].facts.len(),
                0,
                "remembered before they were written"
            );
        }
        std::fs::create_dir_all(&folder).expect("there again");
        journal.append(&service(), &too_many).expect("kept");
        drop(opened);
        let opened = Journal::open(&folder, "b").expect("it opens");
        let kept = &opened.journal.kept[&service()];
        assert_eq!(kept.facts.len(), too_many.len(), "each of them once");
        assert!(kept.summary.is_some(), "what counted before is there");
    }

    #[test]
    fn a_full_file_turns_over_and_nothing_that_counts_is_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut opened = Journal::open(folder.path(), "b").expect("it opens");
        let mut berth = Berth::new(service());
        for n in 1..500 {
            let facts: Vec<Stamped> = (0..500).map(|m| cut(n * 500 + m)).collect();
            for fact in &facts {
                berth.apply(fact.at, &fact.fact);
            }
            opened.journal.append(&service(), &facts).expect("kept");
            opened
                .journal
                .condense(&berth.summary().expect("no swap is open"));
        }
        let (start, last) = (opened.start, berth.route());
        assert!(opened.journal.active.sequence() > 2, "it never turned over");
        drop(opened);
        let opened = Journal::open(folder.path(), "b").expect("it opens");
        assert_eq!(opened.berths[&service()].route(), last);
        assert_eq!(opened.start, start + 1);
    }
}
