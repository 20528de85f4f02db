//! The lease, rule by rule.

use super::*;
use crate::{ABSENT, Time};

const RENEW: Duration = LeaseTiming::STANDARD.renew_every();
const LEASE: Duration = LeaseTiming::STANDARD.worker();

fn start() -> Time {
    Time::from_nanos(1_000_000_000_000)
}

fn lease() -> Lease {
    Lease {
        worker: "w1".parse().expect("a name"),
        session: SessionId(7),
        renewal: 0,
        standing: Standing::Live,
        home_dir: Nonce(1),
        succeeds: Vec::new(),
        fenced: false,
        home: None,
        master_wait_ms: 0,
        offer: Offer::default(),
        renewed_at: WallMillis(0),
    }
}

fn holder() -> Holder {
    Holder::new(LeaseTiming::STANDARD, lease(), ABSENT)
}

/// Plans, and demands a write; its renewal number and the revision it expects.
fn write(holder: &mut Holder, now: Time) -> (u64, Revision, Lease) {
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
    holder.answered(renewal, CasAnswer::Written(5));
    assert_eq!(holder.until(), sent + LEASE);
}

#[test]
fn a_late_answer_to_an_older_renewal_changes_nothing() {
    let mut holder = holder();
    let (first, ..) = write(&mut holder, start());
    let (second, ..) = write(&mut holder, start() + RENEW);
    holder.answered(second, CasAnswer::Written(9));
    let (until, revision) = (holder.until(), holder.revision());
    holder.answered(first, CasAnswer::Written(8));
    assert_eq!((holder.until(), holder.revision()), (until, revision));
}

#[test]
fn a_write_whose_answer_was_lost_is_known_again_by_its_number() {
    let mut holder = holder();
    let (first, _, landed) = write(&mut holder, start());
    holder.answered(first, CasAnswer::Unknown);
    let (second, expect, _) = write(&mut holder, start() + RENEW);
    assert_eq!(expect, ABSENT, "the revision is not guessed");
    holder.answered(second, CasAnswer::Conflict(Some((landed, 4))));
    assert_eq!(holder.revision(), 4);
    assert_eq!(holder.until(), start() + LEASE, "from the stamp of the write that landed");
}

#[test]
fn a_session_that_lapsed_or_was_declared_lost_is_over() {
    let mut lapsed = holder();
    let (renewal, ..) = write(&mut lapsed, start());
    lapsed.answered(renewal, CasAnswer::Written(1));
    let end = lapsed.until();
    assert!(!lapsed.has_lapsed(start()));
    assert_eq!(lapsed.plan(end, WallMillis(0)), Some(LeaseStep::Over { by: None }));

    let mut declared = holder();
    let (renewal, ..) = write(&mut declared, start());
    declared.answered(renewal, CasAnswer::Written(1));
    let (renewal, _, mut value) = write(&mut declared, start() + RENEW);
    value.standing = Standing::Lost;
    declared.answered(renewal, CasAnswer::Conflict(Some((value.clone(), 2))));
    assert_eq!(
        declared.plan(start() + RENEW, WallMillis(0)),
        Some(LeaseStep::Over { by: Some((value, 2)) })
    );
}

#[test]
fn a_stale_read_after_a_conflict_does_not_end_the_session() {
    let mut holder = holder();
    let (renewal, _, mut old) = write(&mut holder, start());
    holder.answered(renewal, CasAnswer::Written(6));
    old.session = SessionId(1);
    let (renewal, ..) = write(&mut holder, start() + RENEW);
    holder.answered(renewal, CasAnswer::Conflict(Some((old, 3))));
    assert_eq!(holder.plan(start() + RENEW, WallMillis(0)), None);
}

#[test]
fn renewals_are_spaced_and_a_change_of_standing_is_due_at_once() {
    let mut holder = holder();
    write(&mut holder, start());
    assert_eq!(holder.plan(start(), WallMillis(0)), None);
    assert_eq!(holder.wakeup(), start() + RENEW);
    holder.stand(Standing::Draining);
    let (_, _, value) = write(&mut holder, start());
    assert_eq!(value.standing, Standing::Draining);
}

#[test]
fn a_lease_is_given_back_only_when_the_registry_says_so() {
    let mut holder = holder();
    let (first, ..) = write(&mut holder, start());
    holder.stand(Standing::Released);
    let (second, _, value) = write(&mut holder, start());
    holder.answered(first, CasAnswer::Written(1));
    assert!(!holder.is_released(), "that was an earlier renewal");
    holder.answered(second, CasAnswer::Conflict(Some((value, 2))));
    assert!(holder.is_released(), "it had landed, and its answer was lost");
}

#[test]
fn a_vanished_key_ends_the_session_and_the_next_begins_from_nothing() {
    let mut holder = holder();
    let (first, ..) = write(&mut holder, start());
    holder.answered(first, CasAnswer::Written(7));
    let (second, ..) = write(&mut holder, start() + RENEW);
    holder.answered(second, CasAnswer::Conflict(None));
    assert_eq!(holder.plan(start() + RENEW, WallMillis(0)), Some(LeaseStep::Over { by: None }));
    assert_eq!(holder.revision(), ABSENT);
}

#[test]
fn the_echo_of_the_newest_renewal_does_not_hurry_the_next() {
    let mut holder = holder();
    let (renewal, _, value) = write(&mut holder, start());
    holder.answered(renewal, CasAnswer::Conflict(Some((value, 3))));
    assert_eq!(holder.until(), start() + LEASE);
    assert_eq!(holder.plan(start(), WallMillis(0)), None);
}
