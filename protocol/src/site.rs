//! A site: a fleet with a registry of its own, whose events the hub copies. Decides when the copy lags
//! behind the site, and when its source is to be set up anew. Never part of a lease or a record: a copy
//! is not the registry.

use crate::{
    Time,
    advisory::SiteEvent,
    limit::{SITE_LAGGING_AFTER, SITE_RENEW_EVERY, SITE_SILENCE_MAX},
};
use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;

/// What a master found when it looked at the copy of a site's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteLook {
    /// How long the hub has heard nothing of the site; `None` if it never has.
    pub silence: Option<Duration>,
    /// How many events of the site the copy lacks, as far as this is known.
    pub behind: Option<u64>,
    /// Whether the site answered a question. It is asked only while it is silent.
    pub answers: bool,
}

impl SiteLook {
    /// Whether the hub hears the site. A source sends a heartbeat every second.
    pub fn is_heard(silence: Option<Duration>) -> bool {
        silence.is_some_and(|silence| silence <= SITE_SILENCE_MAX)
    }
}

/// What is to be done after a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteStep {
    /// What to publish.
    pub change: Option<SiteChange>,
    /// Set the source up anew: the site answers, and its events do not arrive. The server that keeps the
    /// copy may wait 40 s for an answer that was lost.
    pub renew: bool,
}

/// A change to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteChange {
    /// What happened.
    pub what: SiteEvent,
    /// For how many seconds the copy has not been complete.
    pub seconds: u64,
    /// How many events it lacks, as far as this is known.
    pub behind: Option<u64>,
    /// Why, as a sentence.
    pub reason: String,
}

/// The copy of one site's events, as one session of a master sees it.
#[derive(Clone, Debug)]
pub struct SiteWatch {
    /// The latest look at which the copy was complete; at first, the beginning.
    complete_at: Time,
    /// What was published last; `None` before the first change.
    told: Option<SiteEvent>,
    /// From when on the source may be set up anew.
    renew_from: Time,
}

impl SiteWatch {
    /// A copy that was not looked at yet.
    pub fn new(now: Time) -> Self {
        SiteWatch { complete_at: now, told: None, renew_from: now }
    }

    /// Takes a look into account. A session publishes its first finding, too, so that a site whose lag was
    /// published by an earlier session is not called lagging for ever.
    pub fn observe(&mut self, now: Time, look: SiteLook) -> SiteStep {
        let late = now.since(self.complete_at);
        let is_heard = SiteLook::is_heard(look.silence);
        if is_heard && look.behind == Some(0) {
            self.complete_at = now;
            let reason = "its events are complete at the hub".to_string();
            return SiteStep {
                change: self.tell(SiteEvent::CaughtUp, late, look, reason),
                renew: false,
            };
        }
        let renew = !is_heard && look.answers && now >= self.renew_from;
        if renew {
            self.renew_from = now + SITE_RENEW_EVERY;
        }
        if late < SITE_LAGGING_AFTER {
            return SiteStep { change: None, renew };
        }
        let seconds = late.as_secs();
        let reason = match (is_heard, look.answers) {
            (true, _) => format!("its events arrive, but later than {seconds} s"),
            (false, true) => format!("it answers, and its events have not arrived for {seconds} s"),
            (false, false) => format!("it has not answered for {seconds} s"),
        };
        SiteStep { change: self.tell(SiteEvent::Lagging, late, look, reason), renew }
    }

    fn tell(
        &mut self,
        what: SiteEvent,
        late: Duration,
        look: SiteLook,
        reason: String,
    ) -> Option<SiteChange> {
        let is_new = self.told.replace(what) != Some(what);
        let (seconds, behind) = (late.as_secs(), look.behind);
        is_new.then_some(SiteChange { what, seconds, behind, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SiteEvent::{CaughtUp, Lagging};
    use alloc::vec::Vec;

    const SECOND: Duration = Duration::from_secs(1);

    /// A look at a second: how long the site was silent, how many events the copy lacks, and whether the
    /// site answers.
    type Row = (u64, Option<u64>, Option<u64>, bool);

    fn check(rows: &[Row], want: &[(u64, Option<SiteEvent>, bool)]) {
        let at = |second: u64| Time::from_nanos(100) + SECOND * u32::try_from(second).unwrap();
        let mut watch = SiteWatch::new(at(0));
        let mut found = Vec::new();
        for &(second, silence, behind, answers) in rows {
            let look = SiteLook { silence: silence.map(Duration::from_secs), behind, answers };
            let step = watch.observe(at(second), look);
            let what = step.change.map(|change| change.what);
            if what.is_some() || step.renew {
                found.push((second, what, step.renew));
            }
        }
        assert_eq!(found, want);
    }

    fn fine(second: u64) -> Row {
        (second, Some(1), Some(0), false)
    }

    #[test]
    fn a_cut_is_published_once_and_so_is_its_end() {
        let cut = |second: u64| (second, Some(second - 5), None, false);
        let rows = [fine(5), cut(10), cut(15), cut(20), cut(25), fine(30), fine(35)];
        check(
            &rows,
            &[(5, Some(CaughtUp), false), (20, Some(Lagging), false), (30, Some(CaughtUp), false)],
        );
    }

    #[test]
    fn a_short_silence_is_not_published() {
        check(&[fine(5), (10, Some(4), None, false), fine(15)], &[(5, Some(CaughtUp), false)]);
        check(&[(5, Some(3), Some(0), false)], &[(5, Some(CaughtUp), false)]);
    }

    #[test]
    fn a_source_that_stands_still_while_its_site_answers_is_renewed_at_intervals() {
        let still = |second: u64| (second, Some(second), Some(7), true);
        check(
            &[fine(1), still(5), still(10), still(15), still(20), still(25)],
            &[(1, Some(CaughtUp), false), (5, None, true), (20, Some(Lagging), true)],
        );
        // It has never been heard, since its stream has just been made.
        check(&[(5, None, None, false), (10, None, None, true)], &[(10, None, true)]);
    }

    #[test]
    fn a_copy_that_is_behind_lags_although_it_is_heard() {
        let behind = |second: u64| (second, Some(0), Some(9), false);
        check(
            &[fine(1), behind(5), behind(10), behind(16), fine(20)],
            &[(1, Some(CaughtUp), false), (16, Some(Lagging), false), (20, Some(CaughtUp), false)],
        );
    }

    #[test]
    fn a_change_says_for_how_long_and_how_many() {
        let mut watch = SiteWatch::new(Time::ZERO);
        let look = SiteLook { silence: None, behind: Some(12), answers: true };
        let change = watch.observe(Time::ZERO + SECOND * 17, look).change.expect("it lags");
        assert_eq!((change.seconds, change.behind), (17, Some(12)));
        assert_eq!(change.reason, "it answers, and its events have not arrived for 17 s");
    }
}
