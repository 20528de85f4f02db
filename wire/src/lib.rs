//! The code that both daemons share to reach the outside world: the boot clock, the log, certificates,
//! links and streams of frames, connections to NATS, compare-and-set and objects in JetStream. Never decides
//! anything.

// The print macros panic when nobody reads the output. Use `log` instead.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod authority;
pub mod cas;
pub mod clock;
pub mod config_file;
pub mod frames;
pub mod http;
pub mod link;
pub mod log;
pub mod nats;
pub mod notify;
pub mod objects;
pub mod otlp;
pub mod process;
pub mod state;
pub mod tls;
