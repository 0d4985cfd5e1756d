//! Names that were checked once, at the door.
//!
//! Every name is ASCII, at most [`MAX_NAME`] bytes, lower case, and safe in a
//! path, an nginx identifier, a container name and a label. Inside the program
//! a name that exists is a good one.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// Longest name, in bytes; what a DNS label may have.
pub const MAX_NAME: usize = 63;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a {0} may not be empty")]
    Empty(&'static str),
    /// More than [`MAX_NAME`] bytes.
    #[error("a {kind} has at most {MAX_NAME} characters; {text:?} has {length}")]
    TooLong {
        /// What it should have been.
        kind: &'static str,
        /// What was given.
        text: String,
        /// Its length in bytes.
        length: usize,
    },
    /// A character that a name may not hold, or not in that place.
    #[error(
        "{text:?} is no {kind}: use a-z, 0-9, '-', '_' or '.', and begin with a letter or digit"
    )]
    Character {
        /// What it should have been.
        kind: &'static str,
        /// What was given.
        text: String,
    },
    /// `APP/SERVICE` had more than one slash.
    #[error("{0:?} is no service: write SERVICE or APP/SERVICE")]
    Slashes(String),
    /// A number that starts at 1 was not one.
    #[error("{0:?} is no revision number: they are whole and begin at 1")]
    Revision(String),
}

fn check(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty(kind));
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong {
            kind,
            text: text.to_owned(),
            length: text.len(),
        });
    }
    let good =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_well && text.chars().all(good) && !text.contains("..") {
        Ok(())
    } else {
        Err(NameError::Character {
            kind,
            text: text.to_owned(),
        })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check($kind, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// An enrolled machine.
    HostId, "host name"
);
name!(
    /// One Compose project.
    AppName, "app name"
);
name!(
    /// One service of an app.
    ServiceName, "service name"
);
name!(
    /// One rollout; unique over the life of a coordinator.
    RolloutId, "rollout id"
);

/// `APP/SERVICE`: one service of one app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    /// The Compose project.
    pub app: AppName,
    /// The service in it.
    pub service: ServiceName,
}

impl FromStr for ServiceId {
    type Err = NameError;

    /// Parses `APP/SERVICE`; both halves are needed.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((app, service)) if !service.contains('/') => Ok(Self {
                app: app.parse()?,
                service: service.parse()?,
            }),
            Some(_) | None => Err(NameError::Slashes(text.to_owned())),
        }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.service)
    }
}

/// Which revision of a service: 1, 2, 3, …, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionNumber(NonZeroU64);

impl RevisionNumber {
    /// The first revision of a service.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The revision with this number, unless it is 0.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The one that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl FromStr for RevisionNumber {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| NameError::Revision(text.to_owned()))
    }
}

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_escape_a_path_or_a_config_is_refused() {
        for bad in [
            "",
            "..",
            "a..b",
            "a/b",
            "-a",
            ".a",
            "A",
            "a b",
            "a;b",
            "a{",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
        for good in ["a", "shop", "api-v2", "0x", "a.b_c"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_service_is_an_app_and_a_name() {
        let id: ServiceId = "shop/web".parse().expect("both halves");
        assert_eq!(id.to_string(), "shop/web");
        assert!("shop".parse::<ServiceId>().is_err());
        assert!("shop/web/x".parse::<ServiceId>().is_err());
    }

    #[test]
    fn revisions_begin_at_one() {
        assert!("0".parse::<RevisionNumber>().is_err());
        assert_eq!(RevisionNumber::FIRST.next().to_string(), "2");
    }
}
