//! Ends what a test process leaves behind, even one that was killed.
//!
//! A small shell in a session of its own reads from a pipe that only this process holds. When the process is gone,
//! by whatever way, the pipe is at its end and the shell runs the clean-up scripts that are in its folder, the
//! newest first. (A death signal on the children would miss grandchildren: Docker's shims, nginx's workers. And it
//! fires when the *thread* that started them ends, which for a test is too early.)

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Reaper {
    folder: PathBuf,
    /// Never written to; its end is the message.
    _held: ChildStdin,
}

/// A clean-up that will happen: now, when this is dropped, or when the process is gone.
#[derive(Debug)]
pub struct Cleanup {
    script: PathBuf,
}

static REAPER: OnceLock<Reaper> = OnceLock::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Registers shell commands to be run once. They must do no harm when their work is already done.
#[must_use]
pub fn at_the_end(commands: &str) -> Cleanup {
    let reaper = REAPER.get_or_init(start);
    let script = reaper
        .folder
        .join(format!("{:06}.sh", NEXT.fetch_add(1, Ordering::Relaxed)));
    let cleanup = Cleanup { script };
    cleanup.replace_by(commands);
    cleanup
}

impl Cleanup {
    /// What is to be done has changed, for instance because a process was started anew.
    pub fn replace_by(&self, commands: &str) {
        // By rename, so that the reaper never reads half a script.
        let new = self.script.with_extension("new");
        fs::write(&new, commands)
            .and_then(|()| fs::rename(&new, &self.script))
            .expect("the reaper's folder must be writable");
    }

    /// Nothing is left to be done.
    pub fn forget(self) {
        let _ = fs::remove_file(&self.script);
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if self.script.exists() {
            let _ = Command::new("sh")
                .arg(&self.script)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            let _ = fs::remove_file(&self.script);
        }
    }
}

fn start() -> Reaper {
    let folder = std::env::temp_dir().join(format!("cutover-reaper-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the temporary directory must be writable");
    #[expect(clippy::zombie_processes, reason = "it ends after us")]
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(r#"trap '' INT TERM HUP; read -r _; for script in $(ls -r "$1"/*.sh 2>/dev/null); do sh "$script"; done; rm -rf "$1""#)
        .arg("cutover-reaper")
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Apart from our group: what kills the group of a test must not kill the one that cleans up after it.
        .process_group(0)
        .spawn()
        .expect("sh must be startable");
    let held = child
        .stdin
        .take()
        .expect("its standard input was asked for");
    Reaper {
        folder,
        _held: held,
    }
}

/// Quotes a path for the scripts.
#[must_use]
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_cleanup_runs_once_and_a_forgotten_one_never() {
        let dir = tempfile::tempdir().unwrap();
        let (ran, not) = (dir.path().join("ran"), dir.path().join("not"));
        drop(at_the_end(&format!("echo x >> {}", quoted(&ran))));
        at_the_end(&format!("echo x >> {}", quoted(&not))).forget();
        assert_eq!(fs::read_to_string(ran).unwrap(), "x\n");
        assert!(!not.exists());
    }
}
