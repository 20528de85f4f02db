//! What both daemons do in the same way with the world outside: the boot clock, the log, certificates,
//! QUIC streams of frames, connections to NATS, and compare-and-set and objects in JetStream. Never
//! decides anything.

// These panic where nobody reads: `log` takes their place.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cas;
pub mod clock;
pub mod log;
pub mod nats;
pub mod objects;
pub mod process;
pub mod quic;
pub mod state;
pub mod tls;
