//! A machine's disk, its files, and how long a certificate holds.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use super::Finding;

/// Less free space than this is worth a word: an image or a snapshot may need more.
const ROOM_WARN: u64 = 1 << 30;
/// With less, facts may not be kept, and next to nothing is done any more.
const ROOM_ERROR: u64 = 64 << 20;
/// Fewer open files than this are used up by a few hundred streams.
const FILES_LEAST: u64 = 4096;

/// Certificates are renewed at 50 to 80 % of 90 days: with less left than this, that has failed for a while.
const CERTIFICATE_WARN: Duration = Duration::from_secs(14 * 24 * 3600);
const DAY: u64 = 24 * 3600;
/// What sets a clock right.
const SET_CLOCK: &str = "timedatectl set-ntp true";

/// What is left on the disk of a directory.
#[must_use]
pub fn room(place: &Path, mend: &str) -> Finding {
    match statvfs(place) {
        Ok(disk) => {
            let free = disk.blocks_available().saturating_mul(disk.fragment_size());
            judged(place, free, mend)
        }
        Err(problem) => Finding::warn(
            format!("{}: {problem}", place.display()),
            "the package makes this directory; --state-dir names another one",
        ),
    }
}

fn judged(place: &Path, free: u64, mend: &str) -> Finding {
    let what = format!("{} has {} MiB free", place.display(), free >> 20);
    if free < ROOM_ERROR {
        Finding::error(what, mend)
    } else if free < ROOM_WARN {
        Finding::warn(what, mend)
    } else {
        Finding::ok(what)
    }
}

/// How many files a service of ours may open: the one that runs, else what this process may.
#[must_use]
pub fn open_files(unit: &str) -> Finding {
    let mend = format!(
        "systemctl edit {unit}: LimitNOFILE=65536 below [Service]; then: systemctl restart {unit}"
    );
    let (who, most) = match running(Path::new("/proc"), unit).and_then(files_of) {
        Some(most) => (unit, Some(most)),
        None => {
            let here = getrlimit(Resource::RLIMIT_NOFILE);
            ("a process here", here.ok().map(|(_, most)| most))
        }
    };
    match most {
        Some(most) if most < FILES_LEAST => {
            Finding::warn(format!("{who} may open no more than {most} files"), mend)
        }
        Some(most) => Finding::ok(format!("{who} may open {most} files")),
        None => Finding::warn("the limit of open files can't be read", mend),
    }
}

/// How many files a process may open.
#[must_use]
pub fn files_of(process: u32) -> Option<u64> {
    soft_limit(&fs::read_to_string(format!("/proc/{process}/limits")).ok()?)
}

/// The soft limit: what counts until the process itself raises it.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The process of a service of ours: `PROGRAM … run …`.
fn running(processes: &Path, program: &str) -> Option<u32> {
    let entries = fs::read_dir(processes).ok()?.filter_map(Result::ok);
    let mut all = entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        Some((id, fs::read(entry.path().join("cmdline")).ok()?))
    });
    let serves = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split('\0');
        let named = words
            .next()
            .is_some_and(|word| Path::new(word).ends_with(program));
        named && words.any(|word| word == "run")
    };
    all.find(|(_, line)| serves(line)).map(|(id, _)| id)
}

/// How long a certificate holds at `now`; `mend` is what makes a new one.
#[must_use]
pub fn certificate(
    whose: &str,
    from: SystemTime,
    until: SystemTime,
    now: SystemTime,
    mend: &str,
) -> Finding {
    if now < from {
        return Finding::error(
            format!("{whose} begins in the future: the clock here is wrong"),
            SET_CLOCK,
        );
    }
    match until.duration_since(now) {
        Ok(left) if left > CERTIFICATE_WARN => {
            Finding::ok(format!("{whose} holds for {} days", left.as_secs() / DAY))
        }
        Ok(left) => Finding::warn(
            format!("{whose} ends in {} days", left.as_secs() / DAY),
            mend,
        ),
        Err(_) => Finding::error(
            format!("{whose} has expired, or the clock here is wrong"),
            format!("{SET_CLOCK}; then {mend}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Level;

    #[test]
    fn a_disk_is_judged_by_what_is_left() {
        let level = |free| judged(Path::new("/x"), free, "tidy up").level;
        assert_eq!(level(2 << 30), Level::Ok);
        assert_eq!(level(512 << 20), Level::Warn);
        assert_eq!(level(1 << 20), Level::Error);
        assert_eq!(room(Path::new("/none/such"), "").level, Level::Warn);
    }

    #[test]
    fn the_limit_that_counts_is_the_soft_one_of_the_service_that_runs() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(soft_limit(""), None);
        assert!(files_of(std::process::id()).is_some());
        let root = tempfile::tempdir().expect("a folder");
        for (id, line) in [
            ("7", "/usr/bin/cutover-agent\0doctor\0"),
            ("8", "/usr/bin/cutover-agent\0--config\0x\0run\0"),
            ("self", "/usr/bin/cutover-agent\0run\0"),
        ] {
            fs::create_dir(root.path().join(id)).expect("made");
            fs::write(root.path().join(id).join("cmdline"), line).expect("written");
        }
        assert_eq!(running(root.path(), "cutover-agent"), Some(8));
        assert_eq!(running(root.path(), "cutover-coordinator"), None);
    }

    #[test]
    fn a_certificate_is_judged_by_the_days_that_are_left_and_by_the_clock() {
        let at = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY);
        let level = |now| certificate("it", at(10), at(100), at(now), "renew").level;
        assert_eq!(level(50), Level::Ok);
        assert_eq!(level(90), Level::Warn);
        assert_eq!(level(101), Level::Error);
        assert_eq!(level(9), Level::Error);
        let expired = certificate("it", at(10), at(100), at(101), "renew");
        assert_eq!(
            expired.mend.as_deref(),
            Some("timedatectl set-ntp true; then renew")
        );
    }
}
