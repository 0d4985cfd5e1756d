//! `operator NAME`: a new certificate for an operator, and the context that uses it.
//!
//! Kept true: no coordinator needs to run, and nothing changes but the context and
//! the record of who has a certificate; a context of somebody else, or of another
//! coordinator, is not written over.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cutover_proto::identity::OperatorName;
use cutover_proto::tls::{Address, AddressError};

use crate::config::{BadConfig, Config};
use crate::init::{Contexts, InitError, Known, issue};
use crate::pki::{Authority, PkiError};
use crate::reached::Reached;

const DAY: u64 = 24 * 3600;

/// Why the operator has no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// How the coordinator is reached.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// Its address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The CA.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The context.
    #[error(transparent)]
    Context(#[from] InitError),
    /// The context is another one's.
    #[error(
        "the context {context} in {} is {whose}: choose another one with --context NAME, or write it elsewhere with --context-dir DIR",
        folder.display()
    )]
    Taken {
        /// Its name.
        context: String,
        /// Where it is.
        folder: PathBuf,
        /// Whose it is.
        whose: String,
    },
}

/// What is asked for.
#[derive(Debug)]
pub struct Wish {
    /// Who.
    pub operator: OperatorName,
    /// What the context is called.
    pub context: String,
    /// Where it goes; none: the invoking user's configuration.
    pub context_dir: Option<PathBuf>,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The context file.
    pub context: PathBuf,
    /// The files that the context is made of, to copy to another machine.
    pub files: Vec<PathBuf>,
    /// The coordinator's address for another machine.
    pub address: String,
    /// Until when the certificate holds.
    pub until: SystemTime,
}

impl Made {
    /// For the person who typed it.
    #[must_use]
    pub fn words(&self, wish: &Wish) -> Vec<String> {
        let (name, context) = (&wish.operator, &wish.context);
        let left = self.until.duration_since(SystemTime::now());
        let days = left.unwrap_or_default().as_secs().div_ceil(DAY);
        let names = self.files.iter().filter_map(|path| path.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        let [ca, cert, key] = names.as_slice() else {
            return Vec::new(); // never: there are three
        };
        let folder = self.context.parent().unwrap_or(Path::new(""));
        let address = &self.address;
        vec![
            format!(
                "operator {name}, for {days} days; context {context}: {}",
                self.context.display()
            ),
            "what was given before holds until its own end".to_owned(),
            format!(
                "on another machine: copy {ca}, {cert} and {key} from {} there, then",
                folder.display()
            ),
            format!(
                "  cutover context add {context} --address {address} --ca {ca} --cert {cert} --key {key}"
            ),
        ]
    }
}

/// Makes the certificate and writes the context.
///
/// # Errors
/// When there is no CA, the context is another one's, or a file cannot be written.
pub fn operator(config: &Config, wish: &Wish) -> Result<Made, OperatorError> {
    let addresses = config.reached_at()?;
    let reached = Reached::by(addresses).ok_or(BadConfig::NoAddress)?;
    let elsewhere = Address::new(reached.told(None), config.port)?;
    let address = match wish.context_dir {
        Some(_) => elsewhere.clone(),
        None => Address::new(reached.told(Some(Ipv4Addr::LOCALHOST.into())), config.port)?,
    };
    let authority = Authority::load(&config.pki())?;
    let now = SystemTime::now();
    let contexts = Contexts::read(wish.context_dir.as_deref())?;
    if let Some(whose) = taken(&contexts, wish, &address, &authority, now) {
        return Err(OperatorError::Taken {
            context: wish.context.clone(),
            folder: contexts.folder().to_owned(),
            whose,
        });
    }
    let folder = contexts.folder().to_owned();
    let issued = issue(config, &authority, &wish.operator, now)?;
    let context = contexts.keep(&wish.context, &address, &issued, &authority.bundle_pem())?;
    let files =
        ["-ca.pem", ".pem", ".key"].map(|end| folder.join(format!("{}{end}", wish.context)));
    Ok(Made {
        context,
        files: files.into(),
        address: elsewhere.to_string(),
        until: issued.until,
    })
}

/// Whose the context is, unless it is this operator's here, or there is none.
fn taken(
    contexts: &Contexts,
    wish: &Wish,
    address: &Address,
    authority: &Authority,
    now: SystemTime,
) -> Option<String> {
    // The address may have changed, or the CA: either says that it is the same coordinator.
    if let Known::Anothers(there) = contexts.known(&wish.context, Some(authority), address, now) {
        return Some(format!("for the coordinator at {there}"));
    }
    let holder = contexts.holder(&wish.context)?;
    (holder != wish.operator).then(|| format!("{holder}'s"))
}
