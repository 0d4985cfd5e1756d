//! A simulated world: a coordinator, hosts, Docker, nginx, a network and clients,
//! in one thread, from one seed.
//!
//! The machines in it are the real ones; the shells around them are as thin as
//! the real ones and keep the same order: save, say, do. The world is unkind
//! (`fault`), and after every step the promises of the design are checked
//! against what is so in the world, not against what the machines believe
//! (`promises`). It knows no clock and no randomness but its seed's: the same
//! seed gives the same transcript.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an onlooker minds a few facts of the machines, and lets the others pass"
)]
#![allow(
    clippy::wrong_self_convention,
    reason = "to_host and to_coordinator say where a message goes"
)]

mod action;
mod agent;
mod chance;
mod chaos;
mod coordinator;
mod engine;
mod fault;
mod front;
mod host;
mod judge;
mod many;
mod map;
mod promises;
mod queue;
mod scenario;
mod tally;
mod wire;
mod world;

pub use many::{Many, many};
pub use promises::{Breach, Promise};
pub use tally::Tally;
pub use world::{Ran, run};
