//! `~/.config/cutover/context.toml`: the coordinators that are known here.
//!
//! ```toml
//! current = "prod"
//!
//! [contexts.prod]
//! address = "deploy.example.com:7443"
//! ca = "ca.pem"        # paths begin at this file's folder; PEM text itself may stand here, too
//! cert = "me.pem"
//! key = "me.key"
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use cutover_proto::tls::{PRIVATE, write_file};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::failure::{Failure, Kind};

const FILE: &str = "context.toml";

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Entry>,
}

/// One coordinator. Each but the address is a path, or PEM text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) address: String,
    pub(crate) ca: String,
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Contexts {
    /// Where the file is, or would be.
    pub(crate) fn path(environment: &Environment) -> Result<PathBuf, Failure> {
        let folder = environment.config_folder().ok_or_else(|| {
            Failure::new(Kind::NoContext, "neither HOME nor XDG_CONFIG_HOME is set").next(
                "set one of them, or CUTOVER_ADDRESS, CUTOVER_CA, CUTOVER_CERT and CUTOVER_KEY",
            )
        })?;
        Ok(folder.join(FILE))
    }

    /// Reads the file; nothing is known when there is none.
    pub(crate) fn read(environment: &Environment) -> Result<Self, Failure> {
        let Ok(path) = Self::path(environment) else {
            return Ok(Self::default()); // no home: a CI job with variables alone
        };
        let reading = || format!("reading {}", path.display());
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| Failure::because(Kind::NoContext, reading(), error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::because(Kind::NoContext, reading(), error)),
        }
    }

    /// Writes the file; its owner alone may read it, as it may hold a key.
    pub(crate) fn write(&self, environment: &Environment) -> Result<PathBuf, Failure> {
        let path = Self::path(environment)?;
        let failed = |error: io::Error| {
            Failure::because(
                Kind::Unexpected,
                format!("writing {}", path.display()),
                error,
            )
        };
        let text = toml::to_string(self).map_err(|error| failed(io::Error::other(error)))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        write_file(&path, text.as_bytes(), PRIVATE).map_err(failed)?;
        Ok(path)
    }

    /// The one of this name.
    pub(crate) fn entry(&self, name: &str) -> Result<&Entry, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let next = if known.is_empty() {
                "make one with `cutover context add`".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            Failure::new(Kind::NoContext, format!("there is no context {name:?}")).next(next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_back_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().display().to_string();
        let environment = Environment::of(&[("HOME", &home)]);
        let mut contexts = Contexts::read(&environment).expect("none is fine");
        assert!(contexts.current.is_none());
        let entry = Entry {
            address: "a:1".into(),
            ca: "ca.pem".into(),
            cert: "c.pem".into(),
            key: "k.pem".into(),
        };
        contexts.contexts.insert("prod".into(), entry);
        contexts.current = Some("prod".into());
        let path = contexts.write(&environment).expect("written");
        let mode = std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = Contexts::read(&environment).expect("read back");
        assert_eq!(read.current.as_deref(), Some("prod"));
        assert_eq!(read.entry("prod").expect("there").ca, "ca.pem");
        let missing = read.entry("test").expect_err("not there");
        assert_eq!(missing.next, "there are: prod");
    }
}
