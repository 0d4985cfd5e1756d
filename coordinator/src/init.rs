//! `init`: a CA, the coordinator's certificate, and the first operator.
//!
//! Keeps true: a CA that exists is never replaced; the operator's key is
//! readable by its owner alone. The context is in the command line's format:
//! `context.toml`, with the certificates as files beside it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cutover_proto::identity::{IdentityError, OperatorName};
use cutover_proto::tls::{Address, AddressError, PRIVATE, PUBLIC, write_file};
use nix::unistd::User;

use crate::config::Config;
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
    let mut contexts = Contexts::open(wish.context_dir.as_deref())?; // before anything is made
    make_dir(&config.state_dir)?;
    let authority = Authority::init(&config.pki(), &wish.addresses, now)?;
    let list = format!("{}\n", wish.addresses.join("\n"));
    write(&config.addresses_file(), &list, PUBLIC)?;

    let issued = operators::issue(&authority, &config.pki(), &wish.operator, now)?;
    contexts.choose(&wish.context);
    let context = contexts.keep(&wish.context, &address, &issued, &authority.bundle_pem())?;
    keep_owner(&config.state_dir)?;
    Ok(Made {
        context,
        fingerprint: authority.fingerprint().to_string(),
    })
}

/// Somebody's contexts: `context.toml`, and the certificates beside it.
pub(crate) struct Contexts {
    pub(crate) folder: PathBuf,
    owner: Owner,
    pub(crate) table: toml::Table,
}

impl Contexts {
    /// Those in `folder`; none: the invoking user's.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Self, InitError> {
        let (folder, owner) = match folder {
            Some(folder) => (folder.to_owned(), None),
            None => config_folder().ok_or(InitError::NoHome)?,
        };
        let table = read_contexts(&folder.join("context.toml"))?;
        Ok(Self {
            folder,
            owner,
            table,
        })
    }

    /// This one is in use from now on.
    pub(crate) fn choose(&mut self, name: &str) {
        self.table.insert("current".to_owned(), name.into());
    }

    /// Writes the context `name`; gives the file that lists it.
    pub(crate) fn keep(
        mut self,
        name: &str,
        address: &Address,
        issued: &Issued,
        bundle: &str,
    ) -> Result<PathBuf, InitError> {
        let folder = self.folder;
        make_dir(&folder)?;
        let file = |ending: &str| format!("{name}{ending}");
        let key = issued.key_pem.as_ref().map_or("", |key| key.expose());
        write(&folder.join(file(".key")), key, PRIVATE)?;
        write(&folder.join(file(".pem")), &issued.certificate_pem, PUBLIC)?;
        write(&folder.join(file("-ca.pem")), bundle, PUBLIC)?;
        let context = folder.join("context.toml");
        add_context(&mut self.table, name, address, file);
        write(&context, &self.table.to_string(), PRIVATE)?;
        if let Some((uid, gid)) = self.owner {
            let files = [
                file(".key"),
                file(".pem"),
                file("-ca.pem"),
                "context.toml".to_owned(),
            ];
            let paths = files
                .iter()
                .map(|file| folder.join(file))
                .chain([folder.clone()]);
            paths
                .into_iter()
                .try_for_each(|path| give(&path, uid, gid))?;
        }
        Ok(context)
    }
}

fn read_contexts(path: &Path) -> Result<toml::Table, InitError> {
    match fs::read_to_string(path) {
        Ok(text) => text.parse().map_err(|source| InitError::Context {
            path: path.to_owned(),
            source: Box::new(source),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(toml::Table::new()),
        Err(source) => Err(failed(path)(source)),
    }
}

fn add_context(
    table: &mut toml::Table,
    name: &str,
    address: &Address,
    file: impl Fn(&str) -> String,
) {
    let mut entry = toml::Table::new();
    for (key, value) in [
        ("address", address.to_string()),
        ("ca", file("-ca.pem")),
        ("cert", file(".pem")),
        ("key", file(".key")),
    ] {
        entry.insert(key.to_owned(), value.into());
    }
    table
        .entry("current")
        .or_insert_with(|| name.to_owned().into());
    let contexts = table
        .entry("contexts")
        .or_insert_with(|| toml::Table::new().into());
    if let Some(contexts) = contexts.as_table_mut() {
        contexts.insert(name.to_owned(), entry.into());
    }
}

type Owner = Option<(u32, u32)>;

/// The invoking user's: under sudo, of the one who called it.
fn config_folder() -> Option<(PathBuf, Owner)> {
    let sudo = std::env::var("SUDO_USER").ok();
    if let Some(user) = sudo.and_then(|name| User::from_name(&name).ok().flatten())
        && !user.uid.is_root()
    {
        let owner = (user.uid.as_raw(), user.gid.as_raw());
        return Some((user.dir.join(".config/cutover"), Some(owner)));
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some((base.join("cutover"), None))
}

/// What root made in a folder of the service's user belongs to that user.
fn keep_owner(state: &Path) -> Result<(), InitError> {
    let owner = fs::metadata(state).map_err(failed(state))?;
    if owner.uid() == 0 {
        return Ok(());
    }
    let (uid, gid) = (owner.uid(), owner.gid());
    let pki = state.join("pki");
    give(&state.join("addresses"), uid, gid)?;
    give(&pki, uid, gid)?;
    for entry in fs::read_dir(&pki).map_err(failed(&pki))? {
        give(&entry.map_err(failed(&pki))?.path(), uid, gid)?;
    }
    Ok(())
}

fn give(path: &Path, uid: u32, gid: u32) -> Result<(), InitError> {
    chown(path, Some(uid), Some(gid)).map_err(failed(path))
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
