//! From a state directory to an open store: lock, look, rebuild where it must
//! be, migrate, and only then serve.
//!
//! Keeps true: a store that opens holds at least what the newest snapshot tells
//! of. It is whole by its own tally. One that is damaged is made anew from a
//! snapshot or left alone with a message: nothing is deleted, nothing panics.
//! One that quietly lost its last commits is known by the commit noted beside it,
//! and goes on from what is left, in a higher epoch. Only where a power cut took
//! that note, too, it stays unnoticed here; the agents' reports show it then, and
//! the coordinator raises the epoch (P4).
//!
//! Does not know what the coordinator keeps in its tables.

use std::io;
use std::path::{Path, PathBuf};

use super::batch::meta;
use super::engine::{Engine, EngineError, Trouble, patiently};
use super::error::OpenError;
use super::lock::{Lock, NoLock};
use super::mark::{CommitMark, EpochMark};
use super::probe::Finding;
use super::rebuild::{self, NoSnapshot};
use super::resume::{Own, Ready};
use super::schema::Layouts;
use super::shelf::Shelf;
use super::snapshot::Export;
use super::value::{Schema, Tally};
use super::{Options, files};

/// Where everything lies.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) state: PathBuf,
    pub(super) store: PathBuf,
    pub(super) shelf: Shelf,
    pub(super) mark: EpochMark,
}

impl Paths {
    pub(super) fn of(state: &Path) -> Self {
        let store = state.join("store");
        Self {
            state: state.to_owned(),
            store,
            shelf: Shelf::of(state),
            mark: EpochMark::of(state),
        }
    }

    /// Makes the state directory and locks it.
    pub(super) fn lock(&self) -> Result<Lock, OpenError> {
        files::make_dir(&self.state).map_err(self.failed("make the state directory"))?;
        let path = self.state.join("store.lock");
        let held = |refused: &NoLock| matches!(refused, NoLock::Held(_));
        patiently(|| Lock::take(&path), held).map_err(|refused| match refused {
            NoLock::Held(holder) => OpenError::Locked {
                path: self.state.clone(),
                holder,
            },
            NoLock::Files(source) => self.failed("lock the state directory")(source),
        })
    }

    pub(super) fn free_place_aside(&self) -> PathBuf {
        (1..=u32::MAX)
            .map(|number| files::with_suffix(&self.store, &format!(".damaged-{number}")))
            .find(|place| !place.exists())
            .unwrap_or_else(|| files::with_suffix(&self.store, ".damaged"))
    }

    pub(super) fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> OpenError + use<> {
        let path = self.state.clone();
        move |source| OpenError::Files {
            doing,
            path: path.clone(),
            source,
        }
    }
}

/// Opens; makes it anew at most once.
pub(super) fn ready(
    paths: &Paths,
    options: &Options,
    layouts: Layouts,
) -> Result<Ready, OpenError> {
    let damage = match attempt(paths, options, layouts)? {
        Attempt::Ready(ready) => return Ok(*ready),
        Attempt::Damaged(damage) => damage,
    };
    repair(paths, options, &damage)?;
    match attempt(paths, options, layouts)? {
        Attempt::Ready(ready) => Ok(*ready),
        Attempt::Damaged(Damage { what, .. }) => {
            let why_not =
                "it was made anew a moment ago and is damaged again, so the disk is to be doubted";
            Err(OpenError::Damaged {
                path: paths.store.clone(),
                damage: what,
                why_not: why_not.to_owned(),
            })
        }
    }
}

enum Attempt {
    Ready(Box<Ready>),
    Damaged(Damage),
}

/// What is wrong.
struct Damage {
    what: String,
    /// What the database still holds, where that is whole and newer than any snapshot.
    left: Option<Export>,
}

impl Attempt {
    fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(Damage {
            what: what.into(),
            left: None,
        })
    }
}

fn attempt(paths: &Paths, options: &Options, layouts: Layouts) -> Result<Attempt, OpenError> {
    let mark = paths
        .mark
        .read()
        .map_err(paths.failed("read the epoch in"))?;
    let last_commit = paths.shelf.last_commit()?;
    let was_there = mark.is_some() || last_commit.is_some();
    if paths.store.exists() {
        match options.probe.look(&paths.store) {
            Finding::Whole => {}
            Finding::Damaged(why) => return Ok(Attempt::damaged(why)),
            Finding::Unknown(why) => {
                return Err(OpenError::Probe {
                    path: paths.store.clone(),
                    why,
                });
            }
        }
    } else if was_there {
        return Ok(Attempt::damaged("its directory is gone"));
    }

    let engine = match Engine::open(&paths.store, options.cache, options.file_sync) {
        Ok(engine) => engine,
        Err(EngineError {
            trouble: Trouble::Damaged,
            source,
        }) => return Ok(Attempt::damaged(source.to_string())),
        Err(source) => {
            return Err(OpenError::Engine {
                path: paths.store.clone(),
                source,
            });
        }
    };
    files::sync_dir(&paths.state).map_err(paths.failed("put on disk"))?;

    let own = Own { paths, engine };
    let Some(Schema { version }) = own.read("schema", &meta::schema())? else {
        if was_there {
            return Ok(Attempt::damaged("it is empty, and was not"));
        }
        return own
            .create(options, layouts)
            .map(|ready| Attempt::Ready(Box::new(ready)));
    };
    if version > layouts.current {
        return Err(OpenError::Newer {
            path: paths.store.clone(),
            found: version,
            known: layouts.current,
        });
    }
    let tally: Tally = own.read("tally", &meta::tally())?.unwrap_or_default();
    let has = tally.sequence;
    if let Some(told) = last_commit
        && told > has
    {
        let what = format!("it ends at commit {has}, a snapshot tells of commit {told}");
        return Ok(Attempt::damaged(what));
    }
    let noted = CommitMark::read(&paths.state).map_err(paths.failed("read the last commit in"))?;
    if noted > has {
        let what = format!("it ends at commit {has}, and commit {noted} was made");
        let left = Some(Export::of_engine(&own.engine, tally, mark.unwrap_or(0))?);
        return Ok(Attempt::Damaged(Damage { what, left }));
    }
    own.resume(options, layouts, mark, version, tally)
        .map(|ready| Attempt::Ready(Box::new(ready)))
}

fn repair(paths: &Paths, options: &Options, damage: &Damage) -> Result<(), OpenError> {
    let Damage { what, left } = damage;
    let refuse = |why_not: &str| {
        Err(OpenError::Damaged {
            path: paths.store.clone(),
            damage: what.clone(),
            why_not: why_not.to_owned(),
        })
    };
    if !options.rebuild {
        return refuse("rebuilding is switched off");
    }
    if let Some(left) = left {
        return rebuild::rebuild(paths, left, "what was left of it", what).map(|_| ());
    }
    match rebuild::from_newest(paths, what)? {
        Ok(_) => Ok(()),
        Err(NoSnapshot { damaged }) if !damaged.is_empty() => {
            refuse("all of its snapshots are damaged, too")
        }
        Err(NoSnapshot { .. }) => {
            let mark = paths.mark.read();
            if mark.map_err(paths.failed("read the epoch in"))?.is_some() {
                return refuse("there is no snapshot yet");
            }
            // The first start never came to its end, so nothing was ever promised.
            let aside = rebuild::set_aside(paths, &paths.store)?;
            let aside = aside.display();
            tracing::warn!(what, %aside, "a store that a first start left unfinished was set aside");
            Ok(())
        }
    }
}
