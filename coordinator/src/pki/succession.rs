//! One CA takes over from another, in three steps: `begin`, `switch`, `end`.
//!
//! Between `begin` and `end` both are believed. From `switch` on, hosts and operators get
//! certificates of the next one. The coordinator's own stays one of the old CA until `end`:
//! so whoever knows the old one alone is cut off by no step but the last, an operator needs
//! one new context and not two, and a token, which names the CA behind that certificate,
//! opens until then. At `end`, hosts believe the next CA by the same file that holds
//! their certificate of it.
//!
//! A step is a short list of files to write and remove, in an order in which every death
//! leaves the state before the step or the one after it, and the step can be repeated:
//!
//! - `begin`: `next-ca.key`, then `next-ca.pem`; with that, it has begun.
//! - `switch`: `next-ca.turn` says `issues`.
//! - `end`: `next-ca.turn` says `alone`; with that, it is over. Then `ca.key` and `ca.pem`
//!   become the next one's, and the three are removed, the certificate first.
//!
//! `next-ca.turn` names the CA that it is about: one that was left behind means nothing to
//! the next succession.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use cutover_proto::tls::{Fingerprint, Life, PRIVATE, PUBLIC, write_file_of_folder};

use super::authority::{Authority, PkiError};
use super::ca::Ca;
use super::folder::{CA, CA_KEY, failed, read};

const NEXT: &str = "next-ca.pem";
const NEXT_KEY: &str = "next-ca.key";
const TURN: &str = "next-ca.turn";
const ISSUES: &str = "issues";
const ALONE: &str = "alone";

/// How far a succession is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is one CA.
    Settled,
    /// The next one is believed, too.
    Begun,
    /// And hosts and operators get its certificates.
    Switched,
}

/// The CAs of a folder, as they count.
pub(super) struct Cas {
    pub(super) ca: Ca,
    /// Who takes over, and whether it makes the certificates already.
    pub(super) next: Option<(Ca, bool)>,
    /// It is over, and files of it are left.
    unfinished: bool,
}

/// What is to be known of a folder's CAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// How far it is.
    pub stage: Stage,
    /// The CA behind the coordinator's own certificate.
    pub ca: (Fingerprint, Life),
    /// The one that takes over.
    pub next: Option<(Fingerprint, Life)>,
}

