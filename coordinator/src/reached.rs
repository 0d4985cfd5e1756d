//! By which of its names and addresses somebody is told to find the coordinator.
//!
//! Kept true: a machine elsewhere is told a loopback address only when there is nothing else.

use std::net::IpAddr;

/// The coordinator's names and addresses, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached(Vec<String>);

impl Reached {
    /// By these; `None`: by none.
    #[must_use]
    pub fn by(addresses: Vec<String>) -> Option<Self> {
        (!addresses.is_empty()).then_some(Self(addresses))
    }

    /// For one who asks from this address: over loopback it is the first, else the first that is not
    /// this machine's alone.
    #[must_use]
    pub fn told(&self, from: Option<IpAddr>) -> &str {
        let here = from.is_some_and(|from| from.to_canonical().is_loopback());
        let fits = |address: &&String| here || !is_loopback(address);
        let found = self.0.iter().find(fits).or(self.0.first());
        found.map_or("", String::as_str)
    }
}

fn is_loopback(address: &str) -> bool {
    address == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_from_elsewhere_is_told_no_loopback_address_while_there_is_another() {
        let told = |all: &[&str], from: Option<&str>| {
            let all = all.iter().map(|one| (*one).to_owned()).collect();
            let from = from.map(|from| from.parse().expect("an address"));
            Reached::by(all)
                .expect("there are some")
                .told(from)
                .to_owned()
        };
        let both = ["127.0.0.1", "deploy.example.com"];
        assert_eq!(told(&both, Some("192.0.2.1")), "deploy.example.com");
        assert_eq!(told(&both, None), "deploy.example.com");
        assert_eq!(told(&both, Some("127.0.0.1")), "127.0.0.1");
        assert_eq!(told(&both, Some("::ffff:127.0.0.1")), "127.0.0.1");
        assert_eq!(told(&["127.0.0.1"], Some("192.0.2.1")), "127.0.0.1");
        assert_eq!(Reached::by(Vec::new()), None);
    }
}
