//! Folders, loopback addresses and numbers that no other test process has at the same time.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use nix::fcntl::{Flock, FlockArg};

use crate::reaper::{self, Cleanup};

/// A folder that is gone at the end, unless `CUTOVER_TEST_KEEP` is set.
///
/// Other users may enter it (nginx's workers do), and its path is short enough for a Unix socket below it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _cleanup: Option<Cleanup>,
}

impl Scratch {
    /// A new, empty one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = base().join(format!(
            "{}-{}-{name}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary directory must be writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let keep = std::env::var_os("CUTOVER_TEST_KEEP").is_some();
        let _cleanup =
            (!keep).then(|| reaper::at_the_end(&format!("rm -rf {}", reaper::quoted(&path))));
        Self { path, _cleanup }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new folder in it, open to other users.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("a scratch folder is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }
}

/// The addresses 127.0.N.1 to 127.0.N.254, N being ours as long as this lives.
///
/// All ports of them are free, since nobody else uses the addresses.
#[derive(Debug)]
pub struct Loopback {
    claim: Claim,
    port: AtomicU16,
}

impl Loopback {
    /// 127.0.1.1 to 127.0.1.254, which the demo shows people.
    #[must_use]
    pub fn of_the_demo() -> Self {
        Self {
            claim: Claim::of("loopback", 1..=1, |_| true),
            port: AtomicU16::new(10_000),
        }
    }

    /// The next free block.
    #[must_use]
    pub fn claim() -> Self {
        Self {
            claim: Claim::of("loopback", 2..=250, |_| true),
            port: AtomicU16::new(10_000),
        }
    }

    /// 127.0.N.`host`: one for each host of a fleet.
    #[must_use]
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, self.claim.number, host)
    }

    /// An address with a port that nothing listens on, not even a wildcard.
    #[must_use]
    pub fn free_port(&self, host: u8) -> SocketAddr {
        loop {
            let address = SocketAddr::from((
                self.address(host),
                self.port.fetch_add(1, Ordering::Relaxed),
            ));
            if TcpListener::bind(address).is_ok() {
                return address;
            }
        }
    }
}

/// A number out of a range, ours as long as this lives; the kernel lets go of it when the process is gone.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) number: u8,
    _held: Flock<File>,
}

impl Claim {
    pub(crate) fn of(
        what: &str,
        range: std::ops::RangeInclusive<u8>,
        usable: impl Fn(u8) -> bool,
    ) -> Self {
        // Beginning at a place of our own makes a meeting rare; the lock makes it harmless.
        let numbers: Vec<u8> = range.collect();
        let first = std::process::id() as usize % numbers.len();
        for number in numbers
            .iter()
            .cycle()
            .skip(first)
            .take(numbers.len())
            .copied()
        {
            if !usable(number) {
                continue;
            }
            let path = base().join(format!("{what}-{number}.lock"));
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .expect("the scratch base is writable");
            if let Ok(held) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                return Self {
                    number,
                    _held: held,
                };
            }
        }
        panic!("no {what} number is free: are test processes left over from earlier?");
    }
}

/// One folder a user, so that tests as root and as oneself do not meet.
fn base() -> PathBuf {
    let path = std::env::temp_dir().join(format!("cutover-rig-{}", nix::unistd::geteuid()));
    fs::create_dir_all(&path).expect("the temporary directory must be writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_never_give_the_same_addresses() {
        let (one, other) = (Loopback::claim(), Loopback::claim());
        assert_ne!(one.address(1), other.address(1));
        assert_ne!(one.free_port(1), one.free_port(1));
    }

    #[test]
    fn a_scratch_folder_is_gone_when_dropped() {
        let path = {
            let scratch = Scratch::new("gone");
            fs::write(scratch.folder("a").join("b"), "c").unwrap();
            scratch.path().to_owned()
        };
        assert!(!path.exists());
    }
}
