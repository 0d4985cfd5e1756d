//! What the two services share: configuration with its path in the error,
//! logging, the clock that is read once per wake, the end, systemd and its units, and what a doctor finds.

pub mod clock;
pub mod config;
pub mod exit;
pub mod findings;
pub mod logging;
pub mod service;
pub mod unit;
