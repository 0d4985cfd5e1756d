//! The files behind `configs`: written here, mounted read-only.
//!
//! A file's name is a hash of its content and mode, so a container's make-up
//! changes when its configs do, and a file that is there is never rewritten
//! under a container that reads it. The folder is the container's alone and
//! goes with it. Nobody but root may enter it: what the container sees is the
//! mounted file, whose mode is the spec's.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cutover_core::spec::{ContainerSpec, Mount, MountSource};
use sha2::{Digest, Sha256};

use super::{Docker, Error, hex};

/// Where the content of a mount lies for container `name`.
pub(super) fn path_of(files: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(mode.to_be_bytes());
    hash.update(content);
    files.join(name).join(&hex(&hash.finalize())[..32])
}

/// A file that a container mounts.
struct Wanted {
    path: PathBuf,
    content: Vec<u8>,
    mode: u32,
}

impl Docker {
    /// Makes the files that `spec` mounts be there, durably.
    pub(super) async fn materialise(&self, name: &str, spec: &ContainerSpec) -> Result<(), Error> {
        let wanted = self.files_of(name, spec);
        if wanted.is_empty() {
            return Ok(());
        }
        let folder = self.shared.settings.files.join(name);
        let written = blocking(move || {
            wanted
                .iter()
                .try_for_each(|file| write_once(&folder, &file.path, &file.content, file.mode))
        });
        written
            .await
            .map_err(|error| Error::file(format!("writing the configs of container {name}"), error))
    }

    /// Whether they are.
    pub(super) async fn has_files(&self, name: &str, spec: &ContainerSpec) -> bool {
        let wanted = self.files_of(name, spec);
        if wanted.is_empty() {
            return true;
        }
        let all = move || wanted.iter().all(|file| holds(&file.path, &file.content));
        blocking(move || Ok(all())).await.unwrap_or(false)
    }

    fn files_of(&self, name: &str, spec: &ContainerSpec) -> Vec<Wanted> {
        let wanted = |mount: &Mount| {
            let MountSource::Content { content, mode, .. } = &mount.source else {
                return None;
            };
            Some(Wanted {
                path: path_of(&self.shared.settings.files, name, content, *mode),
                content: content.clone(),
                mode: *mode,
            })
        };
        spec.mounts.iter().filter_map(wanted).collect()
    }

    /// Makes the files of container `name` be gone.
    pub(super) async fn forget_files(&self, name: &str) -> Result<(), Error> {
        let folder = self.shared.settings.files.join(name);
        let removed = blocking(move || match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        });
        removed.await.map_err(|error| {
            Error::file(format!("removing the configs of container {name}"), error)
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => Err(io::Error::other(panicked)),
    }
}

/// A power cut may leave an old one with the right name and no content: compare.
fn holds(path: &Path, content: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|there| there == content)
}

fn write_once(folder: &Path, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if holds(path, content) {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(content)?;
    // By name it would be cut by the umask.
    file.set_permissions(std::fs::Permissions::from_mode(mode & 0o7777))?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_mode_make_the_name_and_a_file_is_written_once() {
        let base = std::env::temp_dir().join(format!("cutover-files-{}", std::process::id()));
        let path = path_of(&base, "shop-web-1-1", b"a", 0o444);
        assert_ne!(path, path_of(&base, "shop-web-1-1", b"b", 0o444));
        assert_ne!(path, path_of(&base, "shop-web-1-1", b"a", 0o400));
        let folder = base.join("shop-web-1-1");
        write_once(&folder, &path, b"a", 0o444).expect("written");
        let before = std::fs::metadata(&path).expect("there");
        write_once(&folder, &path, b"a", 0o444).expect("left alone");
        let after = std::fs::metadata(&path).expect("there");
        assert_eq!(before.permissions().mode() & 0o7777, 0o444);
        assert_eq!(before.modified().ok(), after.modified().ok());
        std::fs::write(&path, b"").expect("emptied");
        write_once(&folder, &path, b"a", 0o444).expect("repaired");
        assert_eq!(std::fs::read(&path).expect("there"), b"a");
        std::fs::remove_dir_all(&base).expect("removed");
    }
}
