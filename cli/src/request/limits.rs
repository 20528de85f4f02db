//! The limits of an attempt, from the command line. Never has a default of its own: the protocol has
//! them.

use crate::quantity;
use clap::Args;
use muster_protocol::task::Limits;
use std::time::Duration;

/// Limits of a task.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct Chosen {
    /// Kill an attempt that runs longer than this [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    timeout: Option<Duration>,
    /// Kill an attempt that uses more processor time than this; waiting does not count [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    cpu_time: Option<Duration>,
    /// End the task if it has waited for a worker for this long [default: 7d]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    queue_time: Option<Duration>,
    /// The maximum linear memory of an attempt [default: 128MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    memory: Option<u64>,
    /// The maximum output [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    output_size: Option<u64>,
    /// The maximum of standard error and log; more is dropped and counted [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    log_size: Option<u64>,
    /// The maximum state of a checkpoint [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    checkpoint_size: Option<u64>,
}

impl Chosen {
    /// The limits themselves; what was not chosen is at its default.
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        let time = |chosen: Option<Duration>, default| chosen.map_or(default, millis);
        Limits {
            timeout_ms: time(self.timeout, default.timeout_ms),
            cpu_ms: time(self.cpu_time, default.cpu_ms),
            queue_ms: time(self.queue_time, default.queue_ms),
            memory_bytes: self.memory.unwrap_or(default.memory_bytes),
            output_bytes: self.output_size.unwrap_or(default.output_bytes),
            log_bytes: self.log_size.unwrap_or(default.log_bytes),
            checkpoint_bytes: self.checkpoint_size.unwrap_or(default.checkpoint_bytes),
        }
    }
}

/// Whole milliseconds; more than there can be is refused with the other limits.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
