//! The agent's Docker adapter and its probes against a real engine of our own.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(
    clippy::print_stderr,
    reason = "measured times, and tests that were skipped, are read there"
)]

#[path = "adapter_docker/commands.rs"]
mod commands;
#[path = "adapter_docker/faults.rs"]
mod faults;
#[path = "adapter_docker/leftover.rs"]
mod leftover;
#[path = "adapter_docker/lifecycle.rs"]
mod lifecycle;
#[path = "adapter_docker/networks.rs"]
mod networks;
#[path = "adapter_docker/probes.rs"]
mod probes;
#[path = "adapter_docker/registry.rs"]
mod registry;
#[path = "adapter_docker/strangers.rs"]
mod strangers;
#[path = "adapter_docker/world.rs"]
mod world;
