//! Who is believed: our CA, its certificates, tokens, and which host a machine may be.
//!
//! [`Authority`] makes certificates; [`admission`] decides, without I/O, who
//! gets one; a [`Registry`] keeps what was decided. [`succession`] lets one CA take
//! over from another.
//!
//! Kept true: nothing in a certificate comes from its request but the key.

pub mod admission;
mod authority;
mod ca;
mod folder;
pub mod holding;
pub mod operators;
mod registry;
pub mod succession;

pub use admission::{Ask, Given, HostRecord, Standing, TokenRecord};
pub use authority::{
    Authority, Issued, Lives, PkiError, RENEWABLE_AFTER_EXPIRY, Secret, key_of_request,
};
pub use holding::Holding;
pub use registry::{Registry, RegistryError};
