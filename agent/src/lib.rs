//! The agent: on every host, swaps containers, switches traffic, watches health, reports.
//!
//! One loop ([`run`] starts it) owns every berth of the host. Around it, one file
//! or folder an adapter: [`docker`], [`traffic`] (nginx), [`signals`] (what nginx
//! counts), [`probe`], [`session`] (the stream to the coordinator), [`enroll`],
//! [`journal`], [`local`] and [`doctor`] (for people on the host).
//!
//! Kept true: without its coordinator the agent keeps serving, restarts what
//! crashed, and takes traffic back from a sick candidate.

pub mod addresses;
pub mod args;
pub mod config;
pub mod docker;
pub mod doctor;
pub mod enroll;
mod helm;
mod host;
pub mod journal;
pub mod local;
pub mod probe;
pub mod revisions;
pub mod run;
pub mod session;
pub mod signals;
pub mod traffic;
