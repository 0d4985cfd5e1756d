//! Timelines of both machines: a script in, a transcript out; and the laws that
//! hold for every script. Names carry the promises that a test is about.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a transcript prints most facts as they are"
)]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod bench;
mod fleet;
mod laws;
mod live;
mod recreate;
mod reflex;
mod restored;
mod rollout;
mod swap;
