//! The lease, rule by rule.

use super::*;
use crate::{ABSENT, Time};

const RENEW: Duration = LeaseTiming::STANDARD.renew_every();
const LEASE: Duration = LeaseTiming::STANDARD.worker();

fn start() -> Time {
    Time::from_nanos(1_000_000_000_000)
}

fn lease() -> Lease {
    Lease::new("w1".parse().expect("a name"), SessionId(7))
}

fn holder() -> LeaseHolder {
    LeaseHolder::new(LeaseTiming::STANDARD, lease(), ABSENT)
}

/// Plans, and demands a write; its renewal number and the revision it expects.
fn write(holder: &mut LeaseHolder, now: Time) -> (u64, Revision, Lease) {
    match holder.plan(now, WallMillis(0)) {
        Some(LeaseStep::Write { expect, lease, .. }) => (lease.renewal, expect, lease),
        other => panic!("expected a write, got {other:?}"),
    }
}

#[test]
fn the_profiles_are_safe_and_what_is_shorter_is_refused() {
    let s = Duration::from_secs;
    assert!(LeaseTiming::new(s(4), s(1), s(1), s(6)).is_ok());
    // 5 s · 1.001 / 0.999 is just over 5.010 s.
    let ms = Duration::from_millis;
    assert!(LeaseTiming::new(s(4), s(1), s(1), ms(5_011)).is_ok());
    assert!(matches!(
        LeaseTiming::new(s(4), s(1), s(1), ms(5_010)),
        Err(TimingError::MasterTooEarly { .. })
    ));
    assert!(matches!(
        LeaseTiming::new(s(4), s(1), s(2), s(6)),
        Err(TimingError::RenewsTooRarely { .. })
    ));
    assert_eq!(LeaseTiming::new(s(0), s(1), s(1), s(6)), Err(TimingError::Zero));
}

#[test]
fn a_lease_counts_from_before_the_renewal_was_sent() {
    let mut holder = holder();
    let sent = start();
    let (renewal, expect, _) = write(&mut holder, sent);
    assert_eq!(expect, ABSENT);
    assert_eq!(holder.until(), Time::ZERO, "nothing is held before the answer");
    // The answer's own time is nowhere in the interface: only the stamp can count.
    holder.answered(start(), renewal, CasAnswer::Written(5));
    assert_eq!(holder.until(), sent + LEASE);
}

#[test]
fn a_late_answer_to_an_older_renewal_changes_nothing() {
    let mut holder = holder();
    let (first, ..) = write(&mut holder, start());
    let (second, ..) = write(&mut holder, start() + RENEW);
    holder.answered(start(), second, CasAnswer::Written(9));
    let (until, revision) = (holder.until(), holder.revision());
    holder.answered(start(), first, CasAnswer::Written(8));
    assert_eq!((holder.until(), holder.revision()), (until, revision));
}

#[test]
fn a_write_whose_answer_was_lost_is_known_again_by_its_number() {
    let mut holder = holder();
    let (first, _, landed) = write(&mut holder, start());
    holder.answered(start(), first, CasAnswer::Unknown);
    let (second, expect, _) = write(&mut holder, start() + RENEW);
    assert_eq!(expect, ABSENT, "the revision is not guessed");
    holder.answered(start(), second, CasAnswer::Conflict(Some((landed, 4))));
    assert_eq!(holder.revision(), 4);
    assert_eq!(holder.until(), start() + LEASE, "from the stamp of the write that landed");
}

#[test]
fn a_session_that_lapsed_or_was_declared_lost_is_over() {
    let mut lapsed = holder();
    let (renewal, ..) = write(&mut lapsed, start());
    lapsed.answered(start(), renewal, CasAnswer::Written(1));
    let end = lapsed.until();
    assert!(!lapsed.has_lapsed(start()));
    assert_eq!(lapsed.plan(end, WallMillis(0)), Some(LeaseStep::Over { by: None }));

    let mut declared = holder();
    let (renewal, ..) = write(&mut declared, start());
    declared.answered(start(), renewal, CasAnswer::Written(1));
    let (renewal, _, mut value) = write(&mut declared, start() + RENEW);
    value.state = LeaseState::Lost;
    declared.answered(start(), renewal, CasAnswer::Conflict(Some((value.clone(), 2))));
    assert_eq!(
        declared.plan(start() + RENEW, WallMillis(0)),
        Some(LeaseStep::Over { by: Some((value, 2)) })
    );
}

