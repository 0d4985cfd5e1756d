//! Whatever root does in the service's folder, it does as the folder's owner.
//!
//! So a restored store or a new certificate can be read by the service, and a link that somebody
//! with the service's rights has put there leads root no further than it leads them.

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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn what_root_makes_is_the_owners_and_a_link_leads_no_further_than_the_owner_may() {
        if !geteuid().is_root() {
            return; // nothing to give away
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (inside, secret) = (folder.path().join("state"), folder.path().join("secret"));
        fs::create_dir(&inside).expect("made");
        fs::write(&secret, "root's").expect("written");
        symlink(&secret, inside.join("link")).expect("linked");
        chown(&inside, Some(4_321), Some(4_321)).expect("given away");
        fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("open");
        {
            let _owner = assume(&inside).expect("root may").expect("another's");
            fs::write(inside.join("made"), "").expect("written");
            assert!(fs::write(inside.join("link"), "spoilt").is_err());
        }
        assert_eq!(fs::read_to_string(&secret).expect("ours again"), "root's");
        let made = fs::metadata(inside.join("made")).expect("there");
        assert_eq!((made.uid(), made.gid()), (4_321, 4_321));
    }
}
