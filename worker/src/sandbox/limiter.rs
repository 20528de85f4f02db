//! Limits how much memory and how many tables a guest may have in the runtime. Never grants more
//! because a guest has several memories: all memories share one limit.

use muster_protocol::task::LimitName;
use wasmtime::{ResourceLimiter, Result};

/// Core instances of one run. A Python component has 14, and one more for each of its native libraries.
pub const CORE_INSTANCES_MAX: u32 = 64;

/// Linear memories of one run; a composed component has one for each part.
pub const MEMORIES_MAX: u32 = 4;

/// Tables of one run: two for each part of a composed component, and a reserve.
pub const TABLES_MAX: u32 = 16;

/// Elements of one table: the functions that are called by pointer. JavaScript has 7,700.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Counts the memory of one run, and remembers whether the guest was refused more.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_max: u64,
    /// Bytes granted so far. Never reduced, not even when the machine had no memory left for a grant:
    /// the runtime also reports failures without an earlier grant, and a guest could use them to reset
    /// this count.
    memory_used: u64,
    /// The first limit that the guest tried to exceed, with its maximum.
    refused: Option<(LimitName, u64)>,
}

impl Limiter {
    pub fn new(memory_max: u64) -> Self {
        Limiter { memory_max, memory_used: 0, refused: None }
    }

    /// The first limit that the guest tried to exceed, with its maximum; `None` if there is none.
    pub fn refused(&self) -> Option<(LimitName, u64)> {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The memory's own type forbids it; this is not a limit of the task.
            return Ok(false);
        }
        let growth = desired.saturating_sub(current) as u64;
        if self.memory_used.saturating_add(growth) > self.memory_max {
            self.refused.get_or_insert((LimitName::MemoryBytes, self.memory_max));
            return Ok(false);
        }
        self.memory_used += growth;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        // Checked first, because `maximum` may be the pool's limit, which has the same value.
        if desired > TABLE_ELEMENTS_MAX {
            self.refused.get_or_insert((LimitName::TableElements, TABLE_ELEMENTS_MAX as u64));
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 65_536;

    #[test]
    fn memories_share_one_limit() {
        let mut limiter = Limiter::new(3 * PAGE as u64);
        let mut grow = |from: usize, to: usize, maximum| {
            limiter.memory_growing(from * PAGE, to * PAGE, maximum).expect("an answer")
        };
        assert!(grow(0, 1, None) && grow(0, 2, None), "two memories");
        assert!(!grow(1, 2, Some(PAGE)));
        assert!(limiter.refused().is_none(), "its own maximum is not the task's limit");
        assert!(!limiter.memory_growing(2 * PAGE, 3 * PAGE, None).expect("an answer"));
        assert_eq!(limiter.refused(), Some((LimitName::MemoryBytes, 3 * PAGE as u64)));
    }
}
