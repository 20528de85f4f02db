//! The vocabulary and the decisions of Muster: the messages and records that client, master, worker and
//! registry exchange, and the state machines of master and worker.
//!
//! Nothing here does I/O, reads a clock, draws a random number or logs; `no_std` enforces that. Every
//! decision is a function of the observed events and of a [`Time`] that the caller passes in, and is
//! returned as data. The daemons and the simulator run the same code.
#![no_std]
extern crate alloc;

pub mod advisory;
pub mod api;
pub mod attempts;
pub mod audit;
mod base64_text;
pub mod checkpoint;
pub mod enrolment;
pub mod entitlement;
pub mod fleet;
pub mod frame;
mod frame_range;
pub mod grant;
pub mod group;
pub mod health;
pub mod id;
pub mod lease;
pub mod limit;
pub mod message;
mod occupancy;
pub mod record;
pub mod registry;
pub mod retry;
pub mod role;
mod run_estimate;
pub mod sealed;
pub mod sessions;
pub mod signature;
pub mod site;
pub mod subject;
pub mod task;
pub mod time;
pub mod trace;
pub mod upgrade;
pub mod watch;
mod words;

pub use id::{
    ABSENT, AttemptId, BatchId, Digest, GroupName, LinkId, MasterId, Nonce, Revision, SessionId,
    TaskId, WorkerId,
};
pub use time::Time;
