//! What went wrong with the engine: what was being done, to what, and of which class.
//!
//! The loop decides by [`Class`] alone; people read the chain. The words of the
//! engine are only in the `source`, never in our own message.

use std::time::Duration;

/// An operation on the engine that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Error {
    /// What was being done, and to what ("starting container shop-web-7-1").
    doing: String,
    /// What kind of failure it is.
    class: Class,
    /// What the engine, or this adapter, had against it.
    #[source]
    cause: Box<Cause>,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The container, network or volume does not exist.
    NotFound,
    /// A name, an address, a port or a subnet is somebody else's.
    Conflict,
    /// Networks of one name, made by several agents at once: the younger ones are being removed.
    Ambiguous,
    /// What an engine that was killed left running holds the container, or held it until now.
    LeftOver,
    /// The container is there, but does not run (or is paused).
    NotRunning,
    /// The registry wants other credentials.
    Unauthorized,
    /// Neither here nor in its registry.
    NoSuchImage,
    /// The registry could not be reached; the engine is well.
    RegistryUnreachable,
    /// The registry's certificate is not trusted on this host.
    RegistryUntrusted,
    /// A disk of the host is full.
    NoSpace,
    /// No engine on its socket, or it went away during the call: ask again later.
    Unreachable,
    /// The engine took the call and was silent past its deadline: hung, or slow. What it did is unknown.
    Timeout,
    /// Anything else; asking again will not help.
    Other,
}

impl Class {
    /// Whether the same call may succeed later though nobody changes anything on this host.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::RegistryUnreachable
            | Self::Unreachable
            | Self::Timeout
            | Self::Ambiguous
            | Self::LeftOver => true,
            Self::NotFound
            | Self::Conflict
            | Self::NotRunning
            | Self::Unauthorized
            | Self::NoSuchImage
            | Self::RegistryUntrusted
            | Self::NoSpace
            | Self::Other => false,
        }
    }
}

