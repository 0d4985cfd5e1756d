//! A machine's disk, its files, and how long a certificate holds.

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

/// How many files the processes of this machine may open, as far as this one may.
#[must_use]
pub fn open_files(unit: &str) -> Finding {
    let mend = format!("LimitNOFILE=65536 below [Service]: systemctl edit {unit}");
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if most < FILES_LEAST => {
            Finding::warn(format!("no more than {most} files may be open"), mend)
        }
        Ok((_, most)) => Finding::ok(format!("{most} files may be open")),
        Err(problem) => Finding::warn(
            format!("the limit of open files can't be read: {problem}"),
            mend,
        ),
    }
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
