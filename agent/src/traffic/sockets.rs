//! Sockets that nobody listens on.
//!
//! nginx removes its unix sockets when it ends, but not when it is killed; then
//! they block its next start for good. A socket that someone accepts on is
//! never touched.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Removes the sockets in `runtime` on which nobody listens, and says how many.
/// nginx's drop-in runs this before each start (`cutover-agent clear-sockets`),
/// and [`super::Traffic::ensure`] before each reload.
pub fn remove_stale_sockets(runtime: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(runtime) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.ends_with(".sock") && name.contains('-'));
        if !ours || !entry.file_type()?.is_socket() {
            continue;
        }
        // Refused: nobody has it open. Any other answer means that someone does.
        match UnixStream::connect(entry.path()) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(removed)
}
