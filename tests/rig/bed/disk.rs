//! A small disk of its own for a machine: soon full, and it can break.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::reaper::{self, Cleanup};
use crate::scratch::Scratch;

/// As many files and folders as it can hold: enough for a few images and containers.
const FILES: &str = "8192";

/// An ext4 file system in a file, mounted here, for a machine to have as one of its folders.
#[derive(Debug)]
pub struct Disk {
    // In the order of their end.
    _unmounting: Cleanup,
    scratch: Scratch,
}

impl Disk {
    /// A new one of so many MiB.
    ///
    /// # Panics
    /// When it can't be made or mounted.
    #[must_use]
    pub fn new(mebibytes: u32) -> Self {
        let scratch = Scratch::new("disk");
        let at = scratch.folder("mounted");
        let _unmounting = reaper::at_the_end(&format!(
            "umount -l {} 2>/dev/null; true",
            reaper::quoted(&at)
        ));
        let disk = Self {
            _unmounting,
            scratch,
        };
        let image = disk.image();
        fs::File::create(&image)
            .and_then(|file| file.set_len(u64::from(mebibytes) << 20))
            .expect("a scratch folder is writable");
        // Without reserved blocks: full is full for root, too.
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-N", FILES])
            .arg(&image));
        disk.mount();
        disk
    }

    /// Where it is mounted here.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.scratch.join("mounted")
    }

    /// An error of the file system, as a bad disk causes it: it is read-only from then on.
    ///
    /// # Panics
    /// When the kernel offers no such thing.
    pub fn break_it(&self) {
        let device = self.device();
        let name = Path::new(&device).file_name().unwrap_or_default();
        let trigger = Path::new("/sys/fs/ext4")
            .join(name)
            .join("trigger_fs_error");
        fs::write(&trigger, "broken on purpose\n")
            .unwrap_or_else(|problem| panic!("{}: {problem}", trigger.display()));
    }

    /// Checked and mounted anew. Nobody may use it meanwhile.
    ///
    /// # Panics
    /// When it is in use or beyond repair.
    pub fn repair(&self) {
        run(Command::new("umount").arg(self.path()));
        let checked = Command::new("fsck.ext4")
            .arg("-fy")
            .arg(self.image())
            .output();
        // 1: errors were corrected.
        let code = checked.ok().and_then(|output| output.status.code());
        assert!(matches!(code, Some(0 | 1)), "fsck ended with {code:?}");
        self.mount();
    }

    fn mount(&self) {
        run(Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .arg(self.image())
            .arg(self.path()));
    }

    fn image(&self) -> PathBuf {
        self.scratch.join("image")
    }

    fn device(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let at = self.path().display().to_string();
        let mut fields = mounts.lines().map(|line| line.split(' '));
        fields
            .find_map(|mut line| {
                let device = line.next()?;
                (line.next()? == at).then(|| device.to_owned())
            })
            .expect("it is mounted")
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .expect("the tools of file systems are there");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