#[test]
fn a_stale_read_after_a_conflict_does_not_end_the_session() {
    let mut holder = holder();
    let (renewal, _, mut old) = write(&mut holder, start());
    holder.answered(start(), renewal, CasAnswer::Written(6));
    old.session = SessionId(1);
    let (renewal, ..) = write(&mut holder, start() + RENEW);
    holder.answered(start(), renewal, CasAnswer::Conflict(Some((old, 3))));
    assert_eq!(holder.plan(start() + RENEW, WallMillis(0)), None);
}

#[test]
fn renewals_are_spaced_and_a_change_of_standing_is_due_at_once() {
    let mut holder = holder();
    write(&mut holder, start());
    assert_eq!(holder.plan(start(), WallMillis(0)), None);
    assert_eq!(holder.wakeup(), start() + RENEW);
    holder.set_state(LeaseState::Draining);
    let (_, _, value) = write(&mut holder, start());
    assert_eq!(value.state, LeaseState::Draining);
}

#[test]
fn a_lease_is_given_back_only_when_the_registry_says_so() {
    let mut holder = holder();
    let (first, ..) = write(&mut holder, start());
    holder.set_state(LeaseState::Released);
    let (second, _, value) = write(&mut holder, start());
    holder.answered(start(), first, CasAnswer::Written(1));
    assert!(!holder.is_released(), "that was an earlier renewal");
    holder.answered(start(), second, CasAnswer::Conflict(Some((value, 2))));
    assert!(holder.is_released(), "it had landed, and its answer was lost");
}

#[test]
fn a_vanished_key_ends_the_session_and_the_next_begins_from_nothing() {
    let mut holder = holder();
    let (first, ..) = write(&mut holder, start());
    holder.answered(start(), first, CasAnswer::Written(7));
    let (second, ..) = write(&mut holder, start() + RENEW);
    holder.answered(start(), second, CasAnswer::Conflict(None));
    assert_eq!(holder.plan(start() + RENEW, WallMillis(0)), Some(LeaseStep::Over { by: None }));
    assert_eq!(holder.revision(), ABSENT);
}

/// Two masters are asked for the same write. One answers that it landed, the other read before that.
#[test]
fn a_read_from_before_the_session_was_known_does_not_end_it() {
    let stale = [CasAnswer::Conflict(None), CasAnswer::Gone(6), CasAnswer::Gone(7)];
    for answer in stale {
        let mut first = holder();
        let (landed, ..) = write(&mut first, start());
        first.hurry();
        let (second, expect, _) = write(&mut first, start());
        assert_eq!(expect, ABSENT);
        first.answered(start(), landed, CasAnswer::Written(7));
        first.answered(start(), second, answer.clone());
        assert_eq!(first.plan(start(), WallMillis(0)), None, "{answer:?}");
        assert_eq!(first.revision(), 7);
    }
}

/// A session that takes over a lease finds it again: its own first renewal is still on its way to the
/// servers. Another session would give up the one that is about to be held.
#[test]
fn a_read_of_what_the_session_replaces_does_not_end_it() {
    let mut old = lease();
    old.state = LeaseState::Lost;
    old.session = SessionId(3);
    for answer in [CasAnswer::Conflict(Some((old.clone(), 5))), CasAnswer::Gone(5)] {
        let mut holder = LeaseHolder::new(LeaseTiming::STANDARD, lease(), 5);
        let (landed, ..) = write(&mut holder, start());
        holder.hurry();
        let (second, expect, _) = write(&mut holder, start());
        assert_eq!(expect, 5);
        holder.answered(start(), second, answer.clone());
        assert_eq!(holder.plan(start(), WallMillis(0)), None, "{answer:?}");
        holder.answered(start(), landed, CasAnswer::Written(6));
        assert_eq!(holder.until(), start() + LEASE);
    }
    // The registry went back to an older state: the session can replace only what is there now.
    let mut holder = LeaseHolder::new(LeaseTiming::STANDARD, lease(), 5);
    let (renewal, ..) = write(&mut holder, start());
    holder.answered(start(), renewal, CasAnswer::Conflict(Some((old.clone(), 4))));
    let over = LeaseStep::Over { by: Some((old, 4)) };
    assert_eq!(holder.plan(start(), WallMillis(0)), Some(over));
}

#[test]
fn the_echo_of_the_newest_renewal_does_not_hurry_the_next() {
    let mut holder = holder();
    let (renewal, _, value) = write(&mut holder, start());
    holder.answered(start(), renewal, CasAnswer::Conflict(Some((value, 3))));
    assert_eq!(holder.until(), start() + LEASE);
    assert_eq!(holder.plan(start(), WallMillis(0)), None);
}

