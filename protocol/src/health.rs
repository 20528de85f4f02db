//! A worker's health: whether its host lacks something, for the lease, and when to probe for it. Never
//! looks at the host itself: the caller passes in what failed and what a probe found.

use crate::{Time, lease::Unwell};
use core::time::Duration;

/// How often the host of a well worker is probed: an idle worker may not notice a full disk for that
/// long. A probe starts a process, which takes some hundredths of a second.
pub const PROBE_WELL_EVERY: Duration = Duration::from_secs(20);

/// How often the host of an unwell worker is probed: the worker is well again at most this long after
/// the shortage has ended. A worker's first probe is also this long after its start.
pub const PROBE_UNWELL_EVERY: Duration = Duration::from_secs(2);

/// How long a worker stays unwell because something failed, if no probe finds the shortage (for
/// example, of memory for a large guest). As long as the longest backoff of a worker that returns
/// attempts.
pub const WORD_LASTS: Duration = Duration::from_secs(30);

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Health {
    want: Option<Want>,
    probe_at: Time,
}

#[derive(Clone, Debug)]
struct Want {
    unwell: Unwell,
    /// Until when the shortage is assumed without a probe that found it; absent once a probe has.
    by_word_until: Option<Time>,
}

impl Health {
    /// A worker that starts now, and is well as far as it knows.
    pub fn new(now: Time) -> Self {
        Health { want: None, probe_at: now + PROBE_UNWELL_EVERY }
    }

    /// Something failed because the host lacks something. The first such failure makes a probe due at
    /// once.
    pub fn failed(&mut self, now: Time, unwell: Unwell) {
        let until = now + WORD_LASTS;
        match &mut self.want {
            None => {
                self.want = Some(Want { unwell, by_word_until: Some(until) });
                self.probe_at = now;
            }
            Some(want) => want.by_word_until = want.by_word_until.map(|_| until),
        }
    }

    /// A probe has found this shortage, or none.
    pub fn probed(&mut self, now: Time, found: Option<Unwell>) {
        match found {
            Some(unwell) => self.want = Some(Want { unwell, by_word_until: None }),
            None => {
                self.want.take_if(|want| want.by_word_until.is_none_or(|until| now >= until));
            }
        }
        let every = if self.want.is_some() { PROBE_UNWELL_EVERY } else { PROBE_WELL_EVERY };
        self.probe_at = now + every;
    }

    /// When to probe next.
    pub fn probe_at(&self) -> Time {
        self.probe_at
    }

    /// What the host lacks, for the lease.
    pub fn unwell(&self) -> Option<&Unwell> {
        self.want.as_ref().map(|want| &want.unwell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_nanos(1_000_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    fn full() -> Unwell {
        "a disk is full".into()
    }

    fn files() -> Unwell {
        "no more files".into()
    }

    #[test]
    fn a_shortage_that_a_probe_finds_is_over_with_the_first_probe_that_does_not() {
        let mut health = Health::new(START);
        assert_eq!(health.probe_at(), START + PROBE_UNWELL_EVERY);
        health.probed(START, None);
        assert_eq!((health.unwell(), health.probe_at()), (None, START + PROBE_WELL_EVERY));
        health.failed(START + MS, files());
        assert_eq!(health.unwell(), Some(&files()));
        assert_eq!(health.probe_at(), START + MS, "whether a probe meets it is to be known");
        // What the probe says is newer.
        health.probed(START + MS, Some(full()));
        assert_eq!(health.unwell(), Some(&full()));
        let next = health.probe_at();
        assert_eq!(next, START + MS + PROBE_UNWELL_EVERY);
        health.failed(next, files());
        assert_eq!((health.unwell(), health.probe_at()), (Some(&full()), next));
        health.probed(next, None);
        assert_eq!((health.unwell(), health.probe_at()), (None, next + PROBE_WELL_EVERY));
    }

    #[test]
    fn a_shortage_that_no_probe_finds_is_believed_for_a_while() {
        let mut health = Health::new(START);
        health.failed(START, files());
        health.probed(START + MS, None);
        assert_eq!(health.unwell(), Some(&files()));
        // And that begins anew with each word.
        let again = START + (WORD_LASTS - MS);
        health.failed(again, full());
        health.probed(START + WORD_LASTS, None);
        assert_eq!(health.unwell(), Some(&files()), "the lease says the same all the time");
        health.probed(again + (WORD_LASTS - MS), None);
        assert!(health.unwell().is_some());
        health.probed(again + WORD_LASTS, None);
        assert_eq!(health.unwell(), None);
    }
}
