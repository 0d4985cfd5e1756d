//! What travels between the three programs, and who may send it.
//!
//! [`v1`] is generated from `cutover/v1/*.proto`. [`identity`] reads who a peer
//! is from its certificate, [`tls`] sets up both ends of a connection, and
//! [`token`] is the text with which a machine becomes a host.
//!
//! Kept true: what a peer may do comes from its verified certificate alone.

pub mod convert;
pub mod identity;
pub mod tls;
pub mod token;

/// The wire, as generated.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::use_self,
    clippy::wildcard_enum_match_arm
)]
pub mod v1 {
    tonic::include_proto!("cutover.v1");
}

/// The protocol that this build speaks over the link.
pub const PROTOCOL: u32 = 1;

/// The oldest protocol that this build still understands.
pub const OLDEST_PROTOCOL: u32 = 1;
