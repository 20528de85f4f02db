//! The words and the decisions of Muster: what is said between client, master, worker and
//! registry, and the two state machines that decide what to do about it.
//!
//! Nothing here may do I/O, read a clock, draw a random number or log; `no_std` keeps it so.
//! Every decision is a function of the facts observed and of a [`Time`] handed in, and comes out
//! as data. The same code runs in the daemons and in the simulator.
#![no_std]
extern crate alloc;

pub mod advisory;
pub mod api;
pub mod attempts;
pub mod checkpoint;
pub mod fleet;
pub mod frame;
pub mod grant;
pub mod health;
pub mod id;
pub mod lease;
pub mod limit;
pub mod message;
pub mod registry;
pub mod retry;
mod run_estimate;
pub mod sessions;
pub mod subject;
pub mod task;
pub mod time;
pub mod watch;
mod words;

pub use id::{
    ABSENT, AttemptId, BatchId, Digest, GroupName, LinkId, MasterId, Nonce, Revision, SessionId,
    TaskId, WorkerId,
};
pub use time::Time;
