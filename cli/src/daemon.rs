//! `muster master` and `muster worker`: the daemons, in this executable. Never does a part of their work
//! itself.
//!
//! The daemons declare `--nats` and `--fleet` themselves, with the same ids and types as
//! [`crate::client::ConnectArgs`]. Those are global, so `muster --fleet edge master …` works.

use std::process::ExitCode;

/// Is a master until it is told to stop.
pub fn master(config: muster_master::Config) -> ExitCode {
    muster_master::main(config)
}

/// Is a worker until it is told to stop.
pub fn worker(config: muster_worker::Config) -> ExitCode {
    muster_worker::main(config)
}
