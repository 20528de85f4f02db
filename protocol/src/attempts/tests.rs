//! The worker's state machine, event by event: effects come out as lines. Time is a number.

mod occupancy;
mod prepare;
mod shutdown;

use super::*;
use crate::{
    AttemptId, Digest, TaskId,
    message::ToWorker,
    registry::{Holds, StreamId},
    task::{Data, Limits},
};
use alloc::{format, string::ToString, vec};

struct Harness {
    attempts: Attempts,
    now: Time,
}

const SECOND: Duration = Duration::from_secs(1);
const SESSION: SessionId = SessionId(1);
const MASTER: SessionId = SessionId(77);

fn key(task: u128) -> AttemptKey {
    AttemptKey { task: TaskId(task), attempt: AttemptId(task as u64 * 10) }
}

fn dispatch(task: u128) -> ToWorker {
    ToWorker::Dispatch(Dispatch {
        key: key(task),
        session: SESSION,
        revision: 1,
        stream: StreamId(1),
        held_max: u32::MAX,
        alone: false,
        number: 1,
        module: Digest([task as u8; 32]),
        signature: None,
        input: Data::EMPTY,
        args: vec![],
        limits: Limits::default(),
        grants: Default::default(),
        trace: None,
    })
}

fn ack(task: u128) -> ToWorker {
    ToWorker::Ack { key: key(task), committed: true }
}

fn completed() -> Outcome {
    Outcome::bare(Verdict::Completed)
}

fn say(effect: &Effect) -> String {
    match effect {
        Effect::Prepare { dispatch, link } => format!("prepare t{} by {link}", dispatch.key.task.0),
        Effect::Start(dispatch) => format!("start t{}", dispatch.key.task.0),
        Effect::Kill { key, why } => format!("kill t{}: {why:?}", key.task.0),
        Effect::Recall(key) => format!("recall t{}", key.task.0),
        Effect::Drop(key) => format!("drop t{}", key.task.0),
        Effect::Quiet => "quiet".to_string(),
        Effect::SetHolds(holds) => format!("hold {}", holds.upto.revision),
        Effect::SetLeaseState(standing) => format!("stand {}", standing.word()),
        Effect::Send { link, message } => match message {
            ToMaster::Hello(Hello { session, attempts, .. }) => {
                let attempts: Vec<_> = attempts.iter().map(|held| held.key.task.0).collect();
                format!("link {link}: hello of session {} with {attempts:?}", session.0)
            }
            ToMaster::Finished { key, outcome, .. } => {
                format!("link {link}: t{} {}", key.task.0, outcome.verdict.word())
            }
            other => format!("link {link}: {other:?}"),
        },
    }
}

#[track_caller]
fn check(lines: Vec<String>, want: &[&str]) {
    assert_eq!(lines, want);
}

impl Harness {
    /// A worker with two slots, a lease for 4 s, and link 1 to a master.
    fn new() -> Self {
        let mut harness = Harness::bare();
        harness.see(Event::Linked(1, MASTER));
        harness.held(4);
        harness
    }

    fn bare() -> Self {
        Harness { attempts: Attempts::new(2, "1".into()), now: Time::from_nanos(1_000_000_000_000) }
    }

    fn see(&mut self, event: Event) -> Vec<String> {
        self.attempts.observe(self.now, event);
        self.plan()
    }

    fn plan(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        self.attempts.plan(self.now, &mut out);
        let busy = |attempt: &&Attempt| matches!(attempt.phase, Phase::Running | Phase::Killed(_));
        assert_eq!(self.attempts.running(), self.attempts.attempts.values().filter(busy).count());
        assert!(
            self.attempts.wakeup().is_none_or(|at| at > self.now),
            "it would be woken without end"
        );
        // That the lease is told what is held, a test of its own looks at.
        out.iter().filter(|effect| !matches!(effect, Effect::SetHolds(_))).map(say).collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut lines = Vec::new();
        while let Some(at) = self.attempts.wakeup().filter(|&at| at <= end) {
            self.now = at;
            lines.extend(self.plan());
        }
        self.now = end;
        lines
    }

    fn held(&mut self, seconds: u32) -> Vec<String> {
        let until = self.now + SECOND * seconds;
        self.see(Event::LeaseHeld { session: SESSION, until })
    }

    fn told(&mut self, link: LinkId, message: ToWorker) -> Vec<String> {
        self.see(Event::Received(link, message))
    }

    fn ended(&mut self, task: u128) -> Vec<String> {
        self.see(Event::Ended { key: key(task), outcome: completed() })
    }

    /// Dispatched over link 1 and prepared; what follows from that.
    fn give(&mut self, task: u128) -> Vec<String> {
        let prepare = self.told(1, dispatch(task));
        check(prepare, &[&format!("prepare t{task} by 1")]);
        self.see(Event::Prepared(key(task)))
    }

