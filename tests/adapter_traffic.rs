//! Traffic against a real nginx: each finding of the design, one test.
//!
//! Containers are the test service as plain processes on loopback addresses,
//! but where what a bridge does is the point.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a test's panic is its report"
)]

#[path = "adapter_traffic/admin.rs"]
mod admin;
#[path = "adapter_traffic/bed.rs"]
mod bed;
#[path = "adapter_traffic/bridge.rs"]
mod bridge;
#[path = "adapter_traffic/configuration.rs"]
mod configuration;
#[path = "adapter_traffic/failing.rs"]
mod failing;
#[path = "adapter_traffic/switching.rs"]
mod switching;
#[path = "adapter_traffic/tcp.rs"]
mod tcp;
