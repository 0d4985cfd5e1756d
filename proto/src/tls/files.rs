//! Files that must never be seen half written, nor by others.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
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
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&fresh)?;
    // A file left by a crash keeps the mode it had: set it again before anything secret is in it.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}
