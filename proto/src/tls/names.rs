//! For which DNS names and IP addresses a certificate holds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::extensions::GeneralName;

use super::TlsError;

/// Those of a certificate, as they are written.
///
/// # Errors
/// When it cannot be read.
pub fn names_of_certificate(der: &[u8]) -> Result<Vec<String>, TlsError> {
    let certificate = super::serial::parse(der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(TlsError::Certificate)?;
    let names = names.iter().flat_map(|found| &found.value.general_names);
    Ok(names.filter_map(name).collect())
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name {
        return Some((*name).to_owned());
    }
    let GeneralName::IPAddress(bytes) = name else {
        return None;
    };
    let four = <[u8; 4]>::try_from(*bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let six = <[u8; 16]>::try_from(*bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    four.or(six).ok().map(|address| address.to_string())
}
