//! Which certificates are no longer believed, by serial number.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use arc_swap::ArcSwap;
use x509_parser::certificate::X509Certificate;

use super::TlsError;

/// A certificate's serial number, without leading zeros.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// This number, most significant byte first.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes.get(zeros..).unwrap_or_default().into())
    }

    /// Of this certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_certificate(der: &[u8]) -> Result<Self, TlsError> {
        Ok(Self::from_bytes(parse(der)?.raw_serial()))
    }

    /// Its bytes, most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Serial {
    type Err = std::num::ParseIntError;

    /// Reads what `Display` wrote.
    fn from_str(hex: &str) -> Result<Self, Self::Err> {
        let bytes = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(hex.get(at..at + 2).unwrap_or("?"), 16))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::from_bytes(&bytes))
    }
}

/// The serial numbers that are refused, at handshakes and in requests on live connections.
#[derive(Debug, Default)]
pub struct DenyList(ArcSwap<HashSet<Serial>>);

impl DenyList {
    /// One that refuses these.
    #[must_use]
    pub fn of(serials: impl IntoIterator<Item = Serial>) -> Self {
        Self(ArcSwap::from_pointee(serials.into_iter().collect()))
    }

    /// Refuses these from now on, too.
    pub fn deny(&self, serials: impl IntoIterator<Item = Serial>) {
        let more: Vec<Serial> = serials.into_iter().collect();
        self.0
            .rcu(|denied| denied.iter().chain(&more).cloned().collect::<HashSet<_>>());
    }

    /// Whether this one is refused.
    #[must_use]
    pub fn denies(&self, serial: &Serial) -> bool {
        self.0.load().contains(serial)
    }
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, TlsError> {
    use x509_parser::error::X509Error;
    use x509_parser::nom::Err;
    match x509_parser::parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(Err::Error(error) | Err::Failure(error)) => Err(TlsError::Certificate(error)),
        Err(Err::Incomplete(_)) => Err(TlsError::Certificate(X509Error::InvalidCertificate)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_the_same_number_with_and_without_a_leading_zero() {
        let serial = Serial::from_bytes(&[0, 0x8a, 1]);
        assert_eq!(serial, Serial::from_bytes(&[0x8a, 1]));
        assert_eq!(serial.to_string().parse(), Ok(serial.clone()));
        assert!("8a0".parse::<Serial>().is_err());
        let denied = DenyList::default();
        denied.deny([serial.clone()]);
        assert!(denied.denies(&serial) && !denied.denies(&Serial::from_bytes(&[1])));
    }
}
