//! A fleet of real processes for a test: its own nats-server, masters and workers in its own
//! directory, on ports that the system chose; and what strikes and judges such a fleet. Never touches
//! a process that it did not start.

pub mod chaos;
pub mod fleet;
pub mod hostile;
pub mod net;
pub mod place;

pub use fleet::{Fleet, Ran};
