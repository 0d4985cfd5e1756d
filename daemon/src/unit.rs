//! Our units, as systemd knows them: whether one is there and runs, and starting it.
//!
//! The one place that runs `systemctl`. Kept true: a unit is called started only
//! when it is seen to run (one whose condition is not met is started for systemd,
//! and does nothing); every call has a deadline; nothing is enabled or stopped.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::process::Command;

/// The agent's.
pub const AGENT: &str = "cutover-agent";
/// The coordinator's.
pub const COORDINATOR: &str = "cutover-coordinator";

/// There while systemd runs this machine, and else not.
const SYSTEMD_RUNS: &str = "/run/systemd/system";
/// It answers from memory; at boot it may be busy.
const LOOK_WITHIN: Duration = Duration::from_secs(20);
/// A start ends when the service says that it is ready: a large store takes its time after a
/// crash, for which its unit has five minutes.
const START_WITHIN: Duration = Duration::from_secs(6 * 60);

/// The systemd that runs this machine.
#[derive(Clone, Debug)]
pub struct Systemd {
    /// What speaks with it.
    program: OsString,
    /// Before all other arguments.
    arguments: Vec<OsString>,
}

/// Where a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No file describes it.
    Absent,
    /// Somebody forbade it.
    Masked,
    /// It is there and does not run; it failed, or is being started again and again, too.
    Rests,
    /// It is up.
    Runs,
}

/// What a start came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It runs now.
    Now,
    /// It ran before.
    Before,
}

/// Why a unit was not started.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// There is no systemctl, or it can't be run.
    #[error("could not run systemctl; start the service by hand: systemctl start {unit}")]
    Run {
        /// Which unit.
        unit: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error(
        "systemd could not {doing} {unit}: {said}; `journalctl -u {unit} -n 50` says more, then: systemctl start {unit}"
    )]
    Refused {
        /// Start it, or look at it.
        doing: &'static str,
        /// Which unit.
        unit: String,
        /// Its words.
        said: String,
    },
    /// It did not end.
    #[error(
        "systemctl did not {doing} {unit} within {seconds} s; `systemctl list-jobs` and `journalctl -u {unit} -n 50` say \
         what it waits for"
    )]
    Hung {
        /// Start it, or look at it.
        doing: &'static str,
        /// Which unit.
        unit: String,
        /// How long it had.
        seconds: u64,
    },
    /// Nothing describes the unit.
    #[error(
        "systemd knows no unit {unit}: install its package (apt-get install {unit}), then: systemctl start {unit}"
    )]
    Absent {
        /// Which unit.
        unit: String,
    },
    /// Somebody forbade it.
    #[error(
        "the unit {unit} is masked, so it can't be started: systemctl unmask {unit}, then: systemctl start {unit}"
    )]
    Masked {
        /// Which unit.
        unit: String,
    },
    /// systemd is content, and nothing runs.
    #[error(
        "systemd started {unit}, and it does not run; `systemctl status {unit}` and `journalctl -u {unit} -n 50` say why"
    )]
    NotUp {
        /// Which unit.
        unit: String,
    },
}

/// Makes a unit run, where this is root's to do: `None` when systemd does not run this machine,
/// does not know the unit, or we are not root. Somebody else starts the service then.
///
/// # Errors
/// Why it does not run, and what to do.
pub async fn start_here(unit: &str) -> Result<Option<Started>, UnitError> {
    let Some(systemd) = Systemd::here().filter(|_| geteuid().is_root()) else {
        return Ok(None);
    };
    match systemd.look(unit).await? {
        State::Absent => Ok(None),
        State::Masked | State::Rests | State::Runs => systemd.start(unit).await.map(Some),
    }
}

impl Systemd {
    /// The one that runs this machine, if one does.
    #[must_use]
    pub fn here() -> Option<Self> {
        Path::new(SYSTEMD_RUNS).is_dir().then(|| Self {
            program: "systemctl".into(),
            arguments: Vec::new(),
        })
    }

    /// Where a unit stands.
    ///
    /// # Errors
    /// When systemd does not say.
    pub async fn look(&self, unit: &str) -> Result<State, UnitError> {
        let arguments = ["show", "--property=LoadState,ActiveState", unit];
        let said = self.ask("look at", unit, &arguments, LOOK_WITHIN).await?;
        let value = |key: &str| {
            said.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_default()
        };
        Ok(match (value("LoadState"), value("ActiveState")) {
            ("not-found", _) => State::Absent,
            ("masked", _) => State::Masked,
            (_, "active" | "reloading") => State::Runs,
            _ => State::Rests,
        })
    }

