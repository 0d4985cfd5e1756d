//! What a host holds: a certificate of one CA, and the CAs that it believes; and what
//! that means for a succession.
//!
//! Kept true: a host of which nothing is recorded holds nothing.

use std::collections::BTreeSet;

use cutover_proto::tls::Fingerprint;
use cutover_proto::v1::SerialRecord;
use serde::{Deserialize, Serialize};

/// Of which CA a certificate is, and which CAs were given with it to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The CA that made the certificate.
    pub issuer: Fingerprint,
    /// The CAs that its holder believes.
    pub trusts: BTreeSet<Fingerprint>,
}

impl Holding {
    /// As it was kept; none if it was not.
    #[must_use]
    pub fn of_record(record: &SerialRecord) -> Option<Self> {
        let ca = |bytes: &Vec<u8>| Some(Fingerprint::from_bytes(bytes.as_slice().try_into().ok()?));
        Some(Self {
            issuer: ca(&record.issuer)?,
            trusts: record.trusts.iter().filter_map(ca).collect(),
        })
    }
}

/// What a running coordinator gives, and what its hosts hold; for this machine alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// The CA whose certificates hosts are given.
    pub issuer: String,
    /// The CAs that are believed.
    pub trusts: BTreeSet<String>,
    /// Every host that was not removed.
    pub hosts: Vec<HostHolding>,
}

/// What one host holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHolding {
    /// Its name.
    pub host: String,
    /// Whether it is there.
    pub state: String,
    /// The CA of its certificate; empty: not known.
    pub issuer: String,
    /// The CAs that it believes.
    pub trusts: BTreeSet<String>,
}

impl HostHolding {
    /// Of this host.
    #[must_use]
    pub fn new(host: String, state: String, holding: Option<&Holding>) -> Self {
        Self {
            host,
            state,
            issuer: holding.map_or_else(String::new, |holding| holding.issuer.to_string()),
            trusts: holding.map_or_else(BTreeSet::new, |holding| words(&holding.trusts)),
        }
    }
}

impl Holdings {
    /// Of this coordinator.
    #[must_use]
    pub fn new(given: &Holding, hosts: Vec<HostHolding>) -> Self {
        Self {
            issuer: given.issuer.to_string(),
            trusts: words(&given.trusts),
            hosts,
        }
    }

    /// Hosts that are not known to believe `ca`.
    #[must_use]
    pub fn unbelieving(&self, ca: &str) -> Vec<&HostHolding> {
        let hosts = self.hosts.iter();
        hosts.filter(|host| !host.trusts.contains(ca)).collect()
    }

    /// Hosts that are not known to have a certificate of `ca`.
    #[must_use]
    pub fn uncertified(&self, ca: &str) -> Vec<&HostHolding> {
        self.hosts.iter().filter(|host| host.issuer != ca).collect()
    }

    /// Hosts that are known to believe another CA than the coordinator does, or not known at all.
    #[must_use]
    pub fn behind(&self) -> Vec<&HostHolding> {
        let same = |host: &&HostHolding| host.issuer == self.issuer && host.trusts == self.trusts;
        self.hosts.iter().filter(|host| !same(host)).collect()
    }
}

fn words(cas: &BTreeSet<Fingerprint>) -> BTreeSet<String> {
    cas.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_coordinator_recorded_says_nothing_and_such_a_host_is_waited_for() {
        let recorded = SerialRecord {
            serial: "07".to_owned(),
            until_unix_millis: 1,
            ..SerialRecord::default()
        };
        assert_eq!(Holding::of_record(&recorded), None);
        let ca = Fingerprint::of(b"a CA");
        let given = Holding {
            issuer: ca,
            trusts: [ca].into(),
        };
        let host = |name: &str, holding| HostHolding::new(name.to_owned(), String::new(), holding);
        let hosts = vec![host("known", Some(&given)), host("old", None)];
        let holdings = Holdings::new(&given, hosts);
        let ca = ca.to_string();
        for waited in [
            holdings.unbelieving(&ca),
            holdings.uncertified(&ca),
            holdings.behind(),
        ] {
            assert_eq!(waited.len(), 1);
            assert_eq!(waited[0].host, "old");
        }
    }
}
