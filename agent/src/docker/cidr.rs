//! Blocks of IPv4 addresses, and whether they meet.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 block, `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: u32,
    prefix: u8,
}

/// Not an IPv4 block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 block like 10.1.0.0/16, with only zeros behind the prefix")]
pub struct CidrError(String);

impl Cidr {
    /// The block of `prefix` bits (at most 32) that holds `address`.
    #[must_use]
    pub fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self {
            base: u32::from(address) & Self::mask(prefix),
            prefix,
        }
    }

    /// Whether `address` lies in it.
    #[must_use]
    pub fn holds(self, address: Ipv4Addr) -> bool {
        u32::from(address) & Self::mask(self.prefix) == self.base
    }

    /// Whether some address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        (self.base ^ other.base) & Self::mask(shorter) == 0
    }

    /// Whether it lies in `other` and is smaller.
    #[must_use]
    pub fn is_part_of(self, other: Self) -> bool {
        self.prefix > other.prefix && self.overlaps(other)
    }

    fn mask(prefix: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let (address, prefix) = (
                address.parse::<Ipv4Addr>().ok()?,
                prefix.parse::<u8>().ok()?,
            );
            let block = Self::around(address, prefix);
            (prefix <= 32 && block.base == u32::from(address)).then_some(block)
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Cidr {
        text.parse().expect("a block")
    }

    #[test]
    fn blocks_overlap_when_one_holds_the_other() {
        assert!(block("10.0.0.0/8").overlaps(block("10.7.0.0/16")));
        assert!(block("10.7.0.0/16").overlaps(block("10.0.0.0/8")));
        assert!(!block("10.7.0.0/16").overlaps(block("10.8.0.0/16")));
        assert!(block("0.0.0.0/0").overlaps(block("10.8.0.0/16")));
        assert!(block("10.8.0.0/16").holds(Ipv4Addr::new(10, 8, 255, 1)));
        for bad in ["10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "x/8", "::/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
