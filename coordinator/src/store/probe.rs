//! Looks at the whole database before it is trusted, in a process that may die of it.
//!
//! sled answers damage with errors, with panics, and now and then by quietly
//! leaving records out. A shipped binary aborts on a panic; so another process,
//! the same program with a hidden argument, reads every record first and compares
//! them with the tally.
//!
//! Keeps true: only what speaks of the files themselves counts as damage. A disk
//! that is full, a probe that was killed or took too long is no damage.
//!
//! Does not know what to do about damage.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use super::batch::meta;
use super::engine::{Engine, EngineError, Trouble};
use super::key::Table;
use super::value::{self, Tally};

/// The cache that is enough for reading everything once.
const CACHE: u64 = 4 << 20;
/// Marks the line that is the answer among whatever else is printed.
const ANSWER: &str = "store-probe: ";
/// Tells the probe for whom it looks, by pid.
const FOR: &str = "CUTOVER_STORE_PROBE_FOR";
const DAMAGED: u8 = 65;
const ENVIRONMENT: u8 = 74;

/// How the database is looked at before it is opened.
#[derive(Clone, Debug)]
pub enum Probe {
    /// By another process: `program args… DIR`, which calls [`probe_main`].
    Process {
        /// The program.
        program: PathBuf,
        /// What comes before the directory.
        args: Vec<OsString>,
        /// How long it may take.
        within: Duration,
    },
    /// By a thread of this process. A panic is caught, unless the program was
    /// built to abort on one: for tests.
    Here,
}

impl Probe {
    /// How long reading a store may take.
    pub const WITHIN: Duration = Duration::from_secs(120);

    /// This program again, with `argument` before the directory.
    ///
    /// # Errors
    /// If the system does not say which program this is.
    pub fn own(argument: &str) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self::Process {
            program,
            args: vec![argument.into()],
            within: Self::WITHIN,
        })
    }
}

/// What a look at the database found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Whole,
    Damaged(String),
    /// Nothing could be found out.
    Unknown(String),
}

impl Probe {
    pub(super) fn look(&self, dir: &Path) -> Finding {
        match self {
            Self::Here => look_in_thread(dir),
            Self::Process {
                program,
                args,
                within,
            } => look_in_process(program, args, *within, dir),
        }
    }
}

/// The other side of [`Probe::Process`]: reads the whole database in `dir`, says
/// what it found on standard output, and ends accordingly.
#[must_use]
pub fn probe_main(dir: &Path) -> ExitCode {
    if let Err(why) = end_with_parent() {
        let _ = writeln!(io::stdout().lock(), "\n{ANSWER}{why}");
        return ExitCode::from(ENVIRONMENT);
    }
    let (code, text) = match inspect(dir) {
        Finding::Whole => (0, "whole".to_owned()),
        Finding::Damaged(why) => (DAMAGED, why),
        Finding::Unknown(why) => (ENVIRONMENT, why),
    };
    // Nobody listens: the exit code alone then has to say it.
    let _ = writeln!(io::stdout().lock(), "\n{ANSWER}{text}");
    ExitCode::from(code)
}

/// A probe that outlived its coordinator would hold the file that the next one
/// wants to open. The signal comes when the thread that started it ends, and that one
/// waits for the answer.
fn end_with_parent() -> Result<(), String> {
    let Ok(parent) = std::env::var(FOR) else {
        return Ok(()); // started by hand
    };
    set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| format!("cannot bind to its parent: {errno}"))?;
    if getppid().to_string() == parent {
        return Ok(());
    }
    Err("whoever asked is gone".to_owned())
}

fn inspect(dir: &Path) -> Finding {
    match Engine::open(dir, CACHE, true).and_then(|engine| read_all(&engine)) {
        Ok(finding) => finding,
        Err(EngineError {
            trouble: Trouble::Damaged,
            source,
        }) => Finding::Damaged(source.to_string()),
        Err(EngineError {
            trouble: Trouble::Environment | Trouble::Locked,
            source,
        }) => Finding::Unknown(source.to_string()),
    }
}

fn read_all(engine: &Engine) -> Result<Finding, EngineError> {
    let own = Table::Meta.full(&meta::tally());
    let mut found = Tally::default();
    for record in engine.all() {
        let (key, value) = record?;
        if key != own {
            found.add(&key, &value);
        }
    }
    let expected = match engine.get(&own)? {
        Some(value) => match value::decode::<Tally>(&value) {
            Ok(tally) => tally,
            Err(error) => {
                return Ok(Finding::Damaged(format!(
                    "its tally is unreadable: {error}"
                )));
            }
        },
        None => Tally::default(),
    };
    if found.agrees(&expected) {
        return Ok(Finding::Whole);
    }
    let (has, should) = (found.records, expected.records);
    Ok(Finding::Damaged(if has == should {
        "a record is not what was written".to_owned()
    } else {
        format!("it holds {has} records and should hold {should}")
    }))
}

