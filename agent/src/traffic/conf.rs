//! The directory of generated configuration: a whole version at a time.
//!
//! Every version is a directory of its own (`v-FINGERPRINT`); `live` is a link
//! to the one in force, and what the admin's nginx includes are links into
//! `live`. While a version is tried, `untested` points to the one before it:
//! whoever finds that link (the agent after a crash, nginx's drop-in before a
//! start) renames it over `live`, and is back at what was good. So nginx never
//! starts with a configuration that was not accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::disk::{link, open_directory};

/// Version with nothing in it, which the very first try falls back to.
const EMPTY: &str = "v-empty";
/// What the admin's files may include, besides nothing.
const INCLUDED: [&str; 3] = ["http.conf", "stream.conf", "sites"];

/// The generated files of one configuration, by their path in it.
pub(super) type Files = BTreeMap<String, String>;

/// The directory.
#[derive(Debug)]
pub(super) struct Conf<'a> {
    root: &'a Path,
}

impl<'a> Conf<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// The fingerprint of what is in force; `None`: nothing was ever written.
    pub(super) fn live(&self) -> Option<String> {
        let target = fs::read_link(self.root.join("live")).ok()?;
        Some(target.to_str()?.strip_prefix("v-")?.to_owned())
            .filter(|_| self.root.join(&target).is_dir())
    }

    /// Whether a version was being tried when its agent ended. Puts the former one back.
    pub(super) fn recover(&self) -> Result<bool, Error> {
        let untested = self.root.join("untested");
        if fs::symlink_metadata(&untested).is_err() {
            return Ok(false);
        }
        self.restore()?;
        Ok(true)
    }

    /// Whether the files of the version in force are what `files` says.
    pub(super) fn holds(&self, fingerprint: &str, files: &Files) -> bool {
        self.live().as_deref() == Some(fingerprint)
            && INCLUDED.iter().all(|name| self.links_to_live(name))
            && files.iter().all(|(name, text)| {
                fs::read_to_string(self.root.join("live").join(name))
                    .is_ok_and(|there| there == *text)
            })
    }

    /// Puts a version in force, on trial: until [`Self::confirm`] it is undone by [`Self::restore`].
    pub(super) fn try_out(&self, fingerprint: &str, files: &Files) -> Result<(), Error> {
        self.write(EMPTY, &render_empty())?;
        self.write(&format!("v-{fingerprint}"), files)?;
        let before = self
            .live()
            .map_or_else(|| EMPTY.to_owned(), |live| format!("v-{live}"));
        self.link("untested", &before)?;
        self.link("live", &format!("v-{fingerprint}"))?;
        for name in INCLUDED {
            if !self.links_to_live(name) {
                self.link(name, &format!("live/{name}"))?;
            }
        }
        Ok(())
    }

    /// The version in force was accepted; the others are not needed any more.
    pub(super) fn confirm(&self) -> Result<(), Error> {
        match fs::remove_file(self.root.join("untested")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("remove", "untested", error));
            }
            Ok(()) | Err(_) => self.sync()?,
        }
        let live = fs::read_link(self.root.join("live")).ok();
        let entries = fs::read_dir(self.root).map_err(|error| self.failed("list", ".", error))?;
        for entry in entries.filter_map(Result::ok) {
            let name = PathBuf::from(entry.file_name());
            let version = name
                .to_str()
                .is_some_and(|name| name.starts_with("v-") || name.starts_with(".v-"));
            if version && live.as_ref() != Some(&name) && name != Path::new(EMPTY) {
                // Left over, it costs a few kilobytes; the next confirmation tries again.
                let _kept = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// Goes back to what was in force before [`Self::try_out`].
    pub(super) fn restore(&self) -> Result<(), Error> {
        let untested = self.root.join("untested");
        fs::rename(&untested, self.root.join("live"))
            .map_err(|error| self.failed("go back to", "untested", error))?;
        self.sync()
    }

    /// Whether a file that nginx names is one of ours.
    pub(super) fn owns(&self, file: &str) -> bool {
        let real = fs::canonicalize(self.root).unwrap_or_else(|_| self.root.to_owned());
        Path::new(file).starts_with(self.root) || Path::new(file).starts_with(real)
    }

    fn links_to_live(&self, name: &str) -> bool {
        fs::read_link(self.root.join(name)).is_ok_and(|there| there == Path::new("live").join(name))
    }

    fn write(&self, version: &str, files: &Files) -> Result<(), Error> {
        let (whole, beside) = (
            self.root.join(version),
            self.root.join(format!(".{version}")),
        );
        let write = || -> io::Result<()> {
            open_directory(self.root)?;
            if beside.exists() {
                fs::remove_dir_all(&beside)?;
            }
            open_directory(&beside)?;
            open_directory(&beside.join("sites"))?;
            let mut directories = BTreeSet::from([beside.clone(), beside.join("sites")]);
            for (name, text) in files {
                let path = beside.join(name);
                let parent = path.parent().unwrap_or(&beside);
                open_directory(parent)?;
                directories.insert(parent.to_owned());
                let mut file = File::create(&path)?;
                file.set_permissions(Permissions::from_mode(0o644))?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
            }
            for directory in directories {
                File::open(directory)?.sync_all()?;
            }
            if whole.exists() {
                // Same name, same content, unless someone edited it.
                let edited = self.root.join(format!(".{version}.edited"));
                if edited.exists() {
                    fs::remove_dir_all(&edited)?;
                }
                fs::rename(&whole, &edited)?;
                fs::rename(&beside, &whole)?;
                return fs::remove_dir_all(&edited);
            }
            fs::rename(&beside, &whole)
        };
        write().map_err(|error| self.failed("write", version, error))?;
        self.sync()
    }

    fn link(&self, name: &str, target: &str) -> Result<(), Error> {
        link(&self.root.join(name), Path::new(target))
            .map_err(|error| self.failed("write", name, error))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Error> {
        File::open(self.root)
            .and_then(|root| root.sync_all())
            .map_err(|error| self.failed("write", ".", error))
    }

    fn failed(&self, doing: &'static str, name: &str, source: io::Error) -> Error {
        Error::File {
            doing,
            path: self.root.join(name),
            source,
        }
    }
}

fn render_empty() -> Files {
    ["http.conf", "stream.conf"]
        .map(|name| {
            (
                name.to_owned(),
                "# Written by cutover-agent: nothing yet.\n".to_owned(),
            )
        })
        .into()
}
