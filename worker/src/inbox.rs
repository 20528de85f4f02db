//! The inbox of the worker's loop. Never what the loop does about an input.

use muster_protocol::attempts::Event;
use std::time::Duration;

/// Inputs that may wait for the loop. When the inbox is full, senders wait, and so do the frames of the
/// masters.
pub(crate) const INBOX_MAX: usize = 16 * 1024;

/// An input of the worker's loop.
#[expect(clippy::large_enum_variant, reason = "nearly every input is a fact for the state machine")]
pub(crate) enum Input {
    /// An event for the state machine, [`Attempts`](muster_protocol::attempts::Attempts).
    Attempts(Event),
    /// The lease was given back; the process can end.
    Released,
    /// The program of an upgrade is left for the supervisor: end, so that it is tried.
    Upgrade {
        /// How long runs may go on.
        deadline: Duration,
    },
}
