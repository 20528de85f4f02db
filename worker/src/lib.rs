//! Placeholder.
pub mod clock;
pub mod engine;
pub mod gate;
pub mod run;
pub mod sandbox;
