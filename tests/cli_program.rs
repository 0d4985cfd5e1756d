//! The program `cutover` itself, as a process, against a coordinator that plays a script over real mTLS.
//!
//! The script stands in for the other end of the network and for nothing else: what the real
//! coordinator answers is tested where it is at home.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report"
)]

mod cli_program {
    pub(crate) mod network;
    pub(crate) mod peer;
    pub(crate) mod run;
    pub(crate) mod views;

    mod context;
    mod deploy;
    mod failures;
    mod look;
    mod terminal;
    mod watching;
}
