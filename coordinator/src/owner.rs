//! Whatever root does in the service's folder, it does as the folder's owner.
//!
//! So a restored store or a new certificate can be read by the service, and a link that somebody
//! with the service's rights has put there leads root no further than it leads them.
//!
//! It changes the rights of the whole process, so it is tried by the program alone
//! (tests/coordinator/succession.rs): tests that run beside one another in a process would
//! lose theirs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setegid, seteuid, setgroups};

/// While it lives, this process has the rights of a folder's owner and no others. Of all threads.
#[derive(Debug)]
#[must_use = "dropped, the rights are back"]
pub struct Assumed {
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
}

/// Takes the rights of whom `folder` belongs to. `None`: they are ours, or not ours to take.
///
/// # Errors
/// When nobody knows whose the folder is, or the kernel does not let us.
pub fn assume(folder: &Path) -> io::Result<Option<Assumed>> {
    let about = fs::metadata(folder)?;
    if !geteuid().is_root() || about.uid() == 0 {
        return Ok(None);
    }
    let before = Assumed {
        user: geteuid(),
        group: getegid(),
        groups: getgroups()?,
    };
    let group = Gid::from_raw(about.gid());
    // From here on, a failure gives back what was taken, as `before` is dropped.
    setgroups(&[group])?;
    setegid(group)?;
    seteuid(Uid::from_raw(about.uid()))?;
    Ok(Some(before))
}

impl Drop for Assumed {
    fn drop(&mut self) {
        // Root before was root all the while: these can't fail. If one did, less is allowed, not more.
        let _ = seteuid(self.user);
        let _ = setegid(self.group);
        let _ = setgroups(&self.groups);
    }
}