    #[track_caller]
    fn empty(&self) {
        assert!(self.attempts.attempts.is_empty() && self.attempts.ready.is_empty());
        assert!(self.attempts.dirty.is_empty() && self.attempts.running() == 0);
    }
}

#[test]
fn an_attempt_is_prepared_run_reported_and_forgotten_when_acknowledged() {
    let mut d = Harness::new();
    check(d.give(1), &["start t1"]);
    check(d.ended(1), &["link 1: t1 completed"]);
    check(d.pass(SECOND * 3), &[]);
    check(d.told(1, ack(1)), &[]);
    d.empty();
}

#[test]
fn a_few_very_short_runs_are_begun_beyond_the_slots_and_no_long_ones() {
    let mut d = Harness::new();
    // Whether it is begun at once; its module may be there already.
    let gets = |d: &mut Harness, task: u128| {
        let at_once = d.told(1, dispatch(task)) == [format!("start t{task}")];
        at_once || d.see(Event::Prepared(key(task))) == [format!("start t{task}")]
    };
    let begun = |d: &mut Harness, run_us: u64, first: u128| {
        // Enough of them for the mean to be theirs.
        for task in first..first + 64 {
            assert!(gets(d, task));
            let outcome = Outcome { run_us, ..completed() };
            d.see(Event::Ended { key: key(task), outcome });
            d.told(1, ack(task));
        }
        let waiting = first + 64..first + 164;
        let begun = waiting.clone().filter(|&task| gets(d, task)).count();
        for task in waiting {
            d.see(Event::Ended { key: key(task), outcome: Outcome { run_us, ..completed() } });
            d.told(1, ack(task));
        }
        d.empty();
        begun
    };
    assert_eq!(begun(&mut d, 50_000, 1_000), 2, "the slots");
    let short = begun(&mut d, 100, 2_000);
    assert!((15..=22).contains(&short), "{short}: the slots, and a millisecond of work for each");
    assert_eq!(begun(&mut d, 1, 3_000), 2 + limit::BEGUN_TASKS_MAX as usize, "bounded in tasks");
}

#[test]
fn nothing_starts_without_a_lease() {
    let mut d = Harness::bare();
    check(d.see(Event::Linked(1, MASTER)), &[]);
    check(d.told(1, dispatch(1)), &[]);
    d.empty();
    check(d.held(4), &["link 1: hello of session 1 with []"]);
    check(d.give(1), &["start t1"]);
    // Prepared only after the lease has run out.
    check(d.told(1, dispatch(2)), &["prepare t2 by 1"]);
    d.pass(SECOND * 4);
    check(d.see(Event::Prepared(key(2))), &["drop t2"]);
}

#[test]
fn at_the_lease_s_end_runs_are_killed_and_the_rest_given_up_though_nothing_else_happens() {
    let mut d = Harness::new();
    for task in 1..=2 {
        d.give(task);
    }
    check(d.pass(SECOND * 3), &[]);
    d.give(3);
    d.told(1, dispatch(4));
    assert_eq!(d.attempts.wakeup(), Some(d.now + SECOND));
    check(d.pass(SECOND), &["kill t1: Fenced", "kill t2: Fenced", "drop t3", "drop t4"]);
    assert_eq!(d.attempts.wakeup(), None, "the engine says when they have stopped");
    // From here on nothing counts, whether it was killed or ended by itself.
    check(d.see(Event::Stopped(key(1))), &[]);
    check(d.ended(2), &[]);
    d.empty();
}

#[test]
fn a_renewal_moves_the_fence() {
    let mut d = Harness::new();
    d.give(1);
    for _ in 0..5 {
        check(d.pass(SECOND * 3), &[]);
        check(d.held(4), &[]);
    }
}

#[test]
fn the_engine_may_stop_a_run_before_this_state_machine_knows_why() {
    let mut d = Harness::new();
    d.give(1);
    // If the session goes on all the same, the masters hear that the run is gone.
    check(d.see(Event::Stopped(key(1))), &["link 1: hello of session 1 with []"]);
    d.empty();

    let mut d = Harness::new();
    d.give(1);
    d.now = d.now + SECOND * 4;
    check(d.see(Event::Stopped(key(1))), &[]);
    check(d.see(Event::SessionOver), &["quiet"]);
    d.empty();
}

