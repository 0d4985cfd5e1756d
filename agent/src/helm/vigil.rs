//! The end of a replica's process, by the kernel's word.
//!
//! The engine tells of a death when it has tidied up after it, tens of milliseconds later and more on a busy host. A
//! process's own descriptor is readable at once. Keeps true: a process is watched only when its cgroup names the
//! container, so that a number that was given away, or is of another namespace, misleads nobody. What can't be
//! watched (an old kernel) is not: the engine tells of it all the same. Does not know what follows.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Returns when the process is gone; an error when it can't be watched.
pub(super) async fn gone(process: u32, container: &str) -> io::Result<()> {
    let number = i32::try_from(process).ok().and_then(Pid::from_raw);
    let number = number.ok_or(io::ErrorKind::InvalidInput)?;
    let held: OwnedFd = pidfd_open(number, PidfdFlags::NONBLOCK)?;
    // Held first, then looked at: from here on the number is nobody else's.
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    if !groups.contains(container) {
        return Err(io::Error::other("it is no process of the container's"));
    }
    #[expect(
        deprecated,
        reason = "unsound for a type that may change its descriptor, which an OwnedFd can't; the other way is unsafe code"
    )]
    let end = AsyncFd::with_interest(held, Interest::READABLE)?;
    end.readable().await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_process_of_another_cgroup_is_not_watched() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let watched = gone(child.id(), "no-such-container").await;
        assert!(watched.is_err());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        let line = groups.lines().next().unwrap().to_owned();
        let process = child.id();
        let watch = tokio::spawn(async move { gone(process, &line).await });
        child.kill().unwrap();
        watch.await.unwrap().unwrap();
        child.wait().unwrap();
    }
}
