//! `init`: a CA, the coordinator's certificate, and the first operator.
//!
//! Keeps true: a CA that exists is never replaced; the operator's key is
//! readable by its owner alone.

mod context;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cutover_proto::identity::{IdentityError, OperatorName};
use cutover_proto::tls::{Address, AddressError, PUBLIC, write_file};

pub use context::{Contexts, Known};

use crate::config::Config;
use crate::owner;
use crate::pki::{Authority, Issued, PkiError, operators};

/// Why there is nothing to begin with.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The CA.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A file.
    #[error("writing {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The context file there cannot be added to.
    #[error("adding to {}", path.display())]
    Context {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Where the coordinator is to be reached.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The operator's name.
    #[error("naming the operator")]
    Operator(#[from] IdentityError),
    /// The context of that name is in use for another coordinator.
    #[error(
        "the context {name:?} in {} is for another coordinator, at {address}; choose another name with --context NAME", path.display()
    )]
    Taken {
        /// Its name.
        name: String,
        /// Where it is.
        path: PathBuf,
        /// Where the other one is.
        address: String,
    },
    /// Nobody's home.
    #[error("neither HOME nor XDG_CONFIG_HOME is set: use --context-dir")]
    NoHome,
}

/// What `init` is asked for.
#[derive(Debug)]
pub struct Wish {
    /// Names and addresses of the coordinator.
    pub addresses: Vec<String>,
    /// The first operator.
    pub operator: OperatorName,
    /// What the context is called.
    pub context: String,
    /// Where the context goes; none: the invoking user's configuration.
    pub context_dir: Option<PathBuf>,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The context file.
    pub context: PathBuf,
    /// Of the CA.
    pub fingerprint: String,
}

/// Makes all of it.
///
/// # Errors
/// When there is a CA already, or a file cannot be written.
pub fn init(config: &Config, wish: &Wish) -> Result<Made, InitError> {
    let now = SystemTime::now();
    let first = wish.addresses.first().map_or("", String::as_str);
    let address = Address::new(first, config.port)?;
    let mut contexts = Contexts::read(wish.context_dir.as_deref())?; // before anything is made
    if config.has_ca() {
        return Err(PkiError::Exists(config.pki()).into());
    }
    if let Known::Anothers(there) = contexts.known(&wish.context, None, &address, now) {
        return Err(InitError::Taken {
            name: wish.context.clone(),
            path: contexts.path(),
            address: there,
        });
    }
    let authority = make_ca(config, &wish.addresses, now)?;
    let issued = issue(config, &authority, &wish.operator, now)?;
    contexts.choose(&wish.context);
    let context = contexts.keep(&wish.context, &address, &issued, &authority.bundle_pem())?;
    Ok(Made {
        context,
        fingerprint: authority.fingerprint().to_string(),
    })
}

/// A new CA, and the coordinator's certificate for these addresses.
///
/// # Errors
/// When there is a CA already, or a file cannot be written.
pub fn make_ca(
    config: &Config,
    addresses: &[String],
    now: SystemTime,
) -> Result<Authority, InitError> {
    if config.has_ca() {
        return Err(PkiError::Exists(config.pki()).into());
    }
    make_dir(&config.state_dir)?;
    // Before the CA: where that is, everything is.
    let list = format!("{}\n", addresses.join("\n"));
    let _owner = owner::assume(&config.state_dir).map_err(failed(&config.state_dir))?;
    write(&config.addresses_file(), &list, PUBLIC)?;
    Ok(Authority::init(&config.pki(), addresses, now)?)
}

/// A new certificate for an operator, recorded beside the CA.
///
/// # Errors
/// When it cannot be made or recorded.
pub(crate) fn issue(
    config: &Config,
    authority: &Authority,
    operator: &OperatorName,
    now: SystemTime,
) -> Result<Issued, InitError> {
    let _owner = owner::assume(&config.state_dir).map_err(failed(&config.state_dir))?;
    Ok(operators::issue(authority, &config.pki(), operator, now)?)
}

fn make_dir(path: &Path) -> Result<(), InitError> {
    fs::create_dir_all(path).map_err(failed(path))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), InitError> {
    write_file(path, text.as_bytes(), mode).map_err(failed(path))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> InitError + use<> {
    let path = path.to_owned();
    move |source| InitError::File {
        path: path.clone(),
        source,
    }
}
