//! `cutover completions` and `man`: made from the grammar itself.

use std::path::Path;

use super::Cx;
use crate::args::grammar;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};

/// `cutover completions`
pub(super) fn completions(cx: &Cx<'_>, shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut grammar(), "cutover", &mut script);
    cx.output.data(&String::from_utf8_lossy(&script));
    Exit::Done
}

/// `cutover man`
pub(super) fn man(folder: &Path) -> Result<Exit, Failure> {
    clap_mangen::generate_to(grammar(), folder).map_err(|error| {
        Failure::because(
            Kind::Unexpected,
            format!("writing man pages to {}", folder.display()),
            error,
        )
    })?;
    Ok(Exit::Done)
}
