//! One service on one host: its place there, and the swaps that change it.
//!
//! A [`Berth`] is told events and answers with facts; the agent stores them,
//! then does what the berth wants. See [`Berth::handle`] for the order of things.

mod apply;
mod berth;
mod event;
mod fact;
mod halt;
mod heed;
mod patience;
mod phase;
mod plan;
mod report;
mod settle;
mod sight;
mod summary;
mod under_way;
mod verdict;
mod wait;
mod want;

pub use berth::{Berth, Ended, Hang, Refusal, Settled};
pub use event::{
    Action, Event, Failure, Incarnation, Pace, Seen, SeenReplica, SeenState, SwapOrder, Want, Watch,
};
pub use fact::{Fact, Stamped};
pub use phase::Phase;
pub use plan::{Kind, Side, SwapPlan, Target};
pub use report::{Report, Stamp, SwapReport};
pub(crate) use settle::seconds;
pub use settle::{
    CUT_WITHIN, DRAIN_SETTLE, ENGINE_PATIENCE, FETCH_WITHIN, MAKE_WITHIN, SMOKE_WITHIN,
    START_WITHIN, STOP_SLACK,
};
pub use summary::Summary;
pub use under_way::{Lane, UnderWay};
pub use wait::Deadline;
