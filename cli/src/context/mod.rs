//! Which coordinator, and as whom: from the environment and the context file.
//!
//! `--context NAME` means the file alone. Else each of CUTOVER_ADDRESS, CUTOVER_CA,
//! CUTOVER_CERT and CUTOVER_KEY that is set wins over the file's context in use.
//!
//! Kept true (P8): a key is in no error and no listing.

pub(crate) mod file;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cutover_proto::identity::Identity;
use cutover_proto::tls::{Address, ClientTls, Credentials, Life, TlsError, Trust};

use crate::context::file::{Contexts, Entry};
use crate::environment::Environment;
use crate::failure::{Failure, Kind};

/// What a text begins with that is no path.
const PEM: &str = "-----BEGIN";

/// A coordinator, and what we show it.
#[derive(Clone)]
pub(crate) struct Context {
    /// Its name; `environment` when no file names it.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) address: Address,
    /// Where the key is, when it is a file.
    pub(crate) key_file: Option<PathBuf>,
    trust: Trust,
    credentials: Credentials,
}

impl Context {
    /// The one that is meant.
    pub(crate) fn resolve(environment: &Environment, named: Option<&str>) -> Result<Self, Failure> {
        let contexts = Contexts::read(environment)?;
        let folder = environment.config_folder().unwrap_or_default();
        if let Some(name) = named {
            let entry = contexts.entry(name)?;
            return Self::of(name, entry, &folder, environment);
        }
        let from_file = match &contexts.current {
            Some(name) => Some((name.as_str(), contexts.entry(name)?)),
            None => None,
        };
        let here = Path::new(""); // paths in the environment begin where we are
        let pick = |variable: &str, field: fn(&Entry) -> &String| {
            let set = environment.get(variable).map(|v| (v.to_owned(), here));
            set.or_else(|| Some((field(from_file?.1).clone(), folder.as_path())))
                .ok_or_else(|| no_context(variable))
        };
        let (address, _) = pick("CUTOVER_ADDRESS", |entry| &entry.address)?;
        let ca = pick("CUTOVER_CA", |entry| &entry.ca)?;
        let cert = pick("CUTOVER_CERT", |entry| &entry.cert)?;
        let key = pick("CUTOVER_KEY", |entry| &entry.key)?;
        let set = environment.get("CUTOVER_ADDRESS").is_some();
        let name = from_file
            .filter(|_| !set)
            .map_or("environment", |(name, _)| name);
        Self::build(name, &address, [&ca, &cert, &key], environment)
    }

    /// One of the file's.
    pub(crate) fn of(
        name: &str,
        entry: &Entry,
        folder: &Path,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let at = |text: &String| (text.clone(), folder);
        let parts = [&at(&entry.ca), &at(&entry.cert), &at(&entry.key)];
        Self::build(name, &entry.address, parts, environment)
    }

    fn build(
        name: &str,
        address: &str,
        [ca, cert, key]: [&(String, &Path); 3],
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let wrong = |what: String, error: TlsError| {
            Failure::because(Kind::NoContext, what, error)
                .next("`cutover context show` says which files are read")
        };
        let read = |what, (text, folder): &(String, &Path)| pem(what, text, folder, environment);
        let address = address.parse().map_err(|error| {
            Failure::because(
                Kind::NoContext,
                format!("reading the context {name}"),
                error,
            )
            .next("set CUTOVER_ADDRESS, or `cutover context add`, like deploy.example.com:7443")
        })?;
        let (ca, _) = read("the CA's certificate", ca)?;
        let (cert, _) = read("the certificate", cert)?;
        let (key, key_file) = read("the key", key)?;
        Ok(Self {
            name: name.to_owned(),
            address,
            key_file,
            trust: Trust::from_pem(&ca)
                .map_err(|error| wrong(format!("reading the CA of the context {name}"), error))?,
            credentials: Credentials::from_pem(&cert, &key).map_err(|error| {
                wrong(
                    format!("reading the certificate of the context {name}"),
                    error,
                )
            })?,
        })
    }

