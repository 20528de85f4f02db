//! The lease of a worker over its sessions: which way a renewal goes, what closes the gates, and who may
//! follow whom. Time is a number.

use super::*;
use crate::{Nonce, registry::StreamId};
use alloc::vec;

const TIMING: LeaseTiming = LeaseTiming::STANDARD;
const HERE: Nonce = Nonce(5);

struct Worker {
    lease: LeaseLoop,
    now: Time,
}

fn home(session: u64) -> Home {
    Home { master: "m1".parse().expect("a name"), session: SessionId(session) }
}

fn of(session: u64, standing: LeaseState, home_dir: Nonce) -> Lease {
    Lease {
        state: standing,
        home_dir,
        ..Lease::new("w1".parse().expect("a name"), SessionId(session))
    }
}

impl Worker {
    fn new() -> Self {
        let draft = of(0, LeaseState::Live, HERE);
        let now = Time::from_nanos(1_000_000_000_000);
        Worker { lease: LeaseLoop::new(TIMING, draft, 7), now }
    }

    /// With a direct way to the registry, and the lease held under this revision.
    fn held(revision: Revision) -> Self {
        let mut worker = Worker::new();
        worker.see(LeaseEvent::Direct(true));
        worker.answer(1, CasAnswer::Written(revision));
        worker
    }

    fn see(&mut self, event: LeaseEvent) -> Vec<LeaseEffect> {
        self.lease.observe(self.now, event);
        self.plan()
    }

    fn plan(&mut self) -> Vec<LeaseEffect> {
        let mut out = Vec::new();
        self.lease.plan(self.now, WallMillis(0), &mut out);
        assert!(self.lease.wakeup().is_none_or(|at| at > self.now), "it would spin");
        out
    }

    fn answer(&mut self, renewal: u64, answer: CasAnswer<Lease>) -> Vec<LeaseEffect> {
        let session = self.lease.session();
        self.see(LeaseEvent::Answered { session, renewal, answer, direct: true })
    }

    fn pass(&mut self, time: Duration) -> Vec<LeaseEffect> {
        let end = self.now + time;
        let mut out = Vec::new();
        while let Some(at) = self.lease.wakeup().filter(|&at| at <= end) {
            self.now = at;
            out.extend(self.plan());
        }
        self.now = end;
        out
    }
}

fn renewals(effects: &[LeaseEffect]) -> Vec<(Lease, bool, Vec<LinkId>)> {
    let renewal = |effect: &LeaseEffect| match effect {
        LeaseEffect::Renew { lease, direct, links, .. } => {
            Some((lease.clone(), *direct, links.clone()))
        }
        _ => None,
    };
    effects.iter().filter_map(renewal).collect()
}

#[test]
fn a_renewal_goes_straight_where_that_answers_and_every_way_where_it_does_not() {
    let mut worker = Worker::new();
    worker.see(LeaseEvent::Linked { link: 3, master: home(1), near: false });
    let sent = renewals(&worker.see(LeaseEvent::Direct(true)));
    assert!(sent.iter().all(|(_, direct, links)| *direct && links == &[3]), "{sent:?}");
    worker.answer(2, CasAnswer::Written(9));
    let sent = renewals(&worker.pass(TIMING.renew_every()));
    assert!(sent[0].1 && sent[0].2.is_empty(), "it answers: {sent:?}");
    let sent = renewals(&worker.pass(TIMING.renew_every()));
    assert_eq!(sent[0].2, [3], "the last one was not answered");
}

#[test]
fn a_new_link_makes_a_doubtful_renewal_due_at_once() {
    let mut worker = Worker::held(9);
    worker.pass(TIMING.renew_every());
    worker.pass(TIMING.renew_every() / 2);
    let sent = renewals(&worker.see(LeaseEvent::Linked { link: 4, master: home(1), near: false }));
    assert_eq!(sent.len(), 1, "the registry has not answered, and a master may");
}

#[test]
fn a_session_that_lapsed_closes_the_gates_and_is_followed_once_nothing_of_it_runs() {
    let mut worker = Worker::held(9);
    let first = worker.lease.session();
    let out = worker.pass(TIMING.worker());
    let lapsed = Some(worker.now);
    assert!(out.contains(&LeaseEffect::Close { session: first, lapsed, by: None }), "{out:?}");
    assert_eq!(worker.lease.until(), Time::ZERO);
    // A late answer opens nothing.
    assert_eq!(worker.answer(2, CasAnswer::Written(10)), []);
    let out = worker.see(LeaseEvent::Quiet);
    let sent = renewals(&out);
    assert_ne!(sent[0].0.session, first);
    assert_eq!((&sent[0].0.succeeds, sent[0].0.fenced), (&vec![first], true));
}