/// Why, as the chain below an [`Error`] says it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error(transparent)]
    Engine(#[from] bollard::errors::Error),
    #[error("no answer from the engine within {limit:?} (deadline \"{name}\")")]
    Silent { name: &'static str, limit: Duration },
    #[error("{0}")]
    Found(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Refused by the adapter itself, for what it found.
    pub(super) fn refused(
        doing: impl Into<String>,
        class: Class,
        found: impl Into<String>,
    ) -> Self {
        Self {
            doing: doing.into(),
            class,
            cause: Box::new(Cause::Found(found.into())),
        }
    }

    /// Refused by the engine.
    pub(super) fn engine(doing: impl Into<String>, error: bollard::errors::Error) -> Self {
        Self {
            doing: doing.into(),
            class: classify(&error, Talk::Engine),
            cause: Box::new(error.into()),
        }
    }

    /// Refused by a registry, as the engine tells it.
    pub(super) fn registry(doing: impl Into<String>, error: bollard::errors::Error) -> Self {
        Self {
            doing: doing.into(),
            class: classify(&error, Talk::Registry),
            cause: Box::new(error.into()),
        }
    }

    /// The engine did not answer in time.
    pub(super) fn silent(doing: impl Into<String>, name: &'static str, limit: Duration) -> Self {
        Self {
            doing: doing.into(),
            class: Class::Timeout,
            cause: Box::new(Cause::Silent { name, limit }),
        }
    }

    /// A file of the host could not be read or written.
    pub(super) fn file(doing: impl Into<String>, error: std::io::Error) -> Self {
        let class = if error.kind() == std::io::ErrorKind::StorageFull {
            Class::NoSpace
        } else {
            Class::Other
        };
        Self {
            doing: doing.into(),
            class,
            cause: Box::new(error.into()),
        }
    }

    /// The engine's own words contain `text`, whatever their case.
    pub(super) fn says(&self, text: &str) -> bool {
        self.cause.to_string().to_ascii_lowercase().contains(text)
    }
}

/// Whom the engine was talking to when it failed; only a registry's failures are a registry's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Talk {
    Engine,
    Registry,
}

const NO_SPACE: [&str; 2] = ["no space left on device", "disk quota exceeded"];
const UNAUTHORIZED: [&str; 5] = [
    "no basic auth credentials",
    "unauthorized",
    "authentication required",
    "access to the resource is denied",
    "incorrect username or password",
];
const NO_IMAGE: [&str; 5] = [
    "manifest unknown",
    "name unknown",
    "no such image",
    "no matching manifest",
    "not found",
];
const UNTRUSTED: [&str; 3] = [
    "x509:",
    "tls: failed to verify",
    "server gave http response to https client",
];
const NO_REGISTRY: [&str; 7] = [
    "dial tcp",
    "no such host",
    "i/o timeout",
    "timeout exceeded",
    "handshake timeout",
    "connection re",
    "context deadline exceeded",
];
/// Containerd's words, in those of several engines.
const LEFT_OVER: [&str; 4] = [
    "id already in use",
    "cannot delete running task",
    "cannot delete a running",
    "stale containerd",
];
const TAKEN: [&str; 4] = [
    "already in use",
    "port is already allocated",
    "pool overlaps",
    "already exists in network",
];

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "bollard's enum; the rest are bugs in what was sent or read"
)]
fn classify(error: &bollard::errors::Error, talk: Talk) -> Class {
    use bollard::errors::Error as E;
    let (status, message) = match error {
        E::DockerResponseServerError {
            status_code,
            message,
        } => (*status_code, message.as_str()),
        E::DockerStreamError { error } => (0, error.as_str()),
        E::RequestTimeoutError => return Class::Timeout,
        E::IOError { .. }
        | E::HyperResponseError { .. }
        | E::HyperLegacyError { .. }
        | E::SocketNotFoundError(_) => {
            return Class::Unreachable;
        }
        _ => return Class::Other,
    };
    let message = message.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|text| message.contains(text));
    if says(&NO_SPACE) {
        return Class::NoSpace;
    }
    if talk == Talk::Registry {
        // Order matters: docker's hub says "denied" for what does not exist, and a 401 may say "not found" besides.
        let table = [
            (UNTRUSTED.as_slice(), Class::RegistryUntrusted),
            (UNAUTHORIZED.as_slice(), Class::Unauthorized),
            (NO_REGISTRY.as_slice(), Class::RegistryUnreachable),
            (NO_IMAGE.as_slice(), Class::NoSuchImage),
        ];
        return table
            .into_iter()
            .find(|(texts, _)| says(texts))
            .map_or(Class::Other, |(_, class)| class);
    }
    if says(&["no such image"]) {
        Class::NoSuchImage
    } else if says(&["is ambiguous"]) {
        Class::Ambiguous
    } else if says(&LEFT_OVER) {
        Class::LeftOver
    } else if says(&["is not running", "is paused"]) {
        Class::NotRunning
    } else if says(&TAKEN) || status == 409 {
        Class::Conflict
    } else if status == 404 {
        Class::NotFound
    } else {
        Class::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status_code: u16, message: &str, talk: Talk) -> Class {
        classify(
            &bollard::errors::Error::DockerResponseServerError {
                status_code,
                message: message.to_owned(),
            },
            talk,
        )
    }

    #[test]
    fn the_engines_words_are_sorted_into_what_the_loop_decides_by() {
        for (status, words, wanted) in [
            (404, "No such container: x", Class::NotFound),
            (404, "No such image: web:1", Class::NoSuchImage),
            (
                409,
                "Conflict. The container name \"/x\" is already in use by container \"1\"",
                Class::Conflict,
            ),
            (403, "Address already in use", Class::Conflict),
            (500, "id already in use", Class::LeftOver),
            (
                500,
                "failed to delete stale containerd task object: cannot delete running task 1: failed precondition",
                Class::LeftOver,
            ),
            (
                500,
                "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated",
                Class::Conflict,
            ),
            (
                403,
                "Pool overlaps with other one on this address space",
                Class::Conflict,
            ),
            (409, "Container 1 is not running", Class::NotRunning),
            (
                400,
                "network shop_default is ambiguous (3 matches found on name)",
                Class::Ambiguous,
            ),
            (
                400,
                "2 matches found based on name: network shop_default is ambiguous",
                Class::Ambiguous,
            ),
            (
                500,
                "mkdir /var/lib/docker/x: no space left on device",
                Class::NoSpace,
            ),
            // A log driver that can't reach its server is no registry.
            (
                500,
                "failed to initialize logging driver: dial tcp 127.0.0.1:24224: connect: connection refused",
                Class::Other,
            ),
            (
                400,
                "OCI runtime create failed: exec: \"nope\": executable file not found in $PATH",
                Class::Other,
            ),
        ] {
            assert_eq!(class(status, words, Talk::Engine), wanted, "{words}");
        }
    }

    #[test]
    fn a_registrys_words_are_sorted_into_what_the_loop_decides_by() {
        for (status, words, wanted) in [
            (
                500,
                "Get \"https://r/v2/web/manifests/1\": no basic auth credentials",
                Class::Unauthorized,
            ),
            (
                500,
                "Get \"https://r/v2/\": unauthorized: authentication required",
                Class::Unauthorized,
            ),
            (
                401,
                "Head \"https://r/v2/web/manifests/1\": received unexpected HTTP status: 401 Unauthorized",
                Class::Unauthorized,
            ),
            (
                404,
                "pull access denied for web, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                Class::Unauthorized,
            ),
            (
                404,
                "manifest for r/web:9 not found: manifest unknown: manifest unknown",
                Class::NoSuchImage,
            ),
            (
                500,
                "Get \"https://r/v2/\": dial tcp 10.0.0.1:5000: connect: connection refused",
                Class::RegistryUnreachable,
            ),
            (
                500,
                "Get \"https://r/v2/\": dial tcp: lookup r: no such host",
                Class::RegistryUnreachable,
            ),
            (
                500,
                "Get \"https://r/v2/\": x509: certificate signed by unknown authority",
                Class::RegistryUntrusted,
            ),
            (
                500,
                "failed to register layer: write /usr/bin/x: no space left on device",
                Class::NoSpace,
            ),
        ] {
            assert_eq!(class(status, words, Talk::Registry), wanted, "{words}");
        }
    }
}
