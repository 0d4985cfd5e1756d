//! `HOST:PORT`, where a gate is: a DNS name or an IP address, and a port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls_pki_types::ServerName;

/// Where a gate is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: write HOST:PORT, with an IPv6 address in brackets")]
pub struct AddressError(String);

impl Address {
    /// The gate of `host`, a DNS name or an IP address without brackets, at `port`.
    ///
    /// # Errors
    /// When `host` is neither.
    pub fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        if port == 0 || ServerName::try_from(host).is_err() {
            return Err(AddressError(format!("{host}:{port}")));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// DNS name, or IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the certificate there must be made for.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok() // never none: `new` tried it
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port = port.parse().map_err(|_| wrong())?;
        Self::new(host, port).map_err(|_| wrong())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Ok(IpAddr::V4(_)) | Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in [
            "deploy.example.com:7443",
            "10.0.0.1:7443",
            "[::1]:7443",
            "localhost:1",
        ] {
            assert_eq!(good.parse::<Address>().expect("good").to_string(), good);
        }
        for bad in [
            "",
            ":7443",
            "host",
            "host:",
            "host:0",
            "host:70000",
            "::1:7443",
            "[::1:7443",
            "a b:1",
            "http://a:1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
