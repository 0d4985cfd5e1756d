//! End to end: the real coordinator, real agents, real nginx, real Docker, real
//! load. Each claim is one that a user relies on; failures are counted at the
//! client and compared with nginx's count.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what it measured"
)]

mod bad_releases;
mod barrier;
mod certificates;
mod compose;
mod crashes;
mod day0;
mod doctor;
mod kinds;
mod lease;
mod look;
mod obstacles;
mod outages;
mod reflex;
mod replicas;
mod succession;
mod swaps;