/// One change of the folder.
enum Touch {
    Write(&'static str, String, u32),
    Remove(&'static str),
}

impl Cas {
    pub(super) fn read(folder: &Path) -> Result<Self, PkiError> {
        if !folder.join(CA).exists() {
            return Err(PkiError::Missing(folder.to_owned()));
        }
        let turn = fs::read_to_string(folder.join(TURN)).unwrap_or_default();
        if !folder.join(NEXT).exists() {
            return Ok(Self {
                ca: pair(folder, CA, CA_KEY)?,
                next: None,
                unfinished: !turn.is_empty() || folder.join(NEXT_KEY).exists(),
            });
        }
        let next = pair(folder, NEXT, NEXT_KEY)?;
        let says = |word| turn.trim() == turn_of(word, next.fingerprint);
        if says(ALONE) {
            // Perhaps `ca.key` is the next one's already, and `ca.pem` is not: neither counts.
            return Ok(Self {
                ca: next,
                next: None,
                unfinished: true,
            });
        }
        let issues = says(ISSUES);
        Ok(Self {
            ca: pair(folder, CA, CA_KEY)?,
            next: Some((next, issues)),
            unfinished: false,
        })
    }

    fn stage(&self) -> Stage {
        match &self.next {
            None => Stage::Settled,
            Some((_, false)) => Stage::Begun,
            Some((_, true)) => Stage::Switched,
        }
    }
}

/// How far the folder's succession is.
///
/// # Errors
/// When there is no CA, or its files cannot be read.
pub fn course(folder: &Path) -> Result<Course, PkiError> {
    let cas = Cas::read(folder)?;
    Ok(Course {
        stage: cas.stage(),
        ca: (cas.ca.fingerprint, cas.ca.life()?),
        next: match &cas.next {
            Some((next, _)) => Some((next.fingerprint, next.life()?)),
            None => None,
        },
    })
}

/// Makes the next CA, which is believed from then on. Changes nothing if that has begun.
///
/// # Errors
/// When a file cannot be read or written; it can be repeated.
pub fn begin(folder: &Path, now: SystemTime) -> Result<Course, PkiError> {
    let _alone = lock(folder)?;
    if Cas::read(folder)?.stage() == Stage::Settled {
        perform(folder, &ending(folder)?)?; // what the one before left
        perform(folder, &beginning(now)?)?;
    }
    course(folder)
}

/// The next CA makes the certificates. Changes nothing if it does already.
///
/// # Errors
/// When there is none, or a file cannot be written; it can be repeated.
pub fn switch(folder: &Path) -> Result<Course, PkiError> {
    let _alone = lock(folder)?;
    if let Some((next, false)) = &Cas::read(folder)?.next {
        perform(folder, &[turning(ISSUES, next)])?;
    }
    course(folder)
}

/// The next CA is the only one. Changes nothing if it is.
///
/// # Errors
/// When a file cannot be read or written; it can be repeated.
pub fn end(folder: &Path) -> Result<Course, PkiError> {
    let _alone = lock(folder)?;
    perform(folder, &ending(folder)?)?;
    course(folder)
}

fn beginning(now: SystemTime) -> Result<Vec<Touch>, PkiError> {
    let (next, key) = Ca::make(now)?;
    Ok(vec![
        Touch::Write(NEXT_KEY, key.expose().to_owned(), PRIVATE),
        Touch::Write(NEXT, next.pem, PUBLIC),
    ])
}

fn turning(word: &str, next: &Ca) -> Touch {
    let text = format!("{}\n", turn_of(word, next.fingerprint));
    Touch::Write(TURN, text, PUBLIC)
}

/// All of the end, or what is left of it.
fn ending(folder: &Path) -> Result<Vec<Touch>, PkiError> {
    let cas = Cas::read(folder)?;
    let mut touches = Vec::new();
    let next = match &cas.next {
        Some((next, _)) => Some(next),
        None if folder.join(NEXT).exists() => Some(&cas.ca),
        None => None,
    };
    if let Some(next) = next {
        touches.push(turning(ALONE, next));
        let key = read(&folder.join(NEXT_KEY))?;
        touches.push(Touch::Write(CA_KEY, key, PRIVATE));
        touches.push(Touch::Write(CA, next.pem.clone(), PUBLIC));
    }
    if next.is_some() || cas.unfinished {
        touches.extend([NEXT, NEXT_KEY, TURN].map(Touch::Remove));
    }
    Ok(touches)
}

fn perform(folder: &Path, touches: &[Touch]) -> Result<(), PkiError> {
    for touch in touches {
        match touch {
            Touch::Write(name, text, mode) => {
                let path = folder.join(name);
                write_file_of_folder(&path, text.as_bytes(), *mode)
                    .map_err(|source| failed("writing", &path, source))?;
            }
            Touch::Remove(name) => {
                let path = folder.join(name);
                let removed = match fs::remove_file(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    other => other,
                };
                removed
                    .and_then(|()| File::open(folder)?.sync_all()) // one after the other, in a power cut, too
                    .map_err(|source| failed("removing", &path, source))?;
            }
        }
    }
    Ok(())
}

/// One step at a time: two that make a CA at once would mix their files.
pub(super) fn lock(folder: &Path) -> Result<File, PkiError> {
    let locked = File::open(folder).and_then(|folder| {
        folder.lock()?;
        Ok(folder)
    });
    locked.map_err(|source| failed("locking", folder, source))
}

fn pair(folder: &Path, certificate: &str, key: &str) -> Result<Ca, PkiError> {
    Ca::from_pem(read(&folder.join(certificate))?, &read(&folder.join(key))?)
}

fn turn_of(word: &str, next: Fingerprint) -> String {
    format!("{word} {next}")
}

impl Authority {
    /// How far a succession was when this was read.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.next() {
            None => Stage::Settled,
            Some(_) if self.issuer() == self.fingerprint() => Stage::Begun,
            Some(_) => Stage::Switched,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn addresses() -> Vec<String> {
        vec!["127.0.0.1".to_owned()]
    }

    /// What a start makes of a folder: how far it is, whose certificates are made, who is
    /// believed, and whose the coordinator's own certificate is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Seen {
        stage: Stage,
        issuer: Fingerprint,
        trusted: BTreeSet<Fingerprint>,
        own: Fingerprint,
    }

    fn seen(folder: &Path) -> Seen {
        let now = SystemTime::now();
        let authority = Authority::load(folder).expect("a start finds a CA");
        let (own, _) = authority
            .own(folder, &addresses(), now, 1.0)
            .expect("and has a certificate");
        assert!(own.fits());
        let trust = authority.trust().expect("and believes somebody");
        let operator = authority
            .operator(&"alice".parse().expect("a name"), now)
            .expect("signed");
        let denied = std::sync::Arc::default();
        cutover_proto::tls::check_peer(&operator.certificate_der, &trust, &denied, now)
            .expect("what it makes, it believes");
        Seen {
            stage: authority.stage(),
            issuer: authority.issuer(),
            trusted: trust.fingerprints().iter().copied().collect(),
            own: authority.fingerprint(),
        }
    }

    fn fresh() -> (tempfile::TempDir, Seen) {
        let folder = tempfile::tempdir().expect("a folder");
        Authority::init(folder.path(), &addresses(), SystemTime::now()).expect("a CA");
        let before = seen(folder.path());
        assert_eq!(before.stage, Stage::Settled);
        (folder, before)
    }

    fn copy(from: &Path) -> tempfile::TempDir {
        let to = tempfile::tempdir().expect("a folder");
        for entry in fs::read_dir(from).expect("readable") {
            let entry = entry.expect("readable");
            fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copied");
        }
        to
    }

    #[test]
    fn both_are_believed_from_begin_to_end_and_who_issues_changes_at_the_switch() {
        let (folder, old) = fresh();
        let at = folder.path();
        let next = begin(at, SystemTime::now()).expect("begun").next;
        let next = next.expect("there is one").0;
        let both = BTreeSet::from([old.own, next]);
        let begun = Seen {
            stage: Stage::Begun,
            trusted: both.clone(),
            ..old.clone()
        };
        assert_eq!(seen(at), begun);
        begin(at, SystemTime::now()).expect("again");
        assert_eq!(seen(at), begun, "once begun, it is not begun anew");

        switch(at).expect("switched");
        let switched = Seen {
            stage: Stage::Switched,
            issuer: next,
            ..begun
        };
        assert_eq!(seen(at), switched);
        begin(at, SystemTime::now()).expect("no step back");
        switch(at).expect("again");
        assert_eq!(seen(at), switched);

        end(at).expect("ended");
        let ended = Seen {
            stage: Stage::Settled,
            issuer: next,
            trusted: BTreeSet::from([next]),
            own: next,
        };
        assert_eq!(seen(at), ended);
        end(at).expect("again");
        switch(at).expect("nothing to switch to");
        assert_eq!(seen(at), ended);
        for left in [NEXT, NEXT_KEY, TURN] {
            assert!(!at.join(left).exists(), "{left}");
        }
    }

    /// Dies after each file of `touches`; then starts, repeats the step, and starts again.
    fn die_everywhere(
        folder: &Path,
        touches: &[Touch],
        repeat: impl Fn(&Path) -> Result<Course, PkiError>,
        same: impl Fn(&Seen, &Seen) -> bool,
    ) {
        let before = seen(folder);
        let whole = copy(folder);
        perform(whole.path(), touches).expect("performed");
        let after = seen(whole.path());
        assert_ne!(before, after);
        let mut crossed = false;
        for count in 0..=touches.len() {
            let dead = copy(folder);
            perform(dead.path(), &touches[..count]).expect("performed");
            let found = seen(dead.path());
            crossed |= found == after;
            let expected = if crossed { &after } else { &before };
            assert_eq!(&found, expected, "after {count} of {}", touches.len());
            repeat(dead.path()).expect("repeated");
            let repeated = seen(dead.path());
            assert!(same(&repeated, &after), "{repeated:?} {after:?}");
        }
        assert!(crossed);
    }

    #[test]
    fn p5_a_death_between_any_two_files_leaves_a_step_undone_or_done_and_it_can_be_repeated() {
        let (folder, _) = fresh();
        let at = folder.path();
        let now = SystemTime::now();
        let touches = beginning(now).expect("a CA");
        let step = |at: &Path| begin(at, now);
        // A CA whose certificate never came is made anew.
        let same = |a: &Seen, b: &Seen| a.stage == b.stage && a.own == b.own;
        die_everywhere(at, &touches, step, same);

        begin(at, now).expect("begun");
        let touches = match &Cas::read(at).expect("readable").next {
            Some((next, false)) => [turning(ISSUES, next)],
            _ => panic!("begun"),
        };
        let same = |a: &Seen, b: &Seen| a == b;
        let step = |at: &Path| switch(at);
        die_everywhere(at, &touches, step, same);

        switch(at).expect("switched");
        let touches = ending(at).expect("an end");
        assert_eq!(touches.len(), 6);
        let step = |at: &Path| end(at);
        die_everywhere(at, &touches, step, same);
        // And whatever was left does not count in the next succession.
        for count in 1..=touches.len() {
            let dead = copy(at);
            perform(dead.path(), &touches[..count]).expect("performed");
            let ended = seen(dead.path());
            begin(dead.path(), now).expect("begun");
            let begun = seen(dead.path());
            assert_eq!((begun.stage, begun.own), (Stage::Begun, ended.own));
        }
    }

    #[test]
    fn a_certificate_of_the_old_ca_is_believed_until_the_end_and_not_after() {
        let (folder, _) = fresh();
        let at = folder.path();
        let now = SystemTime::now();
        let alice = "alice".parse().expect("a name");
        let load = || Authority::load(at).expect("a CA");
        let old = load().operator(&alice, now).expect("signed");
        let believed = || {
            let trust = load().trust().expect("readable");
            let denied = std::sync::Arc::default();
            cutover_proto::tls::check_peer(&old.certificate_der, &trust, &denied, now).is_ok()
        };
        begin(at, now).expect("begun");
        switch(at).expect("switched");
        assert!(believed());
        end(at).expect("ended");
        assert!(!believed());
    }

    #[test]
    fn what_was_said_of_another_ca_moves_nothing() {
        let (folder, old) = fresh();
        let at = folder.path();
        begin(at, SystemTime::now()).expect("begun");
        for word in [ISSUES, ALONE] {
            let other = format!("{}\n", turn_of(word, old.own));
            perform(at, &[Touch::Write(TURN, other, PUBLIC)]).expect("written");
            let found = seen(at);
            assert_eq!(
                (found.stage, found.issuer),
                (Stage::Begun, old.own),
                "{word}"
            );
        }
    }
}