fn look_in_thread(dir: &Path) -> Finding {
    let dir = dir.to_owned();
    match std::thread::spawn(move || inspect(&dir)).join() {
        Ok(finding) => finding,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Finding::Damaged(format!("reading it panics: {}", text.unwrap_or_default()))
        }
    }
}

fn look_in_process(program: &Path, args: &[OsString], within: Duration, dir: &Path) -> Finding {
    let mut command = Command::new(program);
    command
        .args(args)
        .arg(dir)
        .env("RUST_BACKTRACE", "0")
        .env(FOR, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return Finding::Unknown(format!("{} did not start: {error}", program.display()));
        }
    };
    let pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    match told.recv_timeout(within) {
        Ok(Ok(output)) => judge(&output),
        Ok(Err(error)) => Finding::Unknown(format!("waiting for the probe failed: {error}")),
        Err(_) => {
            // The thread still waits for it, so the number is not another's yet.
            if let Some(pid) = pid {
                let _ = kill(pid, Signal::SIGKILL);
            }
            Finding::Unknown(format!("reading all of it took longer than {within:?}"))
        }
    }
}

fn judge(output: &Output) -> Finding {
    use std::os::unix::process::ExitStatusExt;

    let said = String::from_utf8_lossy(&output.stdout);
    let answer = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(ANSWER));
    let last_words = || {
        let errors = String::from_utf8_lossy(&output.stderr);
        let mut lines = errors
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty());
        // Of a panic the line after the one that says where.
        let first = lines.next().unwrap_or("it said nothing");
        let words = if first.contains("panicked at") {
            lines.next().unwrap_or(first)
        } else {
            first
        };
        words.to_owned()
    };
    match (output.status.code(), answer) {
        (Some(0), Some("whole")) => Finding::Whole,
        (Some(code), Some(why)) if code == i32::from(DAMAGED) => Finding::Damaged(why.to_owned()),
        (Some(code), Some(why)) if code == i32::from(ENVIRONMENT) => {
            Finding::Unknown(why.to_owned())
        }
        // What a panic ends with, where it does not abort.
        (Some(101), _) => Finding::Damaged(format!("reading it panics: {}", last_words())),
        (Some(code), _) => {
            Finding::Unknown(format!("the probe ended with {code}: {}", last_words()))
        }
        (None, _) => match output.status.signal() {
            Some(signal) if is_crash(signal) => {
                Finding::Damaged(format!("reading it crashes: {}", last_words()))
            }
            signal => Finding::Unknown(format!(
                "the probe was ended by signal {}",
                signal.unwrap_or(0)
            )),
        },
    }
}

/// Signals that a program brings upon itself.
fn is_crash(signal: i32) -> bool {
    [
        Signal::SIGABRT,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
    ]
    .iter()
    .any(|own| *own as i32 == signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, within: Duration) -> Finding {
        let args = ["-c".into(), script.into(), "probe".into()];
        look_in_process(Path::new("/bin/sh"), &args, within, Path::new("/nowhere"))
    }

    #[test]
    fn only_what_speaks_of_the_files_is_damage() {
        let within = Duration::from_secs(20);
        assert_eq!(shell("echo 'store-probe: whole'", within), Finding::Whole);
        assert_eq!(
            shell("echo 'store-probe: torn'; exit 65", within),
            Finding::Damaged("torn".into())
        );
        assert_eq!(
            shell("echo 'store-probe: no room'; exit 74", within),
            Finding::Unknown("no room".into())
        );
        assert!(
            matches!(shell("echo oh >&2; exit 101", within), Finding::Damaged(why) if why.contains("oh"))
        );
        assert!(matches!(
            shell("kill -ABRT $$", within),
            Finding::Damaged(_)
        ));
        assert!(matches!(
            shell("kill -KILL $$", within),
            Finding::Unknown(_)
        ));
        assert!(matches!(shell("exit 2", within), Finding::Unknown(_)));
        assert!(matches!(
            shell("exec sleep 60", Duration::from_millis(50)),
            Finding::Unknown(_)
        ));
    }
}