#[test]
fn no_answer_revives_a_lease_that_has_lapsed() {
    let mut holder = holder();
    let (first, ..) = write(&mut holder, start());
    holder.answered(start(), first, CasAnswer::Written(1));
    let (second, ..) = write(&mut holder, start() + RENEW);
    let end = holder.until();
    holder.answered(end, second, CasAnswer::Written(2));
    assert_eq!(holder.until(), end);
    assert_eq!(holder.plan(end, WallMillis(0)), Some(LeaseStep::Over { by: None }));
}

fn master(session: u64) -> Home {
    Home { master: "m1".parse().expect("a name"), session: SessionId(session) }
}

/// Plans a write; whom the holder asks to extend its lease, and the home that it names.
fn asked(holder: &mut LeaseHolder, now: Time) -> (u64, Option<Home>, Option<Home>) {
    match holder.plan(now, WallMillis(0)) {
        Some(LeaseStep::Write { lease, ask, .. }) => (lease.renewal, ask, lease.home),
        other => panic!("expected a write, got {other:?}"),
    }
}

/// A lease whose home is the master of session 1.
fn at_home() -> LeaseHolder {
    let mut holder = holder();
    holder.linked(master(1), false);
    let (renewal, ask, home) = asked(&mut holder, start());
    assert_eq!((ask, home), (None, Some(master(1))));
    holder.answered(start(), renewal, CasAnswer::Written(1));
    holder
}

#[test]
fn the_home_extends_a_lease_from_the_stamp_before_it_was_asked() {
    let mut holder = at_home();
    let sent = start() + RENEW;
    let (_, ask, _) = asked(&mut holder, sent);
    assert_eq!(ask, None, "the registry has answered so far");
    let sent = sent + RENEW;
    let (renewal, ask, _) = asked(&mut holder, sent);
    assert_eq!(ask, Some(master(1)));
    holder.extended(sent + RENEW, SessionId(2), renewal);
    assert_eq!(holder.until(), start() + LEASE, "that is not its home");
    holder.extended(sent + RENEW, SessionId(1), renewal);
    assert_eq!(holder.until(), sent + LEASE);
}

#[test]
fn from_the_moment_a_switch_is_sent_the_old_home_does_not_count() {
    let mut holder = at_home();
    let (renewal, ..) = asked(&mut holder, start() + RENEW);
    holder.unlinked(SessionId(1));
    holder.linked(master(2), false);
    let before = start() + RENEW * 2;
    let (_, ask, home) = asked(&mut holder, before);
    assert_eq!((ask, home), (Some(master(1)), Some(master(1))), "no switch while nobody answers");
    holder.answered(before, renewal, CasAnswer::Written(2));
    let (switch, ask, home) = asked(&mut holder, before + RENEW);
    assert_eq!((ask, home), (None, Some(master(2))));
    let until = holder.until();
    holder.extended(before + RENEW, SessionId(1), switch);
    holder.extended(before + RENEW, SessionId(2), switch);
    assert_eq!(holder.until(), until, "neither counts before it is known which of them is home");
    let now = before + RENEW * 2;
    let (third, ..) = asked(&mut holder, now);
    holder.answered(now, switch, CasAnswer::Written(3));
    holder.extended(now, SessionId(2), third);
    assert_eq!(holder.until(), now + LEASE);
}

#[test]
fn a_read_of_the_same_revision_does_not_bring_the_old_home_back() {
    let mut holder = at_home();
    holder.unlinked(SessionId(1));
    holder.linked(master(2), false);
    let (switch, ..) = asked(&mut holder, start() + RENEW);
    let mut old = holder.lease().clone();
    (old.home, old.renewal) = (Some(master(1)), 1);
    holder.answered(start() + RENEW, switch, CasAnswer::Conflict(Some((old, 1))));
    assert_eq!(holder.home(), None, "the switch may land yet");
}

#[test]
fn a_home_on_another_machine_is_preferred() {
    let mut holder = holder();
    holder.linked(master(1), true);
    let (renewal, _, home) = asked(&mut holder, start());
    assert_eq!(home, Some(master(1)), "better than none");
    holder.answered(start(), renewal, CasAnswer::Written(1));
    holder.linked(master(2), false);
    let (_, _, home) = asked(&mut holder, start() + RENEW);
    assert_eq!(home, Some(master(2)));
}

#[test]
fn the_same_news_from_every_master_hurries_only_once() {
    let mut holder = holder();
    let (_, _, landed) = write(&mut holder, start());
    holder.set_state(LeaseState::Draining);
    let (second, ..) = write(&mut holder, start());
    let answer = CasAnswer::Conflict(Some((landed, 4)));
    holder.answered(start(), second, answer.clone());
    write(&mut holder, start());
    holder.answered(start(), second, answer);
    assert_eq!(holder.plan(start(), WallMillis(0)), None, "else renewals would breed");
}
