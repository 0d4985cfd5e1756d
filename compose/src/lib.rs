//! Compose files → a checked, normalised [`Release`].
//!
//! [`load`] reads the files that an [`Input`] means, replaces variables, merges
//! files, and makes of each service a [`cutover_core::spec::ServiceSpec`] in
//! which every default is written out. Standard fields mean what they mean to
//! Compose; what is Cutover's own is under `x-cutover`.
//!
//! Keeps true: no field is passed over in silence (acted on, named in a warning,
//! or refused); every problem says where, what and what to do, and all of them
//! come at once; a problem quotes `${VAR}` and never what took its place, and the
//! normal form leaves out what may be secret; no input makes it panic or run away.
//!
//! Reads files and nothing else: no network, no engine, no clock. It does not
//! know the hosts: whether a constraint matches one is found out at the plan.

mod canonical;
mod configs;
mod container;
mod dotenv;
mod environment;
mod fields;
mod health;
mod hint;
mod image;
mod input;
mod interpolate;
mod merge;
mod mounts;
mod networks;
mod node;
mod normal;
mod order;
mod policy;
mod problem;
mod reader;
mod ready;
mod release;
mod resources;
mod service;
mod settings;
mod traffic;
mod units;
mod words;
mod yaml;

pub use image::{ImageOverride, ImageOverrideError};
pub use input::Input;
pub use normal::normalized;
pub use problem::{Position, Problem, Problems, Severity};
pub use release::{Loaded, Release, load};
