//! The whole fleet, simulated: the real minds (`Fleet`, `Attempts`, `Holder`) in processes that
//! crash, stop and sleep, on clocks of different rates, over a network that is cut and a registry
//! that loses answers. Never anything of the machine that plays it: the same seed plays the same.
//!
//! Every eighth world loses the newest writes of its registry. In it no process ends: one that is
//! new, or was cut off before the writes that are lost, cannot know that there were any. What such a
//! master does before another one has told it so is not covered by the promises.
//!
//! `sim` plays many seeds, or one with a trace; `mutants` breaks the protocol on purpose and says
//! which invariant notices.

pub mod chance;
pub mod checker;
pub mod client;
pub mod clock;
pub mod fault;
pub mod former;
pub mod mutant;
pub mod network;
pub mod play;
pub mod process;
pub mod registry;
mod registry_fault;
pub mod scenario;
pub mod setting;
pub mod tally;
pub mod world;
