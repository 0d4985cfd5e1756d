//! The real coordinator as a process, and hosts that are stand-ins: real
//! enrolment, real mTLS sessions, real berths, but containers in memory.

#[path = "coordinator/bed.rs"]
mod bed;
#[path = "coordinator/clocks.rs"]
mod clocks;
#[path = "coordinator/crashes.rs"]
mod crashes;
#[path = "coordinator/doors.rs"]
mod doors;
#[path = "coordinator/host.rs"]
mod host;
#[path = "coordinator/operators.rs"]
mod operators;
#[path = "coordinator/rollouts.rs"]
mod rollouts;
#[path = "coordinator/succession.rs"]
mod succession;
