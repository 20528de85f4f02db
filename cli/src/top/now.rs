//! The present time, as what is drawn needs it. Never used for a decision about tasks.

use muster_protocol::time::WallMillis;
use std::time::Duration;

/// The present time.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the wall clock of this machine, for the ages of stamps that others made.
    pub wall: WallMillis,
    /// Since this command has started, by a clock that never jumps.
    pub uptime: Duration,
}
