//! What the attempts on one worker take of it together: memory, and the right to be alone. Masters place
//! by it, and the worker starts runs by it. Never knows whose attempts they are.

use alloc::collections::BTreeMap;

/// What one attempt takes of its worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// The limit of its linear memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// Whether nothing may run beside it.
    pub(crate) alone: bool,
}

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Occupancy {
    count: u64,
    alone: u64,
    memory_sum: u128,
    /// How many attempts have this limit of memory.
    memory: BTreeMap<u64, u64>,
}

impl Occupancy {
    /// How many attempts there are.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether one of the attempts has to be alone.
    pub(crate) fn has_alone(&self) -> bool {
        self.alone > 0
    }

    pub(crate) fn add(&mut self, share: Share) {
        self.count += 1;
        self.alone += u64::from(share.alone);
        self.memory_sum += u128::from(share.memory_bytes);
        *self.memory.entry(share.memory_bytes).or_default() += 1;
    }

    /// Removes an attempt that was added with this share.
    pub(crate) fn remove(&mut self, share: Share) {
        let Some(of_this) = self.memory.get_mut(&share.memory_bytes) else { return };
        *of_this -= 1;
        if *of_this == 0 {
            self.memory.remove(&share.memory_bytes);
        }
        self.count -= 1;
        self.alone -= u64::from(share.alone);
        self.memory_sum -= u128::from(share.memory_bytes);
    }

    /// The largest limit that another attempt may have, if at most `slots` of all run at once and may have
    /// `total` bytes together. Attempts beyond the slots wait, and need no memory meanwhile.
    pub(crate) fn memory_free(&self, slots: u32, total: u64) -> u64 {
        self.memory_free_without(None, slots, total)
    }

    /// The same once this attempt has ended.
    pub(crate) fn memory_free_without(&self, gone: Option<Share>, slots: u32, total: u64) -> u64 {
        let gone = gone.map(|share| share.memory_bytes);
        // The other attempt runs with the largest of these, one for each other slot.
        let others = u64::from(slots).saturating_sub(1);
        let count = self.count - u64::from(gone.is_some());
        let mut surplus = count.saturating_sub(others);
        let mut used = self.memory_sum - u128::from(gone.unwrap_or_default());
        for (&bytes, &of_these) in &self.memory {
            if surplus == 0 {
                break;
            }
            let of_these = of_these - u64::from(gone == Some(bytes));
            let waiting = of_these.min(surplus);
            surplus -= waiting;
            used -= u128::from(bytes) * u128::from(waiting);
        }
        u64::try_from(u128::from(total).saturating_sub(used)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limits: &[u64]) -> Occupancy {
        let mut occupancy = Occupancy::default();
        for &memory_bytes in limits {
            occupancy.add(Share { memory_bytes, alone: false });
        }
        occupancy
    }

    #[test]
    fn any_that_run_at_once_stay_within_the_total() {
        let cases: [(&[u64], u32, u64, u64); 8] = [
            (&[], 2, 10, 10),
            (&[4], 2, 10, 6),
            (&[4, 4], 3, 10, 2),
            // One of the three waits, so the other one has at most 4 beside it.
            (&[4, 4], 2, 10, 6),
            (&[3, 4], 2, 10, 6),
            (&[9, 1, 1, 1], 2, 10, 1),
            // With one slot nothing runs beside it.
            (&[9, 9], 1, 10, 10),
            (&[8, 8], 4, 10, 0),
        ];
        for (limits, slots, total, free) in cases {
            assert_eq!(of(limits).memory_free(slots, total), free, "{limits:?} on {slots}");
        }
    }

    #[test]
    fn what_was_removed_counts_no_more() {
        let mut occupancy = of(&[5, 2, 2]);
        let gone = Share { memory_bytes: 2, alone: false };
        let without = occupancy.memory_free_without(Some(gone), 4, 10);
        occupancy.remove(gone);
        assert_eq!((without, occupancy.memory_free(4, 10)), (3, 3));
        occupancy.add(Share { memory_bytes: 1, alone: true });
        assert!(occupancy.has_alone());
        occupancy.remove(Share { memory_bytes: 1, alone: true });
        assert!(!occupancy.has_alone());
        assert_eq!(occupancy.count(), 2);
        // A limit as large as no run has, which a forged record may have.
        occupancy.add(Share { memory_bytes: u64::MAX, alone: false });
        assert_eq!(occupancy.memory_free(4, 10), 0);
    }
}
