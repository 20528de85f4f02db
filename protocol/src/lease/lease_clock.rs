//! How long a key is held: for a fixed time after the stamp of the newest acknowledged renewal. Never
//! longer than the registry could have accepted.

use crate::{ABSENT, Revision, Time};
use alloc::vec::Vec;
use core::time::Duration;

/// How many unanswered renewals are remembered. A late answer to an older one is of no use.
const SENT_MAX: usize = 8;

/// What a session knows of its key. `T` is what the session wants to remember of each renewal.
#[derive(Clone, Debug)]
pub(crate) struct LeaseClock<T> {
    lasts: Duration,
    known: Revision,
    held: bool,
    /// The end of the lease, on this machine's clock.
    until: Time,
    /// Renewals that were sent and not answered, by number, with the clock **before** each was sent.
    sent: Vec<(u64, Time, T)>,
    /// The number of the last renewal that was sent.
    last_sent: u64,
    /// The last renewal that was sent before the newest known value was known.
    sent_before_known: u64,
}

impl<T: Clone> LeaseClock<T> {
    /// Holds nothing yet; `known` is the revision that the first renewal may replace.
    pub(crate) fn new(lasts: Duration, known: Revision) -> Self {
        LeaseClock {
            lasts,
            known,
            held: false,
            until: Time::ZERO,
            sent: Vec::new(),
            last_sent: 0,
            sent_before_known: 0,
        }
    }

    /// The revision of the newest known value.
    pub(crate) fn known(&self) -> Revision {
        self.known
    }

    /// Whether any renewal was acknowledged.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// The end of the lease, on this machine's clock.
    pub(crate) fn until(&self) -> Time {
        self.until
    }

    /// A renewal is about to be sent. The stamp is taken before, so that nothing runs for longer than
    /// the registry could have accepted.
    pub(crate) fn sends(&mut self, renewal: u64, now: Time, what: T) {
        if self.sent.len() == SENT_MAX {
            self.sent.remove(0);
        }
        self.sent.push((renewal, now, what));
        self.last_sent = renewal;
    }

    /// Whether a value of this revision, which refused a renewal, shows that the key is not what is
    /// known of it. An older value does not, once the lease is held: the server that read it was
    /// behind. The known value does not either: it was read while another write was on its way.
    pub(crate) fn is_refuted_by(&self, revision: Revision) -> bool {
        revision > self.known || (!self.held && revision < self.known)
    }

    /// Whether an empty key, which refused this renewal, shows that the key was deleted. It does not if
    /// nothing was known of the key when the renewal was sent: the key may have been read before its
    /// first value was written.
    pub(crate) fn is_refuted_by_nothing(&self, renewal: u64) -> bool {
        self.known != ABSENT && renewal > self.sent_before_known
    }

    /// What was remembered of a renewal that is not answered yet.
    pub(crate) fn remembered(&self, renewal: u64) -> Option<&T> {
        self.sent.iter().find(|(number, ..)| *number == renewal).map(|(_, _, what)| what)
    }

    /// The registry has this renewal under this revision: the lease lasts until the stamp of the renewal plus
    /// its length. Returns `false` and changes nothing if the revision is not newer than the newest known one.
    pub(crate) fn acknowledged(&mut self, renewal: u64, revision: Revision) -> bool {
        if revision <= self.known {
            return false;
        }
        self.known = revision;
        self.sent_before_known = self.last_sent;
        if let Some(at) = self.sent.iter().position(|(number, ..)| *number == renewal) {
            let (_, stamp, _) = self.sent[at];
            self.sent.drain(..=at);
            self.held = true;
            self.until = self.until.max(stamp + self.lasts);
        }
        true
    }

    /// The home has extended the lease, in answer to a request that was sent with this renewal.
    pub(crate) fn extended(&mut self, renewal: u64) {
        let stamp = self.sent.iter().find(|(number, ..)| *number == renewal).map(|sent| sent.1);
        if let Some(stamp) = stamp.filter(|_| self.held) {
            self.until = self.until.max(stamp + self.lasts);
        }
    }

    /// The key is gone; the next holder may replace this revision.
    pub(crate) fn gone(&mut self, revision: Revision) {
        self.known = revision;
    }
}