    /// Makes a unit run, and waits until its service said that it is up.
    ///
    /// # Errors
    /// Why it does not run, and what to do.
    pub async fn start(&self, unit: &str) -> Result<Started, UnitError> {
        let name = || unit.to_owned();
        match self.look(unit).await? {
            State::Runs => return Ok(Started::Before),
            State::Absent => return Err(UnitError::Absent { unit: name() }),
            State::Masked => return Err(UnitError::Masked { unit: name() }),
            State::Rests => {}
        }
        self.ask("start", unit, &["start", unit], START_WITHIN)
            .await?;
        match self.look(unit).await? {
            State::Runs => Ok(Started::Now),
            State::Absent | State::Masked | State::Rests => Err(UnitError::NotUp { unit: name() }),
        }
    }

    async fn ask(
        &self,
        doing: &'static str,
        unit: &str,
        arguments: &[&str],
        within: Duration,
    ) -> Result<String, UnitError> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let unit = unit.to_owned();
        match tokio::time::timeout(within, command.output()).await {
            Ok(Ok(output)) if output.status.success() => {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Ok(Ok(output)) => {
                let words = String::from_utf8_lossy(&output.stderr);
                let words: Vec<&str> = words.split_whitespace().collect();
                let said = if words.is_empty() {
                    output.status.to_string()
                } else {
                    words.join(" ").trim_end_matches('.').to_owned()
                };
                Err(UnitError::Refused { doing, unit, said })
            }
            Ok(Err(source)) => Err(UnitError::Run { unit, source }),
            Err(_) => Err(UnitError::Hung {
                doing,
                unit,
                seconds: within.as_secs(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A systemctl that has one unit: `state` says how it stands, `start` is what a start does.
    fn systemd(folder: &Path, state: &str, start: &str) -> Systemd {
        fs::write(folder.join("state"), state).expect("written");
        let program = folder.join("systemctl");
        let folder = folder.display();
        let text = format!(
            "set -eu\ncase $1 in\nshow) cat {folder}/state ;;\nstart) echo \"$2\" >>{folder}/started; {start} ;;\nesac\n"
        );
        fs::write(&program, text).expect("written");
        Systemd {
            program: "sh".into(),
            arguments: vec![program.into()],
        }
    }

    const RESTS: &str = "LoadState=loaded\nActiveState=inactive\n";
    const RUNS: &str = "LoadState=loaded\nActiveState=active\n";

    #[tokio::test]
    async fn a_unit_that_rests_is_started_once_and_one_that_runs_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state").display().to_string();
        let start = format!("printf 'LoadState=loaded\\nActiveState=active\\n' >{state}");
        let systemd = systemd(folder.path(), RESTS, &start);
        assert_eq!(systemd.start(AGENT).await.expect("starts"), Started::Now);
        assert_eq!(systemd.start(AGENT).await.expect("runs"), Started::Before);
        let started = fs::read_to_string(folder.path().join("started")).expect("it was");
        assert_eq!(started, "cutover-agent\n");
    }

    #[tokio::test]
    async fn one_that_is_not_there_or_masked_says_the_command_that_mends_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for (state, mend) in [
            (
                "LoadState=not-found\nActiveState=inactive\n",
                "apt-get install cutover-agent",
            ),
            (
                "LoadState=masked\nActiveState=inactive\n",
                "systemctl unmask cutover-agent",
            ),
        ] {
            let error = systemd(folder.path(), state, "true")
                .start(AGENT)
                .await
                .expect_err(state);
            assert!(error.to_string().contains(mend), "{error}");
        }
        assert!(!folder.path().join("started").exists());
    }

    #[tokio::test]
    async fn a_start_that_fails_or_starts_nothing_is_an_error_with_the_journal_to_read() {
        let folder = tempfile::tempdir().expect("a folder");
        // A condition that is not met: systemctl ends with 0.
        let nothing = systemd(folder.path(), RESTS, "true").start(AGENT).await;
        let nothing = nothing.expect_err("nothing runs").to_string();
        assert!(nothing.contains("does not run"), "{nothing}");
        let fails = "echo 'Job for it failed.' >&2; exit 1";
        let failed = systemd(folder.path(), RESTS, fails).start(AGENT).await;
        let failed = failed.expect_err("it failed").to_string();
        assert!(failed.contains("Job for it failed;"), "{failed}");
        for said in [nothing, failed] {
            assert!(said.contains("journalctl -u cutover-agent"), "{said}");
        }
        let none = Systemd {
            program: folder.path().join("none").into(),
            arguments: Vec::new(),
        };
        let error = none.start(AGENT).await.expect_err("there is none");
        assert!(error.to_string().contains("could not run systemctl"));
    }

    #[tokio::test]
    async fn one_that_is_up_or_reloading_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        for (state, stands) in [
            (RUNS, State::Runs),
            ("LoadState=loaded\nActiveState=reloading\n", State::Runs),
            ("LoadState=loaded\nActiveState=failed\n", State::Rests),
            ("LoadState=loaded\nActiveState=activating\n", State::Rests),
        ] {
            let looked = systemd(folder.path(), state, "true").look(AGENT).await;
            assert_eq!(looked.expect("it says"), stands, "{state}");
        }
    }
}
