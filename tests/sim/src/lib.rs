//! The whole fleet, simulated: the real minds (`Fleet`, `Attempts`, `Holder`) in processes that
//! crash, stop and sleep, on clocks of different rates, over a network that is cut and a registry
//! that loses answers. Never anything of the machine that plays it: the same seed plays the same.
//!
//! `sim` plays many seeds, or one with a trace; `mutants` breaks the protocol on purpose and says
//! which invariant notices.

pub mod chance;
pub mod checker;
pub mod client;
pub mod clock;
pub mod fault;
pub mod mutant;
pub mod network;
pub mod play;
pub mod process;
pub mod registry;
pub mod scenario;
pub mod setting;
pub mod tally;
pub mod world;
