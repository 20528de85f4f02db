//! Who may still store how much in the data store. Never asks the registry.

use muster_protocol::WorkerId;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// The share of the data store that clients may fill, and workers without a bound, in percent. The rest is for
/// outputs and checkpoints, so that tasks that run can end.
const OPEN_PERCENT: u64 = 80;

/// How long the size of the data store counts as known.
const SIZE_KNOWN: Duration = Duration::from_secs(1);

/// Who stores an object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Writer<'a> {
    /// A client.
    Client,
    /// A worker.
    Worker(&'a WorkerId),
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Room {
    /// How many bytes the data store had, and when.
    bytes: Option<(Instant, u64)>,
    /// The bytes that each worker has stored here since the last time that the open share was not full.
    of_workers: BTreeMap<WorkerId, u64>,
}

impl Room {
    /// The bytes of the data store, if they are known at `now`.
    pub(super) fn bytes(&self, now: Instant) -> Option<u64> {
        let is_known = |at: Instant| now.saturating_duration_since(at) < SIZE_KNOWN;
        self.bytes.filter(|(at, _)| is_known(*at)).map(|(_, bytes)| bytes)
    }

    /// The data store has so many bytes.
    pub(super) fn heard(&mut self, now: Instant, bytes: u64) {
        self.bytes = Some((now, bytes));
    }

    /// Whether a store of at most `max` bytes has room for `size` more of this writer; then they count as stored.
    ///
    /// When the open share is full, a worker may store no more than is still free: one worker leaves half of the
    /// rest to others, two leave a third, and so on. Switches share their buffers between ports by this rule
    /// (A. K. Choudhury and E. L. Hahne, Dynamic Queue Length Thresholds for Shared-Memory Packet Switches, 1998).
    pub(super) fn take(&mut self, max: u64, writer: Writer<'_>, size: u64) -> bool {
        let Some((_, bytes)) = &mut self.bytes else { return false };
        let after = bytes.saturating_add(size);
        let is_open = after <= max / 100 * OPEN_PERCENT;
        let fits = match writer {
            _ if is_open => {
                self.of_workers.clear();
                true
            }
            Writer::Client => false,
            Writer::Worker(worker) => {
                let stored = self.of_workers.get(worker).copied().unwrap_or_default() + size;
                let fits = stored <= max.saturating_sub(after);
                if fits {
                    self.of_workers.insert(worker.clone(), stored);
                }
                fits
            }
        };
        if fits {
            *bytes = after;
        }
        fits
    }

    /// A worker's object of this size was not stored after all. The size of the store is soon asked for again.
    pub(super) fn give_back(&mut self, worker: &WorkerId, size: u64) {
        if let Some(stored) = self.of_workers.get_mut(worker) {
            *stored = stored.saturating_sub(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1_000;

    fn worker(name: &str) -> WorkerId {
        name.parse().expect("a name")
    }

    fn room(bytes: u64) -> Room {
        let mut room = Room::default();
        room.heard(Instant::now(), bytes);
        room
    }

    #[test]
    fn clients_fill_four_fifths_and_one_worker_leaves_half_of_the_rest() {
        let mut room = room(700);
        let (one, other) = (worker("w1"), worker("w2"));
        assert!(room.take(MAX, Writer::Worker(&one), 50));
        assert!(room.take(MAX, Writer::Client, 50));
        assert!(!room.take(MAX, Writer::Client, 1));
        let mut take =
            |worker| (0..300).filter(|_| room.take(MAX, Writer::Worker(worker), 1)).count();
        // What it stored before does not count.
        assert_eq!(take(&one), 100);
        assert_eq!(take(&other), 50);
        assert_eq!(take(&one), 0);
    }

    #[test]
    fn what_a_worker_has_stored_is_forgotten_when_objects_expire() {
        let mut room = room(800);
        let one = worker("w1");
        assert!(room.take(MAX, Writer::Worker(&one), 100));
        assert!(!room.take(MAX, Writer::Worker(&one), 1));
        room.heard(Instant::now(), 700);
        assert!(room.take(MAX, Writer::Worker(&one), 100));
        assert!(room.take(MAX, Writer::Worker(&one), 100));
    }

    #[test]
    fn what_was_not_stored_does_not_count() {
        let mut room = room(800);
        let one = worker("w1");
        assert!(room.take(MAX, Writer::Worker(&one), 100));
        room.give_back(&one, 100);
        room.heard(Instant::now(), 800);
        assert!(room.take(MAX, Writer::Worker(&one), 100));
        room.give_back(&worker("w2"), 100);
    }

    #[test]
    fn the_size_of_the_store_is_asked_for_again() {
        let now = Instant::now();
        let mut room = Room::default();
        assert_eq!(room.bytes(now), None);
        assert!(!room.take(MAX, Writer::Client, 1), "nothing is known");
        room.heard(now, 5);
        assert_eq!(room.bytes(now), Some(5));
        assert_eq!(room.bytes(now + SIZE_KNOWN), None);
    }
}
