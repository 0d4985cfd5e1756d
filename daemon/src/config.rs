//! A service's configuration file. An error says which file, where in it, and why.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A configuration that can't be used (exit code 78).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("could not read the configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML, or says something that is not known.
    #[error("the configuration {} is not valid", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

/// Reads `path`. A missing file is the default one when `required` is false.
///
/// # Errors
/// When it can't be read or makes no sense.
pub fn read<T: DeserializeOwned + Default>(path: &Path, required: bool) -> Result<T, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {
            return Ok(T::default());
        }
        Err(source) => {
            return Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    toml::from_str(&text).map_err(|source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })
}
