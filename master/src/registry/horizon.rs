//! How far a stream is known without a gap: by what a watch has shown, in order, and by the
//! acknowledgements of this life's own writes, in whatever order they come. Says nothing of what is in it.

use muster_protocol::Revision;
use std::collections::BTreeSet;

/// Own writes beyond the first gap that are remembered: several times what can be under way. Those that
/// are forgotten are gaps, until a watch shows them.
const BEYOND_MAX: usize = 8 * 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Horizon {
    upto: Revision,
    /// The last that a watch has shown, or before which it began.
    shown: Revision,
    beyond: BTreeSet<Revision>,
}

impl Horizon {
    /// The last revision before the first gap; 0 before anything is known.
    pub(super) fn upto(&self) -> Revision {
        self.upto
    }

    /// Whether own writes are known that a watch has yet to show, and nothing of others before them.
    pub(super) fn is_ahead(&self) -> bool {
        self.upto > self.shown
    }

    /// A watch begins behind all that is known; returns the last of that.
    pub(super) fn begin(&mut self) -> Revision {
        self.shown = self.upto;
        self.upto
    }

    /// A watch has shown all up to this one.
    pub(super) fn saw(&mut self, revision: Revision) {
        self.shown = revision;
        if revision > self.upto {
            self.upto = revision;
            self.beyond = self.beyond.split_off(&(revision + 1));
            self.close();
        }
    }

    /// A write of this life has this revision.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_somebody_else_is_a_gap_until_it_is_shown() {
        let mut horizon = Horizon::default();
        horizon.saw(10);
        assert!(!horizon.is_ahead());
        for own in [12, 11, 13, 15, 16] {
            horizon.wrote(own);
        }
        assert_eq!(horizon.upto(), 13, "14 is not ours");
        assert!(horizon.is_ahead());
        horizon.saw(12);
        assert_eq!(horizon.upto(), 13, "the watch is late");
        horizon.saw(14);
        assert_eq!(horizon.upto(), 16);
        horizon.wrote(9);
        assert_eq!(horizon.upto(), 16, "what is known stays known");
        horizon.wrote(18);
        assert_eq!(horizon.begin(), 16);
        assert!(!horizon.is_ahead(), "17 is for the new watch to show");
    }

    #[test]
    fn nothing_is_known_before_a_watch_has_begun() {
        let mut horizon = Horizon::default();
        horizon.wrote(7);
        assert_eq!(horizon.upto(), 0);
        horizon.saw(6);
        assert_eq!(horizon.upto(), 7);
    }

    #[test]
    fn what_is_forgotten_is_a_gap() {
        let mut horizon = Horizon::default();
        (2..).take(BEYOND_MAX + 1).for_each(|own| horizon.wrote(own));
        horizon.saw(1);
        assert_eq!(horizon.upto(), 1 + BEYOND_MAX as Revision, "the last is not remembered");
    }
}
