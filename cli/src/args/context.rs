//! `cutover context …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cutover_proto::tls::Address;

/// What to do with the context file.
#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// Lists the coordinators that are known here
    Ls,
    /// Uses this coordinator from now on
    Use {
        /// Its name
        name: String,
    },
    /// Shows which coordinator is meant, and as whom
    Show {
        /// Its name [default: the one that is in use]
        name: Option<String>,
    },
    #[allow(missing_docs)]
    Add(ContextAdd),
}

/// Makes a coordinator known here; the first one is used at once
///
/// Without a file, CI sets CUTOVER_ADDRESS, CUTOVER_CA, CUTOVER_CERT and CUTOVER_KEY (each but the
/// address may be a path or the PEM text itself); they win over the file, --context wins over them.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cutover context add prod --address deploy.example.com:7443 --ca ca.pem --cert me.pem --key me.key")]
pub struct ContextAdd {
    /// What to call it
    pub name: String,
    /// Where the coordinator is
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Address,
    /// The certificate of its CA (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// Your certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Use it from now on
    #[arg(long = "use")]
    pub use_it: bool,
}
