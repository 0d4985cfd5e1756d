//! Compose files in, releases and sentences out: the crate as its callers see it.

mod defaults;
mod files;
mod merging;
mod problems;
mod robust;
mod services;
mod workshop;