#[test]
fn an_outcome_is_kept_until_acknowledged_and_said_again_on_another_link() {
    let mut d = Harness::new();
    d.give(1);
    d.ended(1);
    check(d.see(Event::Unlinked(1)), &[]);
    check(
        d.see(Event::Linked(2, MASTER)),
        &["link 2: hello of session 1 with [1]", "link 2: t1 completed"],
    );
    check(d.see(Event::Linked(3, MASTER)), &["link 3: hello of session 1 with [1]"]);
    check(d.see(Event::Unlinked(2)), &["link 3: t1 completed"]);
    // It outlives even its session: whether it counts, the record says.
    check(d.see(Event::SessionOver), &["quiet"]);
    check(d.see(Event::Unlinked(3)), &[]);
    check(d.see(Event::Linked(4, MASTER)), &["link 4: t1 completed"]);
    check(d.told(4, ack(1)), &[]);
    d.empty();
}

#[test]
fn a_run_that_ends_without_any_link_is_reported_on_the_next() {
    let mut d = Harness::new();
    d.give(1);
    d.see(Event::Unlinked(1));
    check(d.ended(1), &[]);
    let lines = d.see(Event::Linked(2, MASTER));
    check(lines, &["link 2: hello of session 1 with [1]", "link 2: t1 completed"]);
}

#[test]
fn an_outcome_that_its_master_does_not_acknowledge_is_reported_to_another() {
    let mut d = Harness::new();
    d.give(1);
    check(d.ended(1), &["link 1: t1 completed"]);
    check(d.pass(crate::limit::PATIENCE), &[]);
    d.see(Event::Linked(2, MASTER));
    check(d.pass(crate::limit::PATIENCE), &["link 2: t1 completed"]);
    check(d.pass(crate::limit::PATIENCE), &["link 1: t1 completed"]);
    check(d.told(1, ack(1)), &[]);
    check(d.pass(crate::limit::PATIENCE), &[]);
    d.empty();
}

#[test]
fn a_dispatch_said_twice_is_run_once_whenever_it_comes() {
    let mut d = Harness::new();
    d.see(Event::Linked(2, MASTER));
    d.told(1, dispatch(1));
    check(d.told(2, dispatch(1)), &[]);
    d.see(Event::Prepared(key(1)));
    check(d.told(1, dispatch(1)), &[]);
    d.ended(1);
    check(d.told(1, dispatch(1)), &[]);
    d.told(1, ack(1));
    check(d.told(2, dispatch(1)), &["link 2: t1 returned"]);
    d.told(2, ack(1));
    d.empty();
}

#[test]
fn a_cancelled_attempt_is_not_run_by_a_dispatch_that_comes_after_its_revoke() {
    let mut d = Harness::new();
    d.see(Event::Linked(2, MASTER));
    check(d.told(2, ToWorker::Revoke { key: key(1), revision: 1 }), &["link 2: t1 cancelled"]);
    check(d.told(1, dispatch(1)), &[]);
    d.told(2, ack(1));
    check(d.told(1, dispatch(1)), &["link 1: t1 returned"]);
    d.told(1, ack(1));
    d.empty();
}

#[test]
fn a_revoke_of_an_attempt_that_was_never_heard_of_is_remembered_by_its_revision() {
    let mut d = Harness::new();
    for task in 1..=OVER_MAX as u128 + 1 {
        d.told(1, ToWorker::Revoke { key: key(task), revision: 9 });
        d.told(1, ack(task));
    }
    check(d.told(1, dispatch(1)), &["link 1: t1 returned"]);
}

#[test]
fn the_lease_is_told_what_is_held_before_anything_can_start() {
    let mut d = Harness::new();
    d.see(Event::Linked(2, MASTER));
    let effects = |d: &mut Harness, message| {
        d.attempts.observe(d.now, Event::Received(1, message));
        let mut out = Vec::new();
        d.attempts.plan(d.now, &mut out);
        out
    };
    let out = effects(&mut d, dispatch(1));
    let upto = Mark { stream: StreamId(1), revision: 1 };
    assert_eq!(out[0], Effect::SetHolds(Holds { session: Some(SESSION), upto }));
    d.see(Event::Prepared(key(1)));
    assert!(
        !effects(&mut d, dispatch(2)).iter().any(|effect| matches!(effect, Effect::SetHolds(_)))
    );
    d.attempts.observe(d.now, Event::Linked(3, MASTER));
    let mut out = Vec::new();
    d.attempts.plan(d.now, &mut out);
    let hello = out.iter().find_map(|effect| match effect {
        Effect::Send { message: ToMaster::Hello(hello), .. } => Some(hello.clone()),
        _ => None,
    });
    let hello = hello.expect("it says hello");
    assert_eq!((hello.to, hello.holds.revision), (MASTER, 1));
}

