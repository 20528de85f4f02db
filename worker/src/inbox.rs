//! What others report to the worker's loop. Never what the loop does about it.

use muster_protocol::attempts::Event;

/// What may wait for the loop. Beyond it senders wait, and with them the masters' frames.
pub(crate) const INBOX_MAX: usize = 16 * 1024;

/// Something that the loop must know.
#[expect(clippy::large_enum_variant, reason = "nearly every input is a fact for the mind")]
pub(crate) enum Input {
    /// A fact for the mind.
    Attempts(Event),
    /// The lease was given back; the process can end.
    Released,
}
