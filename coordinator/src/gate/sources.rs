//! From where unfinished handshakes come: no one place may have them all.
//!
//! Kept true: a stranger who opens connections and says nothing takes a share of the room, and leaves the rest to
//! others. Does not know who anybody is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Unfinished handshakes by where they come from.
#[derive(Debug)]
pub(super) struct Sources {
    /// How many one place may have.
    share: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One unfinished handshake; dropped when it is over.
#[derive(Debug)]
pub(super) struct Guest {
    from: IpAddr,
    sources: Arc<Sources>,
}

impl Sources {
    pub(super) fn new(share: usize) -> Arc<Self> {
        Arc::new(Self {
            share,
            open: Mutex::default(),
        })
    }

    /// A place for one from there; none while its share is used up.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr) -> Option<Guest> {
        let from = network(from);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(from).or_default();
        if *count >= self.share {
            return None;
        }
        *count += 1;
        Some(Guest {
            from,
            sources: Arc::clone(self),
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut open = self
            .sources
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.from);
            }
        }
    }
}

/// Whoever has one address of IPv6 has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_place_has_its_share_and_others_have_theirs() {
        let sources = Sources::new(2);
        let first = sources.admit(at("192.0.2.1"));
        let second = sources.admit(at("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(sources.admit(at("192.0.2.1")).is_none());
        assert!(sources.admit(at("192.0.2.2")).is_some());
        drop(first);
        assert!(sources.admit(at("192.0.2.1")).is_some());
    }

    #[test]
    fn one_network_of_ipv6_is_one_place() {
        let sources = Sources::new(1);
        let held = sources.admit(at("2001:db8::1"));
        assert!(held.is_some() && sources.admit(at("2001:db8::2")).is_none());
        assert!(sources.admit(at("2001:db8:0:1::1")).is_some());
    }
}
