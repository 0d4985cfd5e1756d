//! Files that must never be seen half written, nor by others.

use std::fs::{File, OpenOptions, remove_file, rename};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// For keys: their owner alone.
pub const PRIVATE: u32 = 0o600;
/// For certificates: whoever likes.
pub const PUBLIC: u32 = 0o644;

/// Writes `content` to `path`: after a crash or a power cut there is the old file or the new one, whole.
///
/// # Errors
/// What the file system says.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write(path, content, mode, false)
}

/// The same; what root writes belongs to whom the folder belongs.
///
/// # Errors
/// What the file system says.
pub fn write_file_of_folder(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write(path, content, mode, true)
}

fn write(path: &Path, content: &[u8], mode: u32, of_folder: bool) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    name.push(".new");
    let fresh = folder.join(name);
    // One that a crash left, or somebody who may write here put in our way: never written through.
    match remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)?;
    if of_folder {
        let owner = folder.metadata()?;
        if file.metadata()?.uid() == 0 && owner.uid() != 0 {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    // Whatever the umask is, and before anything secret is in it.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}
