//! The two clocks, and which boot this is. The loops read them once per wake.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cutover_core::Moment;
use nix::time::{ClockId, clock_gettime};

/// Now, on the clock that runs since boot and through suspend.
#[must_use]
pub fn now() -> Moment {
    // The call fails only for a clock that the kernel does not have.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    Moment::ZERO + time
}

/// Now on the wall clock, in milliseconds since 1970; for people, nothing is decided by it.
#[must_use]
pub fn unix_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Which boot this is; another one, and moments of the last mean nothing.
///
/// # Errors
/// When the kernel does not tell.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Which installation this is: the content of `path`, normally `/etc/machine-id`.
///
/// # Errors
/// When the file can't be read.
pub fn machine_id(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}