    /// What a connection shows and believes.
    pub(crate) fn tls(&self) -> Result<ClientTls, Failure> {
        ClientTls::mutual(&self.credentials, &self.trust).map_err(|error| {
            let what = format!("using the certificate of the context {}", self.name);
            Failure::because(Kind::NoContext, what, error)
                .next("certificate and key must belong together")
        })
    }

    /// Who the certificate says we are; `nobody` when it says nothing.
    pub(crate) fn who(&self) -> String {
        Identity::of_certificate(self.credentials.certificate())
            .map_or_else(|_| "nobody".to_owned(), |who| who.to_string())
    }

    /// What gives us a new certificate.
    pub(crate) fn renewal(&self) -> String {
        let name = match Identity::of_certificate(self.credentials.certificate()) {
            Ok(Identity::Operator(name)) => name.to_string(),
            Ok(Identity::Agent(_) | Identity::Coordinator) | Err(_) => "NAME".to_owned(),
        };
        let context = match self.name.as_str() {
            "default" | "environment" => String::new(),
            name => format!(" --context {name}"),
        };
        format!(
            "`sudo cutover-coordinator operator {name}{context}` on the coordinator's machine; it says how to copy the context here"
        )
    }

    /// Until when a CA holds that is believed here.
    pub(crate) fn ca_until(&self) -> Option<SystemTime> {
        self.trust.until()
    }

    /// From when until when the certificate holds.
    pub(crate) fn life(&self) -> Option<Life> {
        Life::of_certificate(self.credentials.certificate()).ok()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} at {})", self.name, self.address)
    }
}

/// A PEM text, and the file it is from.
fn pem(
    what: &str,
    text: &str,
    folder: &Path,
    environment: &Environment,
) -> Result<(String, Option<PathBuf>), Failure> {
    if text.trim_start().starts_with(PEM) {
        return Ok((text.to_owned(), None));
    }
    let path = match (text.strip_prefix("~/"), environment.home()) {
        (Some(rest), Some(home)) => home.join(rest),
        (Some(_) | None, _) => folder.join(text),
    };
    let read = std::fs::read_to_string(&path).map_err(|error| {
        let what = format!("reading {what} from {}", path.display());
        Failure::because(Kind::NoContext, what, error)
            .next("name an existing PEM file, or give its content")
    })?;
    Ok((read, Some(path)))
}

fn no_context(missing: &str) -> Failure {
    let what =
        format!("no coordinator is known: there is no context in use, and {missing} is not set");
    Failure::new(Kind::NoContext, what).next(
        "`cutover context add NAME --address HOST:7443 --ca … --cert … --key …`, \
         or set CUTOVER_ADDRESS, CUTOVER_CA, CUTOVER_CERT and CUTOVER_KEY",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_context_it_is_said_what_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().display().to_string();
        let missing = |pairs: &[(&str, &str)]| {
            let mut pairs = pairs.to_vec();
            pairs.push(("HOME", &home));
            let failure = Context::resolve(&Environment::of(&pairs), None).expect_err("none");
            assert_eq!(failure.kind, Kind::NoContext);
            failure.chain()
        };
        assert!(missing(&[]).contains("CUTOVER_ADDRESS is not set"));
        assert!(missing(&[("CUTOVER_ADDRESS", "a:1")]).contains("CUTOVER_CA is not set"));
    }

    #[test]
    fn p8_a_broken_key_does_not_show_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().display().to_string();
        let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END NOTHING-----\n";
        let pairs = [
            ("HOME", home.as_str()),
            ("CUTOVER_ADDRESS", "a:1"),
            ("CUTOVER_CA", secret),
            ("CUTOVER_CERT", secret),
            ("CUTOVER_KEY", secret),
        ];
        let failure = Context::resolve(&Environment::of(&pairs), None).expect_err("broken");
        assert!(!format!("{failure:?} {}", failure.chain()).contains("c2VjcmV0"));
    }
}
