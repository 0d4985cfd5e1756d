//! One coordinator a store: a file that is locked as long as the store is open.
//!
//! Keeps true: the lock falls with its process, however that ends. What is in
//! the file is for people; the lock is what counts.
//!
//! Does not know what is being kept from others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held while it lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoLock {
    /// Another process has it; the text names it.
    Held(Option<String>),
    /// The file could not be used.
    Files(io::Error),
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, NoLock> {
        let mut options = OpenOptions::new();
        let options = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = options.open(path).map_err(NoLock::Files)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // Whoever is refused later reads this; that it is missing harms nobody else.
                let _ = file
                    .set_len(0)
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                Ok(Self { _file: file })
            }
            Err((_, Errno::EWOULDBLOCK)) => Err(NoLock::Held(holder(path))),
            Err((_, errno)) => Err(NoLock::Files(errno.into())),
        }
    }
}

fn holder(path: &Path) -> Option<String> {
    let pid: u32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => Some(format!("pid {pid} ({})", name.trim())),
        // In another pid namespace, or gone this instant.
        Err(_) => Some(format!("pid {pid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_is_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let first = Lock::take(&path).expect("nobody has it");
        let Err(NoLock::Held(Some(holder))) = Lock::take(&path) else {
            panic!("the second was let in, or not told");
        };
        assert!(
            holder.starts_with(&format!("pid {} (", std::process::id())),
            "{holder}"
        );
        drop(first);
        Lock::take(&path).expect("free again");
    }
}
