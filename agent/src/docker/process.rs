//! A process of a container's, by the kernel's word.
//!
//! Keeps true: a process is a container's when its cgroup names it, and it is held by a descriptor before that is looked
//! at, so that a number that was given away, or is of another namespace, misleads nobody. Does not know what it is for.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, held: its number is nobody else's as long as this is kept.
#[derive(Debug)]
pub(crate) struct Process {
    number: u32,
    held: OwnedFd,
}

impl Process {
    /// An error when it is gone, can't be held (an old kernel), or is no process of that container's.
    pub(crate) fn of(container: &str, number: u32) -> io::Result<Self> {
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        let held = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        if is_in(container, number)? {
            Ok(Self { number, held })
        } else {
            Err(io::Error::other("it is no process of the container's"))
        }
    }

    /// Every process of a container's that can be held.
    pub(super) fn all(container: &str) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let number = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            // What ends meanwhile is none; what is somebody else's is not even held.
            if let Some(number) = number
                && is_in(container, number).unwrap_or(false)
                && let Ok(process) = Self::of(container, number)
            {
                all.push(process);
            }
        }
        Ok(all)
    }

    /// By which people know it.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Sends SIGKILL; gone already is as good.
    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(&self.held, Signal::KILL);
    }

    /// Returns when it is gone; an error when it can't be watched.
    pub(crate) async fn gone(self) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "unsound for a type that may change its descriptor, which an OwnedFd can't; the other way is unsafe code"
        )]
        let end = AsyncFd::with_interest(self.held, Interest::READABLE)?;
        end.readable().await.map(drop)
    }
}

fn is_in(container: &str, number: u32) -> io::Result<bool> {
    let groups = fs::read_to_string(format!("/proc/{number}/cgroup"))?;
    Ok(!container.is_empty() && groups.contains(container))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_process_of_another_cgroup_is_not_held() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        Process::of("no-such-container", child.id()).unwrap_err();
        Process::of("", child.id()).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        let line = groups.lines().next().unwrap();
        let process = Process::of(line, child.id()).unwrap();
        let watch = tokio::spawn(process.gone());
        child.kill().unwrap();
        watch.await.unwrap().unwrap();
        child.wait().unwrap();
    }
}
