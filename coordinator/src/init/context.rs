//! The context of whoever typed `init`: how the command line reaches this coordinator, and as whom.
//!
//! `context.toml` in the command line's format, the certificates as files beside
//! it. Kept true: a key is its owner's alone, and what root makes in somebody's
//! home belongs to them.

use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cutover_proto::identity::{Identity, OperatorName};
use cutover_proto::tls::{Address, Credentials, Fingerprint, PRIVATE, PUBLIC, Trust, check_peer};
use nix::unistd::User;

use super::{InitError, failed, make_dir, write};
use crate::pki::{Authority, Issued};

type Owner = (u32, u32);

/// All contexts of one user.
#[derive(Debug)]
pub struct Contexts {
    folder: PathBuf,
    owner: Option<Owner>,
    table: toml::Table,
}

/// What a context is to a coordinator.
#[derive(Debug)]
pub enum Known {
    /// There is none of that name.
    Not,
    /// It shows a certificate that holds.
    Good(Box<Credentials>),
    /// It is this coordinator's, and shows nothing that holds.
    Stale,
    /// It is another one's, which is there.
    Anothers(String),
}

impl Contexts {
    /// Those in `folder`; without one, in the configuration of the user who typed it: under sudo of
    /// the one who called it.
    ///
    /// # Errors
    /// When there is no such folder, or the file cannot be understood.
    pub fn read(folder: Option<&Path>) -> Result<Self, InitError> {
        let (folder, owner) = match folder {
            Some(folder) => (folder.to_owned(), None),
            None => config_folder().ok_or(InitError::NoHome)?,
        };
        let path = folder.join("context.toml");
        let table = match fs::read_to_string(&path) {
            Ok(text) => text.parse().map_err(|source| InitError::Context {
                path,
                source: Box::new(source),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => toml::Table::new(),
            Err(source) => return Err(failed(&path)(source)),
        };
        Ok(Self {
            folder,
            owner,
            table,
        })
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join("context.toml")
    }

    /// What the context `name` is to the coordinator of this CA, or without one yet, at this address.
    #[must_use]
    pub fn known(
        &self,
        name: &str,
        authority: Option<&Authority>,
        address: &Address,
        now: SystemTime,
    ) -> Known {
        let Some(at) = self.said(name, "address") else {
            return match self.entry(name) {
                Some(_) => Known::Anothers("nowhere".to_owned()),
                None => Known::Not,
            };
        };
        let here = at == address.to_string();
        let theirs = self
            .pem(name, "ca")
            .and_then(|ca| Trust::from_pem(&ca).ok());
        let believed = |ca: &Fingerprint| {
            theirs
                .as_ref()
                .is_some_and(|theirs| theirs.fingerprints().contains(ca))
        };
        // While one CA takes over from another, either says that it is this coordinator.
        let ours = authority.is_some_and(|ours| ours.holding().trusts.iter().any(believed));
        let reaches = authority.is_some_and(|ours| believed(&ours.fingerprint()));
        let credentials = self
            .credentials(name)
            .zip(authority)
            .and_then(|(shown, ours)| holds(&shown, ours, now).then_some(shown));
        match credentials {
            Some(credentials) if reaches && here => Known::Good(Box::new(credentials)),
            _ if ours || here => Known::Stale,
            _ => Known::Anothers(at.to_owned()),
        }
    }

    /// Whose certificate the context `name` shows, if it can be read.
    #[must_use]
    pub fn holder(&self, name: &str) -> Option<OperatorName> {
        let credentials = self.credentials(name)?;
        match Identity::of_certificate(credentials.certificate()) {
            Ok(Identity::Operator(name)) => Some(name),
            Ok(Identity::Agent(_) | Identity::Coordinator) | Err(_) => None,
        }
    }

    fn entry(&self, name: &str) -> Option<&toml::Value> {
        self.table.get("contexts")?.get(name)
    }

    fn said(&self, name: &str, key: &str) -> Option<&str> {
        self.entry(name)?.get(key)?.as_str()
    }

    fn credentials(&self, name: &str) -> Option<Credentials> {
        Credentials::from_pem(&self.pem(name, "cert")?, &self.pem(name, "key")?).ok()
    }

    /// A file's content, or the text itself.
    fn pem(&self, name: &str, key: &str) -> Option<String> {
        let text = self.said(name, key)?;
        if text.trim_start().starts_with("-----BEGIN ") {
            return Some(text.to_owned());
        }
        fs::read_to_string(self.folder.join(text)).ok()
    }

    /// This one is in use from now on.
    pub fn choose(&mut self, name: &str) {
        self.table.insert("current".to_owned(), name.into());
    }

    /// Adds a context that believes `bundle` (PEM), or replaces the one of that name; the first one is
    /// in use.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(
        mut self,
        name: &str,
        address: &Address,
        operator: &Issued,
        bundle: &str,
    ) -> Result<PathBuf, InitError> {
        let made = self.make_folder()?;
        let file = |ending: &str| format!("{name}{ending}");
        let key = operator.key_pem.as_ref().map_or("", |key| key.expose());
        let at = |file: &str| self.folder.join(file);
        write(&at(&file(".key")), key, PRIVATE)?;
        write(&at(&file(".pem")), &operator.certificate_pem, PUBLIC)?;
        write(&at(&file("-ca.pem")), bundle, PUBLIC)?;
        add(&mut self.table, name, address, file);
        let path = self.path();
        write(&path, &self.table.to_string(), PRIVATE)?;
        let files = [".key", ".pem", "-ca.pem"].map(|ending| self.folder.join(file(ending)));
        for path in files.into_iter().chain([path.clone()]).chain(made) {
            self.give(&path)?;
        }
        Ok(path)
    }

    /// Makes the folder; says which folders were made on the way.
    fn make_folder(&self) -> Result<Vec<PathBuf>, InitError> {
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made: Vec<PathBuf> = self
            .folder
            .ancestors()
            .take_while(missing)
            .map(Into::into)
            .collect();
        make_dir(&self.folder)?;
        Ok(made)
    }

    fn give(&self, path: &Path) -> Result<(), InitError> {
        match self.owner {
            Some((uid, gid)) => lchown(path, Some(uid), Some(gid)).map_err(failed(path)),
            None => Ok(()),
        }
    }
}

/// An operator's certificate and its key, believed by this coordinator.
fn holds(shown: &Credentials, authority: &Authority, now: SystemTime) -> bool {
    let certificate = shown.certificate();
    let operator = matches!(
        Identity::of_certificate(certificate),
        Ok(Identity::Operator(_))
    );
    let believed = |trust| check_peer(certificate, &trust, &Arc::default(), now).is_ok();
    operator && shown.fits() && authority.trust().is_ok_and(believed)
}

fn add(table: &mut toml::Table, name: &str, address: &Address, file: impl Fn(&str) -> String) {
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

/// The invoking user's: under sudo, of the one who called it.
fn config_folder() -> Option<(PathBuf, Option<Owner>)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::succession;

    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

    fn authority(folder: &Path) -> Authority {
        let addresses = ["127.0.0.1".to_owned()];
        Authority::init(folder, &addresses, SystemTime::now()).expect("a CA")
    }

    #[test]
    fn a_context_is_good_until_it_ends_stale_when_the_ca_is_another_and_never_taken_from_another_place()
     {
        let home = tempfile::tempdir().expect("a folder");
        let ours = authority(&home.path().join("pki"));
        let here = Address::new("127.0.0.1", 7443).expect("an address");
        let there = Address::new("10.0.0.1", 7443).expect("an address");
        let now = SystemTime::now();
        let folder = home.path().join("a/b/cutover");
        let read = || Contexts::read(Some(&folder)).expect("it can be read");
        let none = read().known("default", Some(&ours), &here, now);
        assert!(matches!(none, Known::Not), "{none:?}");
        let operator = "admin".parse().expect("a name");
        let issued = ours.operator(&operator, now).expect("a certificate");
        let path = read()
            .keep("default", &here, &issued, &ours.bundle_pem())
            .expect("kept");
        assert_eq!(path, folder.join("context.toml"));
        let known = |authority: &Authority, at: &Address, when| {
            read().known("default", Some(authority), at, when)
        };
        assert!(matches!(known(&ours, &here, now), Known::Good(_)));
        assert!(matches!(known(&ours, &here, now + 91 * DAY), Known::Stale));
        // The same place with a new CA is this coordinator, begun anew; another place is another one.
        let new = authority(&home.path().join("new"));
        assert!(matches!(known(&new, &here, now), Known::Stale));
        assert!(matches!(known(&new, &there, now), Known::Anothers(at) if at == here.to_string()));
        let before_any_ca = read().known("default", None, &there, now);
        assert!(
            matches!(before_any_ca, Known::Anothers(_)),
            "{before_any_ca:?}"
        );
    }

    #[test]
    fn what_the_old_ca_made_is_good_until_the_new_one_is_the_only_one_and_stays_ours() {
        let home = tempfile::tempdir().expect("a folder");
        let (pki, folder) = (home.path().join("pki"), home.path().join("contexts"));
        let here = Address::new("127.0.0.1", 7443).expect("an address");
        let now = SystemTime::now();
        authority(&pki);
        succession::begin(&pki, now).expect("begun");
        let both = Authority::load(&pki).expect("a CA");
        let admin = "admin".parse().expect("a name");
        let known = || {
            let ours = Authority::load(&pki).expect("a CA");
            let contexts = Contexts::read(Some(&folder)).expect("it can be read");
            contexts.known("default", Some(&ours), &here, now)
        };
        let keep = |authority: &Authority| {
            let issued = authority.operator(&admin, now).expect("a certificate");
            let mut contexts = Contexts::read(Some(&folder)).expect("it can be read");
            contexts.choose("default");
            contexts
                .keep("default", &here, &issued, &authority.bundle_pem())
                .expect("kept");
        };
        keep(&both);
        assert!(matches!(known(), Known::Good(_)));
        succession::switch(&pki).expect("switched");
        assert!(matches!(known(), Known::Good(_)));
        succession::end(&pki).expect("ended");
        assert!(matches!(known(), Known::Stale));
        let holder = Contexts::read(Some(&folder)).expect("it can be read");
        assert_eq!(holder.holder("default"), Some(admin.clone()));
        keep(&Authority::load(&pki).expect("a CA"));
        assert!(matches!(known(), Known::Good(_)));
    }

    #[test]
    fn every_folder_that_had_to_be_made_is_given_away_and_no_other() {
        let home = tempfile::tempdir().expect("a folder");
        let contexts = Contexts::read(Some(&home.path().join("x/y"))).expect("nothing yet");
        let made = contexts.make_folder().expect("it can be made");
        assert_eq!(made, [home.path().join("x/y"), home.path().join("x")]);
        assert!(contexts.make_folder().expect("it is there").is_empty());
    }
}