#[test]
fn a_lease_of_another_directory_is_waited_for_and_one_of_this_is_taken_over() {
    for (home_dir, waits) in [(HERE, false), (Nonce(6), true)] {
        let mut worker = Worker::new();
        worker.see(LeaseEvent::Direct(true));
        let other = of(99, LeaseState::Live, home_dir);
        worker.answer(1, CasAnswer::Conflict(Some((other, 5))));
        let out = worker.see(LeaseEvent::Quiet);
        assert_eq!(renewals(&out).is_empty(), waits, "{out:?}");
        let out = if waits { worker.pass(TAKE_AGAIN) } else { out };
        let succeeds = if waits { vec![] } else { vec![SessionId(99)] };
        assert_eq!(renewals(&out)[0].0.succeeds, succeeds);
    }
}

#[test]
fn a_renewal_says_what_its_own_session_holds() {
    let mut worker = Worker::held(9);
    let upto = Mark { stream: StreamId(1), revision: 44 };
    let holds = Holds { session: Some(worker.lease.session()), upto };
    worker.see(LeaseEvent::SetHolds(holds));
    assert_eq!(renewals(&worker.pass(TIMING.renew_every()))[0].0.holds, upto);
    worker.pass(TIMING.worker());
    worker.see(LeaseEvent::SetHolds(holds));
    let out = worker.see(LeaseEvent::Quiet);
    assert!(renewals(&out)[0].0.holds.is_none(), "the next session holds nothing");
    worker.see(LeaseEvent::SetHolds(holds));
    assert!(renewals(&worker.pass(TIMING.renew_every()))[0].0.holds.is_none());
}

#[test]
fn a_lease_that_is_given_back_opens_no_gate_and_ends_the_process() {
    let mut worker = Worker::held(9);
    let out = worker.see(LeaseEvent::Release);
    assert!(out.contains(&LeaseEffect::CloseQuietly));
    let sent = renewals(&out);
    assert_eq!(sent[0].0.state, LeaseState::Released);
    let out = worker.answer(sent[0].0.renewal, CasAnswer::Written(10));
    assert_eq!(out, [LeaseEffect::Released { in_time: true }]);
    let mut worker = Worker::held(9);
    worker.see(LeaseEvent::Release);
    let out = worker.pass(RELEASE_WITHIN);
    assert!(out.contains(&LeaseEffect::Released { in_time: false }));
}

#[test]
fn what_a_host_lacks_is_said_at_once_and_in_the_next_session() {
    let mut worker = Worker::held(9);
    let full = || Some(Unwell::from("a disk is full"));
    let sent = renewals(&worker.see(LeaseEvent::Lack(full())));
    assert_eq!(sent.len(), 1, "it does not wait for its turn");
    assert_eq!(sent[0].0.unwell, full());
    assert!(renewals(&worker.see(LeaseEvent::Lack(full()))).is_empty(), "no news");
    worker.pass(TIMING.worker());
    let sent = renewals(&worker.see(LeaseEvent::Quiet));
    assert_eq!(sent[0].0.unwell, full());
}

#[test]
fn a_shortage_that_comes_and_goes_at_most_doubles_the_renewals() {
    let mut worker = Worker::held(9);
    let (intervals, flaps) = (2, 50);
    let mut sent = Vec::new();
    for flap in 0..intervals * flaps {
        let unwell = (flap % 2 == 0).then(|| Unwell::from("a disk is full"));
        sent.extend(renewals(&worker.see(LeaseEvent::Lack(unwell))));
        sent.extend(renewals(&worker.pass(TIMING.renew_every() / flaps)));
    }
    let count = sent.len() as u32;
    assert!((intervals..=2 * intervals).contains(&count), "{count}");
    let sent = renewals(&worker.pass(TIMING.renew_every()));
    assert_eq!(sent[0].0.unwell, None, "what it says in the end is what is so");
}

#[test]
fn a_policy_that_changes_is_said_at_once_and_in_the_next_session() {
    let mut worker = Worker::held(9);
    let policy = || Arc::new(Policy { secrets: ["KEY".into()].into(), ..Policy::default() });
    let sent = renewals(&worker.see(LeaseEvent::SetPolicy(policy())));
    assert_eq!(sent.len(), 1, "it does not wait for its turn");
    assert_eq!(sent[0].0.offer.policy, policy());
    assert!(renewals(&worker.see(LeaseEvent::SetPolicy(policy()))).is_empty(), "no news");
    worker.pass(TIMING.worker());
    let sent = renewals(&worker.see(LeaseEvent::Quiet));
    assert_eq!(sent[0].0.offer.policy, policy());
}

#[test]
fn an_upgrade_is_said_at_once_and_more_runs_with_the_next_renewal() {
    let mut worker = Worker::held(9);
    let report = |number, runs| ProgramReport { number, runs, ..ProgramReport::default() };
    let sent = renewals(&worker.see(LeaseEvent::SetProgram(report(1, 0))));
    assert_eq!(sent.len(), 1, "it does not wait for its turn");
    assert!(renewals(&worker.see(LeaseEvent::SetProgram(report(1, 7)))).is_empty());
    worker.pass(TIMING.worker());
    let sent = renewals(&worker.see(LeaseEvent::Quiet));
    assert_eq!(sent[0].0.program, Some(report(1, 7)));
}
