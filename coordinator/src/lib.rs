//! The coordinator: plans rollouts, commands agents, keeps what happened.
//!
//! [`run`] puts it together. [`helm`] is the loop that owns everything; [`gate`],
//! [`roster`] and [`console`] are its doors, [`store`] its memory, [`pki`] its
//! word on who is who, [`planner`] turns wishes into plans. [`init`] and [`local`]
//! are day 0.

pub mod args;
pub mod ca;
pub mod config;
pub mod console;
pub mod doctor;
pub mod gate;
pub mod helm;
pub mod http;
pub mod init;
pub mod local;
pub mod metrics;
pub mod operator;
pub mod owner;
pub mod pki;
pub mod planner;
pub mod reached;
pub mod roster;
pub mod run;
pub mod store;
