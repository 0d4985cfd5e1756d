//! A program of ours, or anyone's, run as a test's child: its log kept, its end certain.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::reaper::{self, Cleanup};
use crate::wait::{self, TimedOut};

/// Printed of the log when a test fails.
const TAIL: usize = 40;
/// For a process that was killed to be gone; longer only if it hangs in the kernel.
const DEATH: Duration = Duration::from_secs(10);

/// How to start a [`Daemon`]: program, arguments, environment, place of the log.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: String,
    program: OsString,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    clear: bool,
    log: PathBuf,
}

impl Recipe {
    /// A program by path, or by name if it is in PATH (`/usr/sbin` and `/sbin` are looked at, too).
    ///
    /// Both of its outputs are appended to `log`.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>, log: impl Into<PathBuf>) -> Self {
        let program = found(program.as_ref());
        let name = Path::new(&program)
            .file_name()
            .unwrap_or(&program)
            .to_string_lossy()
            .into_owned();
        Self {
            name,
            program,
            args: Vec::new(),
            environment: Vec::new(),
            clear: false,
            log: log.into(),
        }
    }

    /// What it is called in messages, when the program's name is not enough.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Inherits nothing of our environment but PATH.
    #[must_use]
    pub fn clean_environment(mut self) -> Self {
        self.clear = true;
        self
    }

    /// Starts it.
    #[must_use]
    pub fn start(self) -> Daemon {
        let child = self.spawn();
        let cleanup = reaper::at_the_end(&killing(child.id()));
        Daemon {
            child,
            cleanup: Some(cleanup),
            exit: None,
            log_from: 0,
            recipe: self,
        }
    }

    fn spawn(&self) -> Child {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the log's folder must exist");
        let mut command = Command::new(&self.program);
        if self.clear {
            command
                .env_clear()
                .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        }
        command
            .args(&self.args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            // A group of its own, so that its children can be ended with it, and Ctrl-C at the test is not for it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|problem| {
                let hint = if problem.kind() == ErrorKind::NotFound {
                    " (is something missing? tests/setup --check)"
                } else {
                    ""
                };
                panic!("cannot start {}: {problem}{hint}", self.program.display())
            })
    }
}

/// A running (or ended) child. Dropped, it is killed with all of its process group; if the test is failing, the
/// end of its log is printed.
#[derive(Debug)]
pub struct Daemon {
    recipe: Recipe,
    child: Child,
    exit: Option<ExitStatus>,
    log_from: usize,
    cleanup: Option<Cleanup>,
}

impl Daemon {
    /// Its process id; of the last one, if it has ended.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal to the process itself, not to its children.
    pub fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            let _ = kill(self.pid(), signal);
        }
    }

    /// Whether every thread of it has been stopped by a signal.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.pid());
        let stopped = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The name before it stands in brackets, and may hold anything.
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
        };
        fs::read_dir(tasks).is_ok_and(|tasks| tasks.filter_map(Result::ok).all(stopped))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self
                .child
                .try_wait()
                .expect("a child of ours can be waited for");
        }
        self.exit
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it goes on running.
    pub async fn wait_for_end(&mut self, within: Duration) -> Result<ExitStatus, TimedOut> {
        let what = format!("{} to end", self.recipe.name);
        wait::try_until(within, &what, async || self.ended()).await
    }

    /// kill -9: no chance to tidy up. Its own children live on.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end(DEATH)
            .await
            .expect("nothing survives SIGKILL");
    }

    /// SIGTERM, and the exit code it leads to (128 + signal, if it was ended by one).
    ///
    /// # Panics
    /// When it is still there after `within`.
    pub async fn terminate(&mut self, within: Duration) -> i32 {
        self.signal(Signal::SIGTERM);
        let status = self
            .wait_for_end(within)
            .await
            .unwrap_or_else(|timed_out| panic!("after SIGTERM: {timed_out}"));
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Starts the same again, after its end. The log goes on in the same file.
    pub fn start_again(&mut self) {
        assert!(
            self.ended().is_some(),
            "{} is still running",
            self.recipe.name
        );
        self.log_from = self.whole_log().len();
        self.child = self.recipe.spawn();
        self.exit = None;
        if let Some(cleanup) = &self.cleanup {
            cleanup.replace_by(&killing(self.child.id()));
        }
    }

    /// Changes what it is started with, from the next start on: `daemon.change(|recipe| recipe.arg("-v"))`.
    pub fn change(&mut self, change: impl FnOnce(Recipe) -> Recipe) {
        self.recipe = change(self.recipe.clone());
    }

    /// What it has printed since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        self.whole_log().split_off(self.log_from)
    }

    /// What it has printed since it was first started.
    #[must_use]
    pub fn whole_log(&self) -> String {
        fs::read(&self.recipe.log).map_or_else(
            |_| String::new(),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The first line since the last start that contains `text`.
    ///
    /// # Panics
    /// With the end of the log, when the line does not come or the process ends without it.
    pub async fn wait_for_line(&mut self, text: &str, within: Duration) -> String {
        let name = self.recipe.name.clone();
        let found = wait::try_until(within, &format!("{name} to print {text:?}"), async || {
            // Asked before the log is read: what it printed before its end is found.
            let ended = self.ended();
            match self.log().lines().find(|line| line.contains(text)) {
                Some(line) => Some(Ok(line.to_owned())),
                None => ended.map(|status| {
                    Err(format!("{name} ended ({status}) without printing {text:?}"))
                }),
            }
        })
        .await;
        match found {
            Ok(Ok(line)) => line,
            Ok(Err(problem)) => panic!("{problem}\n{}", self.tail()),
            Err(timed_out) => panic!("{timed_out}\n{}", self.tail()),
        }
    }

    /// The end of its log, headed by its name.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(TAIL)..];
        format!(
            "--- last {} lines of {} ---\n{}\n---",
            last.len(),
            self.recipe.name,
            last.join("\n")
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
        // Before the child is reaped its number cannot be anyone else's; children left in its group die, too.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        if self.exit.is_none() {
            let _ = self.child.wait();
        }
        if let Some(cleanup) = self.cleanup.take() {
            cleanup.forget();
        }
    }
}

/// Where a program of this workspace was built.
///
/// # Panics
/// When it was not.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    test.ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{name} is not beside {}: run `cargo build --workspace` first",
                test.display()
            )
        })
}

/// The folder that cargo builds into, whoever made it.
///
/// # Panics
/// When this program is not where cargo puts programs.
#[must_use]
pub fn target() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    // TARGET/debug/deps/test-0123, or TARGET/debug/demo
    let mut folders = program.ancestors().skip(1);
    let profile = folders.find(|folder| !folder.ends_with("deps"));
    let target = profile.and_then(Path::parent);
    target
        .unwrap_or_else(|| panic!("{} is in no target folder", program.display()))
        .to_owned()
}

/// Servers are often not in the PATH of whoever runs tests.
fn found(program: &OsStr) -> OsString {
    if Path::new(program).components().count() > 1 {
        return program.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .map_or_else(|| program.to_owned(), Into::into)
}

fn killing(pid: u32) -> String {
    // Spelt so that dash takes it, too: it refuses `kill -9 -- -PID`.
    format!("kill -s KILL -- -{pid} 2>/dev/null; true")
}
