//! A fleet of real processes for a test: its own nats-server, masters and workers, in its own directory,
//! on ports that the system chooses. Also the programs that inject faults into such a fleet and check
//! it. Never touches a process that it did not start.

pub mod chaos;
pub mod fleet;
pub mod hostile;
pub mod net;
pub mod place;

pub use fleet::{Fleet, Ran};
