//! The whole fleet, simulated: the real minds (`Fleet`, `Attempts`, `LeaseHolder`) in processes that
//! crash, stop and sleep, on clocks of different rates, over a network that is cut and a registry
//! that loses answers. Never anything of the machine that plays it: the same seed plays the same.
//!
//! One world in four loses the newest writes of its registry; docs/SAFETY.md says which losses the promises
//! do not cover.
//!
//! `sim` plays many seeds, or one with a trace, or a script; `mutants` breaks the protocol on purpose and says
//! which invariant notices.

pub mod checker;
pub mod client;
pub mod clock;
pub mod counters;
pub mod fault;
pub mod former;
pub mod mutant;
pub mod network;
pub mod play;
pub mod process;
pub mod registry;
mod registry_fault;
pub mod rng;
pub mod scenario;
pub mod setting;
pub mod world;
