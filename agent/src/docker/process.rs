//! A process of a container's, by the kernel's word.
//!
//! Keeps true: a process is a container's when its cgroup names it, and it is held by a descriptor before that is looked
//! at, so that a number that was given away, or is of another namespace, misleads nobody. Does not know what it is for.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
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
        let process = Self::hold(number)?;
        if is_in(container, number)? {
            Ok(process)
        } else {
            Err(io::Error::other("it is no process of the container's"))
        }
    }

    fn hold(number: u32) -> io::Result<Self> {
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        let held = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { number, held })
    }

    /// Every process of a container's.
    ///
    /// # Errors
    /// One is there and can't be held.
    pub(super) fn all(container: &str) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let number = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(number) = number else { continue };
            // What ends meanwhile is none; what is somebody else's is not even held.
            if !is_in(container, number).unwrap_or(false) {
                continue;
            }
            match Self::of(container, number) {
                Ok(process) => all.push(process),
                Err(_) if !is_in(container, number).unwrap_or(false) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// By which people know it.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// It is the container's first one: what it hears as its signal to stop.
    pub(super) fn is_first(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.number));
        let inside = status.unwrap_or_default();
        let line = inside.lines().find_map(|line| line.strip_prefix("NSpid:"));
        line.and_then(|numbers| numbers.split_whitespace().last()) == Some("1")
    }

    /// Sends it a signal; gone already is as good.
    pub(super) fn send(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.held, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when it is gone; an error when it can't be watched.
    pub(crate) async fn gone(&self) -> io::Result<()> {
        let held = self.held.try_clone()?;
        #[expect(
            deprecated,
            reason = "unsound for a type that may change its descriptor, which an OwnedFd can't; the other way is unsafe code"
        )]
        let end = AsyncFd::with_interest(held, Interest::READABLE)?;
        end.readable().await.map(drop)
    }
}

/// Whether that process is the container's now.
pub(super) fn is_in(container: &str, number: u32) -> io::Result<bool> {
    let groups = fs::read_to_string(format!("/proc/{number}/cgroup"))?;
    Ok(names(&groups, container))
}

/// Docker calls a container's group by its id, or `docker-ID.scope` where systemd keeps the groups.
fn names(groups: &str, container: &str) -> bool {
    let scope = format!("docker-{container}.scope");
    let mut parts = groups.lines().flat_map(|line| line.split('/'));
    !container.is_empty() && parts.any(|part| part == container || part == scope)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_group_names_its_container_and_no_other() {
        for (groups, named) in [
            ("0::/docker/abc\n", true),
            ("0::/docker/abc/init.scope\n", true),
            ("0::/system.slice/docker-abc.scope\n", true),
            ("12:pids:/docker/abc\n11:memory:/docker/abc\n", true),
            ("0::/docker/abcd\n", false),
            ("0::/machine.slice/libpod-conmon-abc.scope\n", false),
            ("0::/\n", false),
        ] {
            assert_eq!(names(groups, "abc"), named, "{groups}");
        }
        assert!(!names("0::/\n", ""), "no container is every container");
    }

    #[tokio::test]
    async fn a_process_of_another_cgroup_is_not_held() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        Process::of("no-such-container", child.id()).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_told() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::hold(child.id()).unwrap();
        assert!(!process.is_first());
        let watch = tokio::spawn(async move { process.gone().await });
        child.kill().unwrap();
        watch.await.unwrap().unwrap();
        child.wait().unwrap();
    }
}
