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
mod run_estimate;
pub mod sessions;
pub mod subject;
pub mod task;
pub mod time;
pub mod watch;

pub use id::{AttemptId, BatchId, Digest, GroupName, MasterId, Nonce, SessionId, TaskId, WorkerId};
pub use time::Time;

/// The sequence number, in a bucket's stream, of the newest value of a key. [`ABSENT`] where the key
/// does not exist.
pub type Revision = u64;

/// The revision to expect of a key that must not exist yet.
pub const ABSENT: Revision = 0;
