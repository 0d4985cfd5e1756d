//! Directories, links and flag files, made so that each step is whole.
//!
//! A link is replaced by renaming another over it: it is never missing. Asked
//! twice, all of this does nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// One entry of a prepared directory.
pub(super) enum Entry {
    Flag,
    Link(String),
}

/// Makes a directory hold these entries and, but for `others`, nothing else.
/// Equal entries of a service share an inode: there are hundreds of them.
pub(super) fn fill(
    links: &Path,
    directory: &Path,
    entries: &BTreeMap<String, Entry>,
    others: &[&str],
) -> io::Result<()> {
    for there in fs::read_dir(directory)? {
        let there = there?;
        let name = there.file_name();
        let known = name
            .to_str()
            .is_some_and(|name| entries.contains_key(name) || others.contains(&name));
        if !known {
            fs::remove_file(there.path())?;
        }
    }
    for (name, entry) in entries {
        let path = directory.join(name);
        match entry {
            Entry::Flag if path.is_file() => {}
            Entry::Flag => {
                let shared = links.join("flag");
                if !shared.is_file() {
                    File::create(&shared)?.set_permissions(Permissions::from_mode(0o644))?;
                }
                if fs::hard_link(&shared, &path).is_err() {
                    File::create(&path)?.set_permissions(Permissions::from_mode(0o644))?;
                }
            }
            Entry::Link(target)
                if fs::read_link(&path).is_ok_and(|there| there == Path::new(target)) => {}
            // To another directory of the service: a hundred equal ones in each state.
            Entry::Link(target) if target.starts_with("..") => {
                let shared = links.join(target.replace("../", "").replace('/', "~"));
                link(&shared, Path::new(target))?;
                let beside = directory.join(".shared");
                gone(fs::remove_file(&beside))?;
                match fs::hard_link(&shared, &beside) {
                    Ok(()) => fs::rename(&beside, &path)?,
                    Err(_) => link(&path, Path::new(target))?,
                }
            }
            Entry::Link(target) => link(&path, Path::new(target))?,
        }
    }
    Ok(())
}

/// Makes `path` a link to `target`; one that is so already is left alone.
pub(super) fn link(path: &Path, target: &Path) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let beside = path.with_file_name(format!(
        ".{}",
        path.file_name().unwrap_or_default().display()
    ));
    gone(fs::remove_file(&beside))?;
    symlink(target, &beside)?;
    fs::rename(&beside, path)
}

/// A directory that nginx's workers may enter.
pub(super) fn open_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// What is not there need not be removed.
pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