#[test]
fn of_two_attempts_of_a_task_the_later_waits_until_the_earlier_has_stopped() {
    let mut d = Harness::new();
    d.give(1);
    let second = |revision| {
        let ToWorker::Dispatch(first) = dispatch(1) else { unreachable!("it is one") };
        let key = AttemptKey { attempt: AttemptId(99), ..key(1) };
        ToWorker::Dispatch(Dispatch { key, revision, ..first })
    };
    check(d.told(1, second(2)), &["kill t1: Revoked"]);
    check(d.see(Event::Stopped(key(1))), &["link 1: t1 cancelled", "start t1"]);
    // One that was given earlier comes too late.
    let mut d = Harness::new();
    d.told(1, second(2));
    check(d.told(1, dispatch(1)), &["link 1: t1 returned"]);
}

#[test]
fn what_is_remembered_of_acknowledged_attempts_is_bounded() {
    let mut d = Harness::new();
    for task in 1..=OVER_MAX as u128 + 10 {
        d.told(1, ToWorker::Revoke { key: key(task), revision: 1 });
        d.told(1, ack(task));
    }
    assert_eq!(d.attempts.over.len(), OVER_MAX);
    assert_eq!(d.attempts.over_order.len(), OVER_MAX);
}

#[test]
fn what_is_remembered_of_modules_is_bounded() {
    let mut d = Harness::new();
    for module in 0..=WARM_MAX {
        let ToWorker::Dispatch(mut one) = dispatch(1) else { unreachable!("a dispatch") };
        one.module.0[..8].copy_from_slice(&module.to_be_bytes());
        one.key.attempt = AttemptId(module as u64);
        let key = one.key;
        d.told(1, ToWorker::Dispatch(one));
        d.see(Event::Prepared(key));
    }
    assert_eq!(d.attempts.warm.len(), WARM_MAX);
}

#[test]
fn a_dispatch_meant_for_another_session_is_refused() {
    let mut d = Harness::new();
    check(d.see(Event::SessionOver), &["quiet"]);
    let until = d.now + SECOND * 4;
    let lines = d.see(Event::LeaseHeld { session: SessionId(2), until });
    check(lines, &["link 1: hello of session 2 with []"]);
    check(d.told(1, dispatch(1)), &[]);
    d.empty();
}

#[test]
fn a_revoke_in_each_phase_is_confirmed() {
    let revoke = || ToWorker::Revoke { key: key(1), revision: 1 };
    let mut never_heard_of = Harness::new();
    check(never_heard_of.told(1, revoke()), &["link 1: t1 cancelled"]);

    let mut preparing = Harness::new();
    preparing.told(1, dispatch(1));
    check(preparing.told(1, revoke()), &["drop t1", "link 1: t1 cancelled"]);
    check(preparing.see(Event::Prepared(key(1))), &["drop t1"]);

    let mut lacking = Harness::new();
    lacking.see(Event::Unlinked(1));
    lacking.told(1, dispatch(1));
    lacking.told(1, revoke());
    let lines = lacking.see(Event::Linked(2, MASTER));
    check(lines, &["link 2: hello of session 1 with [1]", "link 2: t1 cancelled"]);

    let mut ready = Harness::new();
    for task in [2, 3, 1] {
        ready.give(task);
    }
    check(ready.told(1, revoke()), &["drop t1", "link 1: t1 cancelled"]);
    check(ready.ended(2), &["link 1: t2 completed"]);

    let mut running = Harness::new();
    running.give(1);
    check(running.told(1, revoke()), &["kill t1: Revoked"]);
    check(running.told(1, revoke()), &[]);
    check(running.see(Event::Stopped(key(1))), &["link 1: t1 cancelled"]);

    let mut too_late = Harness::new();
    too_late.give(1);
    too_late.told(1, revoke());
    check(too_late.ended(1), &["link 1: t1 completed"]);

    let mut over = Harness::new();
    over.give(1);
    over.ended(1);
    check(over.told(1, revoke()), &["link 1: t1 completed"]);

    for mut d in [never_heard_of, preparing, lacking, ready, running, too_late, over] {
        d.told(1, ack(1));
        assert!(!d.attempts.attempts.contains_key(&key(1)));
    }
}

#[test]
fn slots_are_respected_and_attempts_start_in_the_order_in_which_they_came() {
    let mut d = Harness::new();
    for task in [7, 3, 9, 1] {
        d.told(1, dispatch(task));
    }
    check(d.see(Event::Prepared(key(1))), &["start t1"]);
    check(d.see(Event::Prepared(key(9))), &["start t9"]);
    check(d.see(Event::Prepared(key(3))), &[]);
    check(d.see(Event::Prepared(key(7))), &[]);
    check(d.ended(9), &["link 1: t9 completed", "start t7"]);
    // A killed run has its slot until it has stopped.
    check(d.told(1, ToWorker::Revoke { key: key(1), revision: 1 }), &["kill t1: Revoked"]);
    check(d.see(Event::Stopped(key(1))), &["link 1: t1 cancelled", "start t3"]);
}
