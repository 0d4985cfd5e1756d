//! The man pages of the three programs, from the same words as their `--help`.
//!
//! The bin `man` writes them to `docs/man`; a test compares, so that they are current.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

/// Where they are kept.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man")
}

/// Writes every page of every program: one for each verb that is not hidden.
///
/// # Errors
/// When the folder is not writable.
pub fn write(to: &Path) -> io::Result<()> {
    for program in [
        cutover_agent::args::Cli::command(),
        cutover_coordinator::args::Cli::command(),
        cutover_cli::args::Cli::command(),
    ] {
        clap_mangen::generate_to(program, to)?;
    }
    Ok(())
}
