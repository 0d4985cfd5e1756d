//! The heart of Cutover: its vocabulary and its two state machines.
//!
//! [`swap`] is what one host does for one service: it takes revision A's place
//! with revision B, or gives it back. [`rollout`] is what the coordinator does
//! over many hosts: it says how far each host's swap shall go.
//!
//! Both obey one law. A machine is told what happened and when; it answers with
//! the facts that follow. What it wants done, and when it must be woken, are
//! worked out from where it stands, at any time, and never stored. It asks no
//! clock, draws no number and fails on no input. A machine's state is its plan
//! and the facts so far: stored facts, applied again in order, give it back.
//!
//! Nothing here does I/O, reads a clock, draws a random number or serialises.

pub mod generation;
pub mod guard;
pub mod moment;
pub mod name;
pub mod rollout;
pub mod route;
pub mod spec;
pub mod swap;

pub use generation::Generation;
pub use moment::Moment;
pub use name::{AppName, HostId, NameError, RevisionNumber, RolloutId, ServiceId, ServiceName};
pub use route::{Route, Slot, Weight};
