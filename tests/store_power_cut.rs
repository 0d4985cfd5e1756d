//! A power cut loses nothing that was acknowledged (P3, P5), and this test would
//! notice if it did.
//!
//! The cut: an ext4 of our own is told to shut down without writing its journal
//! (`EXT4_IOC_SHUTDOWN`, no log flush) amid writing. Nothing survives that was not
//! forced to disk. What then lies on its disk is copied, and the copy is mounted: the
//! file system that was shut down may live on where another process has a copy of
//! the mount. Needs root and a loop device.
#![allow(clippy::print_stderr)] // what was counted is worth reading

#[path = "store_rig.rs"]
mod rig;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cutover_coordinator::store::Store;
use rig::{Writer, linger, lost, options};

/// `_IOR('X', 125, __u32)` with the flag "no log flush". Perl, because this
/// workspace has no unsafe code.
const SHUTDOWN: &str = r#"
    use Fcntl;
    sysopen(my $dir, $ARGV[0], O_RDONLY | O_DIRECTORY) or die "open: $!";
    ioctl($dir, 0x8004587d, my $flag = pack("L", 2)) or die "ioctl: $!";
"#;

struct Disk {
    dir: tempfile::TempDir,
    /// How many disks there were before this one.
    copies: u32,
    mounted: bool,
}

impl Disk {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut disk = Self {
            dir,
            copies: 0,
            mounted: false,
        };
        let image = std::fs::File::create(disk.image()).expect("makes");
        image.set_len(96 << 20).expect("makes room");
        let made = run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &disk.image()]);
        (made && disk.mount()).then_some(disk)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join(format!("image-{}", self.copies))
    }

    fn mount_point(&self) -> PathBuf {
        self.dir.path().join(format!("mnt-{}", self.copies))
    }

    fn state(&self) -> PathBuf {
        self.mount_point().join("state")
    }

    fn mount(&mut self) -> bool {
        std::fs::create_dir(self.mount_point()).expect("makes");
        self.mounted = run(
            "mount",
            &[
                "-o".as_ref(),
                "loop".as_ref(),
                &self.image(),
                &self.mount_point(),
            ],
        );
        self.mounted
    }

    fn unmount(&mut self) {
        // A thread of the database may still be letting go of its file.
        let began = Instant::now();
        while self.mounted && began.elapsed() < Duration::from_secs(10) {
            self.mounted = !run("umount", &[&self.mount_point()]);
        }
        assert!(!self.mounted, "unmounts");
    }

    /// Goes on with a copy of what is on the disk.
    fn swap(&mut self) {
        let old = self.image();
        self.unmount();
        self.copies += 1;
        std::fs::copy(old, self.image()).expect("copies");
        assert!(self.mount(), "mounts the copy");
    }

    fn cut(&self) {
        let cut = run(
            "perl",
            &["-e".as_ref(), SHUTDOWN.as_ref(), &self.mount_point()],
        );
        assert!(cut, "the file system shuts down");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            run("umount", &["-l".as_ref(), &self.mount_point()]);
        }
    }
}

fn run(program: &str, args: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

struct Outcome {
    acked: usize,
    /// What was lost, or why the store did not open.
    lost: Vec<String>,
}

/// One cut; `before` many clean sessions went before it.
fn one_cut(number: u64, sessions_before: u64, words: &[&str]) -> Option<Outcome> {
    let mut disk = Disk::new()?;
    let mut acked = Vec::new();
    for session in 0..sessions_before {
        let writer = Writer::start(&disk.state(), &format!("s{session}"), words);
        writer.wait_ready();
        linger(Duration::from_millis(400));
        acked.extend(writer.kill());
        disk.swap();
    }
    let writer = Writer::start(&disk.state(), "cut", words);
    writer.wait_acked();
    linger(Duration::from_millis(150 + number * 211 % 1500));
    disk.cut();
    acked.extend(writer.kill());
    disk.swap();
    let lost = match Store::open(&disk.state(), &options()) {
        Ok(opened) => match opened.recovery {
            Some(recovery) => vec![format!("made anew: {}", recovery.reason)],
            None => lost(&opened.store, &acked),
        },
        Err(error) => vec![chain(&error)],
    };
    disk.unmount();
    Some(Outcome {
        acked: acked.len(),
        lost,
    })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn skipped(test: &str) {
    cutover_tests::skipped(test, "it needs root and a loop device");
}

#[test]
fn p3_sixteen_power_cuts_lose_nothing_acknowledged() {
    let (mut acked, mut fresh, mut reopened) = (0, 0, 0);
    for number in 0..16 {
        let again = number % 2;
        let Some(outcome) = one_cut(number, again, &[]) else {
            return skipped("p3_sixteen_power_cuts_lose_nothing_acknowledged");
        };
        assert_eq!(
            outcome.lost,
            Vec::<String>::new(),
            "cut {number}, reopened: {again}"
        );
        assert!(outcome.acked > 0, "cut {number} came before any write");
        acked += outcome.acked;
        fresh += 1 - again;
        reopened += again;
    }
    eprintln!(
        "{fresh} cuts of fresh and {reopened} of reopened stores: {acked} acknowledged, none lost"
    );
}

#[test]
fn without_fdatasync_the_same_cuts_do_lose_so_the_test_can_fail() {
    const CUTS: u64 = 4;
    let mut losing = 0;
    for number in 0..CUTS {
        let Some(outcome) = one_cut(number, number % 2, &["no-fdatasync"]) else {
            return skipped("without_fdatasync_the_same_cuts_do_lose_so_the_test_can_fail");
        };
        let first = outcome
            .lost
            .first()
            .cloned()
            .unwrap_or_else(|| "nothing".to_owned());
        eprintln!(
            "cut {number}: of {} acknowledged {} lost, first: {first}",
            outcome.acked,
            outcome.lost.len()
        );
        losing += u64::from(!outcome.lost.is_empty());
    }
    assert!(
        losing > 0,
        "{CUTS} cuts without fdatasync lost nothing: this machine does not simulate a power cut"
    );
}
