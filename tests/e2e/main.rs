//! End to end: the real coordinator, real agents, real nginx, real Docker, real
//! load. Each claim is one that a user relies on; failures are counted at the
//! client and compared with nginx's count.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what it measured"
)]

mod bad_releases;
mod certificates;
mod compose;
mod doctor;
mod outages;
mod replicas;
mod swaps;
