//! The revision up to which a stream is known without a gap: from what a consumer delivered, in order,
//! and from the acknowledgements of this session's own writes, in any order. Never the values.

use crate::Revision;
use alloc::collections::BTreeSet;

/// How many own writes after the first gap are remembered: several times what can be under way.
/// Forgotten ones are gaps until a consumer delivers them.
pub(super) const BEYOND_MAX: usize = 8 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Watermark {
    upto: Revision,
    /// The last revision that a consumer has delivered, or after which it began.
    shown: Revision,
    beyond: BTreeSet<Revision>,
}

impl Watermark {
    /// The last revision before the first gap; 0 before anything is known.
    pub(super) fn upto(&self) -> Revision {
        self.upto
    }

    /// Whether own writes are known that the consumer has not delivered, and no write of others before
    /// them.
    pub(super) fn is_ahead(&self) -> bool {
        self.upto > self.shown
    }

    /// A consumer begins after everything that is known. Returns the last known revision.
    pub(super) fn begin(&mut self) -> Revision {
        self.shown = self.upto;
        self.upto
    }

    /// A consumer has delivered everything up to this revision.
    pub(super) fn saw(&mut self, revision: Revision) {
        self.shown = revision;
        if revision > self.upto {
            self.upto = revision;
            self.beyond = self.beyond.split_off(&(revision + 1));
            self.close();
        }
    }

    /// A write of this session has this revision.
    pub(super) fn wrote(&mut self, revision: Revision) {
        if revision <= self.upto {
            return;
        }
        self.beyond.insert(revision);
        if self.beyond.len() > BEYOND_MAX {
            self.beyond.pop_last();
        }
        self.close();
    }

    fn close(&mut self) {
        while self.beyond.first() == Some(&(self.upto + 1)) {
            self.upto += 1;
            self.beyond.pop_first();
        }
    }
}
