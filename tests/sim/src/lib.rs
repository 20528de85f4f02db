//! A simulation of a whole fleet. It drives the real state machines (`Fleet`, `Attempts`, `LeaseHolder`)
//! in simulated processes that crash, stop and sleep, on clocks of different rates, over a network that
//! loses connectivity and with a registry that loses answers. Never reads a clock or a random number of
//! the host machine: a run with the same seed is always the same.
//!
//! In one world of four the registry loses its newest writes; docs/SAFETY.md says which losses the
//! promises do not cover.
//!
//! The program `sim` runs many seeds, or one seed with a trace, or one script. The program `mutants`
//! breaks the protocol on purpose and reports which invariant notices it.

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
