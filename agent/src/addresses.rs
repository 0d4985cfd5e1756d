//! The fixed address of each replica in each slot, given once and kept.
//!
//! Addresses come from the lower half of the subnet, which the engine never
//! gives away by itself. A replica keeps its address for as long as its service
//! is known here, so that nginx is told once.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use cutover_core::{ServiceId, Slot};

use crate::docker::{Cidr, NetworkPlan};
use crate::revisions::write;

/// Addresses at the beginning of the subnet that are never given: network, gateway, and some for people.
const RESERVED: u32 = 16;

/// Why an address can't be given.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The subnet in the configuration is none.
    #[error("docker.subnet {0:?} is no subnet of /16 to /24, such as 10.213.0.0/20")]
    Subnet(String),
    /// The file of addresses can't be read or written.
    #[error("could not {doing} the addresses in {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Every address is taken.
    #[error("every address of {0} is taken; choose a larger docker.subnet")]
    Full(String),
}

/// The addresses of this host's replicas.
#[derive(Debug)]
pub struct Addresses {
    path: PathBuf,
    subnet: String,
    base: u32,
    prefix: u8,
    /// `APP/SERVICE SLOT REPLICA` to the number in the subnet.
    given: BTreeMap<String, u32>,
}

impl Addresses {
    /// Reads what was given before from `path`.
    ///
    /// # Errors
    /// When the subnet is none, or the file can't be read.
    pub fn open(path: &Path, subnet: &str) -> Result<Self, AddressError> {
        let (base, prefix) =
            parse(subnet).ok_or_else(|| AddressError::Subnet(subnet.to_owned()))?;
        let io = |source| AddressError::Io {
            doing: "read",
            path: path.to_owned(),
            source,
        };
        let given = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| io(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(io(error)),
        };
        Ok(Self {
            path: path.to_owned(),
            subnet: subnet.to_owned(),
            base,
            prefix,
            given,
        })
    }

    /// The network that these addresses are on.
    #[must_use]
    pub fn network(&self, name: &str) -> NetworkPlan {
        let half = 1 << (31 - self.prefix);
        NetworkPlan {
            name: name.to_owned(),
            subnet: Cidr::around(Ipv4Addr::from(self.base), self.prefix),
            ip_range: Cidr::around(Ipv4Addr::from(self.base + half), self.prefix + 1),
            gateway: Ipv4Addr::from(self.base + 1),
            bridge_name: None,
        }
    }

    /// The addresses of a slot's replicas, 1 to `replicas`; the same ones each time.
    ///
    /// # Errors
    /// When none is left, or they can't be kept.
    pub fn of(
        &mut self,
        service: &ServiceId,
        slot: Slot,
        replicas: u32,
    ) -> Result<Vec<Ipv4Addr>, AddressError> {
        let keys: Vec<String> = (1..=replicas)
            .map(|replica| format!("{service} {slot} {replica}"))
            .collect();
        let missing: Vec<&String> = keys
            .iter()
            .filter(|key| !self.given.contains_key(*key))
            .collect();
        if !missing.is_empty() {
            let mut given = self.given.clone();
            for key in missing {
                let free = (RESERVED..1 << (31 - self.prefix))
                    .find(|number| !given.values().any(|taken| taken == number));
                given.insert(
                    key.clone(),
                    free.ok_or_else(|| AddressError::Full(self.subnet.clone()))?,
                );
            }
            let bytes = serde_json::to_vec_pretty(&given).map_err(io::Error::from);
            bytes
                .and_then(|bytes| write(&self.path, &bytes))
                .map_err(|source| AddressError::Io {
                    doing: "keep",
                    path: self.path.clone(),
                    source,
                })?;
            self.given = given;
        }
        Ok(keys
            .iter()
            .filter_map(|key| self.given.get(key))
            .map(|number| Ipv4Addr::from(self.base + number))
            .collect())
    }
}

fn parse(subnet: &str) -> Option<(u32, u8)> {
    let (address, prefix) = subnet.split_once('/')?;
    let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
    let base = u32::from(address);
    ((16..=24).contains(&prefix) && base.trailing_zeros() >= 32 - u32::from(prefix))
        .then_some((base, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_once_and_kept_over_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("addresses.json");
        let (web, api): (ServiceId, ServiceId) = (
            "shop/web".parse().expect("a name"),
            "shop/api".parse().expect("a name"),
        );
        let mut addresses = Addresses::open(&path, "10.213.0.0/20").expect("it opens");
        let blue = addresses.of(&web, Slot::Blue, 2).expect("given");
        let other = addresses.of(&api, Slot::Blue, 1).expect("given");
        assert_eq!(
            blue,
            [Ipv4Addr::new(10, 213, 0, 16), Ipv4Addr::new(10, 213, 0, 17)]
        );
        assert!(!blue.contains(&other[0]));
        let mut again = Addresses::open(&path, "10.213.0.0/20").expect("it opens");
        assert_eq!(again.of(&web, Slot::Blue, 2).expect("given"), blue);
        assert_eq!(again.of(&web, Slot::Blue, 3).expect("given")[..2], blue);
    }

    #[test]
    fn a_subnet_that_is_none_is_refused() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.1/24",
            "10.0.0.0/8",
            "10.0.0.0/25",
            "x/20",
        ] {
            assert!(
                Addresses::open(Path::new("/nonexistent"), bad).is_err(),
                "{bad}"
            );
        }
    }
}
