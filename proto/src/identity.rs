//! Who a peer is, read from its certificate and from nothing else.
//!
//! A certificate names its holder in its one URI SAN: `cutover://coordinator`,
//! `cutover://agent/HOST` or `cutover://operator/NAME`. Whether the certificate
//! is to be believed is [`crate::tls`]'s affair: what comes here was verified.
//!
//! Kept true: a certificate with no URI, two URIs or one that is not exactly of
//! these forms names nobody; the subject and the DNS names never count.

use std::fmt;
use std::str::FromStr;

use cutover_core::{HostId, NameError, name::MAX_NAME};
use x509_parser::extensions::GeneralName;

const SCHEME: &str = "cutover://";

/// The holder of a certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The one that commands.
    Coordinator,
    /// The agent of this host.
    Agent(HostId),
    /// A person or a CI job, by name.
    Operator(OperatorName),
}

/// A checked operator's name: lower-case letters, digits, `-`, `_`, `.`, `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorName(String);

/// Why a certificate names nobody.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are no X.509 certificate.
    #[error("reading the certificate")]
    Certificate(#[source] x509_parser::error::X509Error),
    /// The SAN extension is broken or there twice.
    #[error("reading the certificate's alternative names")]
    Names(#[source] x509_parser::error::X509Error),
    /// No URI at all.
    #[error("the certificate names nobody: it has no URI among its alternative names")]
    NoUri,
    /// More than one URI.
    #[error("the certificate names more than one: it has {0} URIs among its alternative names")]
    ManyUris(usize),
    /// A URI that is none of ours.
    #[error(
        "{0:?} is no identity: one is cutover://coordinator, cutover://agent/HOST or cutover://operator/NAME"
    )]
    Uri(String),
    /// Ours, but the host's name is not one.
    #[error("the host in {uri:?}")]
    Host {
        /// The whole URI.
        uri: String,
        /// What is wrong with the name.
        #[source]
        source: NameError,
    },
    /// An operator's name that breaks the rules.
    #[error(
        "{0:?} is no operator name: use a-z, 0-9, '-', '_', '.' or '@', at most {MAX_NAME} characters, and begin with a letter or digit"
    )]
    Operator(String),
}

impl Identity {
    /// Reads the holder from a certificate that was verified before.
    ///
    /// # Errors
    /// When it names nobody, or more than one.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der)
            .map_err(|error| IdentityError::Certificate(into_x509(error)))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(IdentityError::Names)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| {
                if let GeneralName::URI(uri) = name {
                    Some(*uri)
                } else {
                    None
                }
            })
            .collect();
        match uris.as_slice() {
            [] => Err(IdentityError::NoUri),
            [uri] => uri.parse(),
            many => Err(IdentityError::ManyUris(many.len())),
        }
    }

    /// The URI that a certificate of this holder carries.
    #[must_use]
    pub fn uri(&self) -> String {
        self.to_string()
    }
}

fn into_x509(
    error: x509_parser::nom::Err<x509_parser::error::X509Error>,
) -> x509_parser::error::X509Error {
    match error {
        x509_parser::nom::Err::Incomplete(_) => x509_parser::error::X509Error::InvalidCertificate,
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let rest = uri
            .strip_prefix(SCHEME)
            .ok_or_else(|| IdentityError::Uri(uri.to_owned()))?;
        match rest.split_once('/') {
            None if rest == "coordinator" => Ok(Self::Coordinator),
            Some(("agent", host)) => match host.parse() {
                Ok(host) => Ok(Self::Agent(host)),
                Err(source) => Err(IdentityError::Host {
                    uri: uri.to_owned(),
                    source,
                }),
            },
            Some(("operator", name)) => name.parse().map(Self::Operator),
            None | Some(_) => Err(IdentityError::Uri(uri.to_owned())),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => write!(f, "{SCHEME}coordinator"),
            Self::Agent(host) => write!(f, "{SCHEME}agent/{host}"),
            Self::Operator(name) => write!(f, "{SCHEME}operator/{name}"),
        }
    }
}

impl OperatorName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OperatorName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let good = |c: char| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '@')
        };
        if begins && text.len() <= MAX_NAME && text.chars().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentityError::Operator(text.to_owned()))
        }
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_from_its_uri() {
        for uri in [
            "cutover://coordinator",
            "cutover://agent/web-1.example.com",
            "cutover://operator/alice@example.com",
        ] {
            assert_eq!(uri.parse::<Identity>().expect("one of ours").uri(), uri);
        }
    }

    #[test]
    fn a_certificate_names_its_holder_in_exactly_one_uri() {
        let with = |names: &[rcgen::SanType]| {
            let mut params =
                rcgen::CertificateParams::new(vec!["operator".to_owned()]).expect("a DNS name");
            params.subject_alt_names.extend_from_slice(names);
            let key = rcgen::KeyPair::generate().expect("a key");
            Identity::of_certificate(params.self_signed(&key).expect("signed").der())
        };
        let uri = |text: &str| rcgen::SanType::URI(text.try_into().expect("ASCII"));
        let host = uri("cutover://agent/web");
        assert_eq!(
            with(std::slice::from_ref(&host))
                .expect("one URI")
                .to_string(),
            "cutover://agent/web"
        );
        assert!(matches!(with(&[]), Err(IdentityError::NoUri)));
        assert!(matches!(
            with(&[host.clone(), uri("cutover://operator/root")]),
            Err(IdentityError::ManyUris(2))
        ));
        assert!(matches!(
            with(&[host.clone(), host]),
            Err(IdentityError::ManyUris(2))
        ));
        assert!(matches!(
            with(&[uri("https://example.com")]),
            Err(IdentityError::Uri(_))
        ));
        assert!(matches!(
            Identity::of_certificate(b"nothing"),
            Err(IdentityError::Certificate(_))
        ));
    }

    #[test]
    fn a_uri_that_is_not_exactly_ours_names_nobody() {
        for uri in [
            "",
            "cutover://",
            "cutover://coordinator/",
            "cutover://coordinator/x",
            "cutover://agent",
            "cutover://agent/",
            "cutover://agent/a/b",
            "cutover://agent/../operator/x",
            "cutover://agent/A",
            "cutover://operator/",
            "cutover://operator/a b",
            "cutover://operator/a/b",
            "cutover://OPERATOR/a",
            "https://agent/a",
            "Cutover://coordinator",
            "cutover://agent/web?x",
            "cutover://agent/web%2e",
            "cutover://root/a",
        ] {
            assert!(uri.parse::<Identity>().is_err(), "{uri:?}");
        }
    }
}
