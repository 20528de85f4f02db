//! Creates ids from this machine's wall clock and the kernel's random bits. Never creates the same id
//! twice, except by a collision in 80 bits.

use anyhow::Context as _;
use muster_protocol::{BatchId, TaskId};
use muster_wire::process;
use std::time::{SystemTime, UNIX_EPOCH};

/// Random bits of an id; the rest is the time in milliseconds.
const RANDOM_BITS: u32 = 80;

/// An id for a task.
pub fn task() -> anyhow::Result<TaskId> {
    Ok(TaskId(number()?))
}

/// An id for tasks that are submitted together.
pub fn batch() -> anyhow::Result<BatchId> {
    Ok(BatchId(number()?))
}

fn number() -> anyhow::Result<u128> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let half = || process::random().context("the kernel gives no random bytes");
    let random = (u128::from(half()?) << 64 | u128::from(half()?)) & ((1 << RANDOM_BITS) - 1);
    Ok((now.as_millis() << RANDOM_BITS) | random)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_differ_and_begin_with_the_time() {
        let (a, b) = (super::task().expect("random"), super::task().expect("random"));
        assert_ne!(a, b);
        assert!((a.0 >> 80).abs_diff(b.0 >> 80) < 60_000);
        assert_eq!(a.to_string().parse(), Ok(a));
    }
}
