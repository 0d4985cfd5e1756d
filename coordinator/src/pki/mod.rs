//! Who is believed: our CA, its certificates, tokens, and which host a machine may be.
//!
//! [`Authority`] makes certificates; [`admission`] decides, without I/O, who
//! gets one; a [`Registry`] keeps what was decided.
//!
//! Kept true: nothing in a certificate comes from its request but the key.

pub mod admission;
mod authority;
mod folder;
pub mod operators;
mod registry;

pub use admission::{Ask, HostRecord, Standing, TokenRecord};
pub use authority::{
    Authority, Issued, Lives, PkiError, RENEWABLE_AFTER_EXPIRY, Secret, key_of_request,
};
pub use registry::{Registry, RegistryError};
