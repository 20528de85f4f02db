//! What a new session does before it writes a task: everybody answers, and what somebody knows to
//! exist is compared with what is there. And the guard that follows a loss.

mod missed;

use super::*;
use crate::{
    lease::{Home, MasterLease},
    registry::{FailoverGuard, StreamId},
};

const OUTAGE: Duration = LeaseTiming::STANDARD.outage_wait();

/// Another master gives task 1 to a session of w1, under this revision of its lease in that stream.
fn given_under(w: &mut World, session: SessionId, lease: Revision, lease_stream: StreamId) {
    w.other_writes(1, |record| {
        record.state = TaskState::Dispatched(Attempt {
            id: AttemptId(5),
            number: 1,
            worker: name("w1"),
            session,
            lease,
            lease_stream,
            dispatched_at: WallMillis(0),
            alone: false,
            to_silent: false,
            unknown: Default::default(),
        });
    });
}

/// A session on a server that has started again; nobody has answered yet.
fn anew(change: impl FnOnce(&mut Config)) -> World {
    let mut w = World::unloaded();
    let mut config = config(8);
    config.server = Some(ServerId("another".into()));
    change(&mut config);
    w.fleet = Fleet::new(config);
    w
}

/// The same, with a live worker `w1` of session 1 and a waiting task 1.
fn anew_with_a_worker(change: impl FnOnce(&mut Config)) -> World {
    let mut w = anew(change);
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    let record = TaskRecord::queued(TaskId(1), Arc::new(spec()), WallMillis(0));
    w.cas(ABSENT, &record);
    w.watch(1);
    w
}

fn load(w: &mut World) -> Vec<String> {
    let found = w.found();
    w.see(Event::Loaded(found))
}

fn hello(w: &mut World, holds: Revision, to: SessionId) -> Vec<String> {
    let holds = Mark { revision: holds, ..Mark::default() };
    let (session, attempts, version) = (SessionId(1), Vec::new(), String::new());
    let hello = Hello { to, session, attempts, holds, version, frames: Default::default() };
    let (worker, transport) = (name("w1"), Transport::Quic);
    let entitlement = w.entitlement.clone();
    w.see(Event::Linked { worker, link: 11, transport, entitlement, hello })
}

/// The leader says where a stream ends.
fn end_of(w: &mut World, bucket: Bucket, end: Mark) -> Vec<String> {
    let read = w.fleet.inquiries.latest_read();
    w.see(Event::EndRead { bucket, read, end })
}

/// The leader says where the tasks end.
fn end_of_tasks(w: &mut World, revision: Revision) -> Vec<String> {
    end_of(w, Bucket::Tasks, Mark { revision, ..Mark::default() })
}

/// The registry carries out a write of the guard.
fn guard_ok(w: &mut World, guard: &FailoverGuard) -> Vec<String> {
    let revision = w.next();
    let (guard, answer) = (guard.clone(), CasAnswer::Written(revision));
    w.see(Event::GuardWritten { guard, answer })
}

fn master(session: u64, change: impl FnOnce(&mut MasterLease)) -> MasterLease {
    let mut lease = MasterLease {
        master: "m2".parse().expect("a name"),
        session: SessionId(session),
        renewal: 1,
        state: LeaseState::Live,
        wait_ms: OUTAGE.as_millis() as u64,
        workers: 0,
        remembers: Vec::new(),
        vouches: None,
        connected_to: None,
        address: None,
        issues: false,
        renewed_at: WallMillis(0),
        unknown: Default::default(),
    };
    change(&mut lease);
    lease
}

impl World {
    fn sees_master(&mut self, lease: MasterLease) -> Vec<String> {
        let revision = self.next();
        self.see(Event::MasterSeen(lease, revision))
    }
}

#[test]
fn nothing_is_given_out_before_every_worker_has_answered() {
    let mut w = anew_with_a_worker(|_| ());
    check(load(&mut w), &[]);
    assert_eq!(w.fleet.next_missing(w.now).as_deref(), Some("worker w1"));
    check(hello(&mut w, 0, SessionId(7)), &[]);
    assert!(w.fleet.next_missing(w.now).is_some(), "it answers an earlier session");
    check(hello(&mut w, 2, SessionId(8)), &["write t1@2: A at w1"]);
}

#[test]
fn a_renewal_answers_too_and_a_loss_of_the_worker_as_well() {
    let mut w = anew_with_a_worker(|_| ());
    load(&mut w);
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    assert_eq!(w.fleet.next_missing(w.now), None);

    let mut w = anew_with_a_worker(|_| ());
    load(&mut w);
    check(w.pass(WAIT), &["lease w1@1: Lost"]);
    assert!(w.fleet.next_missing(w.now).is_some());
    w.lease_ok("w1");
    assert_eq!(w.fleet.next_missing(w.now), None);
}

#[test]
fn an_earlier_session_with_the_same_server_process_makes_it_needless() {
    let mut w = anew_with_a_worker(|config| config.memory.vouched = config.server.clone());
    load(&mut w);
    assert!(w.fleet.may_act());
    let mut w = anew_with_a_worker(|_| ());
    let server = Some(ServerId("another".into()));
    w.sees_master(master(9, |lease| {
        (lease.state, lease.vouches) = (LeaseState::Lost, server);
    }));
    load(&mut w);
    assert!(w.fleet.may_act(), "another master vouches for it, whatever has become of that");
    let mut w = anew(|_| ());
    load(&mut w);
    assert!(w.fleet.may_act(), "a new fleet");
}

#[test]
fn every_master_answers_or_is_over_for_long() {
    let mut w = anew(|_| ());
    w.sees_master(master(9, |_| ()));
    load(&mut w);
    assert_eq!(w.fleet.next_missing(w.now).as_deref(), Some("master m2"));
    w.sees_master(master(9, |lease| lease.renewal = 2));
    assert_eq!(w.fleet.next_missing(w.now), None);

    // A later session of its process speaks for it, once that has answered itself.
    let mut w = anew(|_| ());
    w.sees_master(master(9, |_| ()));
    w.sees_master(master(10, |lease| lease.remembers = vec![SessionId(9)]));
    load(&mut w);
    assert!(w.fleet.next_missing(w.now).is_some());
    w.sees_master(master(10, |lease| {
        (lease.renewal, lease.remembers) = (2, vec![SessionId(9)]);
    }));
    assert_eq!(w.fleet.next_missing(w.now), None);

    let mut w = anew(|_| ());
    w.sees_master(master(9, |lease| lease.state = LeaseState::Released));
    load(&mut w);
    w.pass(WAIT - Duration::from_millis(1));
    assert!(w.fleet.next_missing(w.now).is_some(), "what it gave out may still run");
    w.pass(Duration::from_millis(1));
    assert!(w.fleet.may_act());

    let over = [(SessionId(9), Time::ZERO)].into();
    let mut w = anew(|config| config.memory.over = over);
    w.sees_master(master(9, |lease| lease.state = LeaseState::Released));
    load(&mut w);
    assert!(w.fleet.may_act(), "that was long ago, as this process knows");
}

#[test]
fn a_worker_that_holds_what_the_registry_lacks_raises_the_guard() {
    let mut w = anew_with_a_worker(|_| ());
    load(&mut w);
    check(hello(&mut w, 5, SessionId(8)), &["read the end of tasks"]);
    let lines = end_of_tasks(&mut w, 2);
    check(lines, &["lease w1@1: Lost", "guard@0: raised"]);
    assert!(w.news().contains(&"registry m1 rewound".to_string()));
    // On `lost` another master would act at once, and this session may still run.
    let taken = &w.lease_writes[&name("w1")].1;
    assert!(taken.session != SessionId(1) && taken.succeeds.is_empty(), "{taken:?}");
    // A connection that breaks now leaves the guard to the next session.
    assert!(w.fleet.memory().owes_guard);
}

#[test]
fn what_came_meanwhile_is_no_loss() {
    let mut w = anew_with_a_worker(|_| ());
    load(&mut w);
    check(hello(&mut w, 5, SessionId(8)), &["read the end of tasks"]);
    check(end_of_tasks(&mut w, 5), &["write t1@2: A at w1"]);
}

#[test]
fn a_read_that_began_before_a_claim_says_nothing_of_it() {
    let mut w = anew_with_a_worker(|_| ());
    load(&mut w);
    check(hello(&mut w, 5, SessionId(8)), &["read the end of tasks"]);
    let (read, end) = (w.fleet.inquiries.latest_read(), Mark { revision: 5, ..Mark::default() });
    check(hello(&mut w, 6, SessionId(8)), &["read the end of tasks"]);
    check(w.see(Event::EndRead { bucket: Bucket::Tasks, read, end }), &[]);
    check(end_of_tasks(&mut w, 6), &["write t1@2: A at w1"]);
}

#[test]
fn a_leader_that_may_be_behind_is_asked_for_long() {
    let mut w = anew_with_a_worker(|config| config.server = None);
    load(&mut w);
    check(hello(&mut w, 5, SessionId(8)), &["read the end of tasks"]);
    check(end_of_tasks(&mut w, 2), &[]);
    let mut lines = Vec::new();
    let end = w.now + limit::LEADER_LAG_MAX;
    while w.now < end && lines.is_empty() {
        w.pass(ASK_AGAIN);
        w.renews("w1", 1, |_| ());
        w.watch_lease("w1");
        lines = end_of_tasks(&mut w, 2);
    }
    assert!(lines.contains(&"guard@0: raised".to_string()), "{lines:?}");
    assert!(w.now >= end);
}

#[test]
fn a_late_answer_of_a_leader_that_was_behind_is_no_loss() {
    let mut w = anew_with_a_worker(|config| config.server = None);
    load(&mut w);
    check(hello(&mut w, 5, SessionId(8)), &["read the end of tasks"]);
    // This master sleeps while the answer waits for it.
    w.now = w.now + limit::LEADER_LAG_MAX;
    let (lines, raised) = (end_of_tasks(&mut w, 2), "guard@0: raised".to_string());
    assert!(!lines.contains(&raised), "{lines:?}");
    let lines = end_of_tasks(&mut w, 2);
    assert!(lines.contains(&raised), "{lines:?}");
}

#[test]
fn a_master_that_begins_anew_does_not_ask_a_leader_for_as_long_again() {
    let mut w = anew_with_a_worker(|config| config.server = None);
    load(&mut w);
    hello(&mut w, 5, SessionId(8));
    let since = w.now;
    // Its lease ends before it knows, since it renews none meanwhile.
    w.pass(limit::LEADER_LAG_MAX / 2);
    let (memory, now) = (w.fleet.memory(), w.now);
    // A connection that breaks may lead to another leader.
    w.see(Event::RegistryDown);
    assert!(!memory.claims.is_empty() && w.fleet.memory().claims.is_empty());
    let mut w = anew_with_a_worker(|config| {
        (config.server, config.memory) = (None, memory);
    });
    w.now = now;
    load(&mut w);
    hello(&mut w, 5, SessionId(8));
    w.pass(limit::LEADER_LAG_MAX / 2);
    assert!(end_of_tasks(&mut w, 2).contains(&"guard@0: raised".to_string()));
    assert_eq!(w.now.since(since), limit::LEADER_LAG_MAX);
}

#[test]
fn what_this_process_knew_and_a_lease_under_which_an_attempt_was_given_are_compared() {
    let mut w = anew_with_a_worker(|_| ());
    let mut found = w.found();
    found.known.raise(Bucket::Modules, 9);
    check(w.see(Event::Loaded(found)), &["read the end of modules"]);
    let end = Mark { revision: 2, ..Mark::default() };
    let lines = end_of(&mut w, Bucket::Modules, end);
    check(lines, &["lease w1@1: Lost", "guard@0: raised"]);

    let seen = w.now;
    let mut w = anew_with_a_worker(|config| {
        config.memory.leases = [(name("w1"), (2, seen))].into();
    });
    check(load(&mut w), &["lease w1@1: Lost", "guard@0: raised"]);

    let mut w = anew_with_a_worker(|_| ());
    given_under(&mut w, SessionId(1), 8, StreamId::default());
    w.watch(1);
    check(load(&mut w), &["read the end of workers"]);
}

#[test]
fn a_lease_that_this_process_knew_and_that_may_be_over_for_long_is_not_missed() {
    let knew = |config: &mut Config, seen| {
        config.memory.leases = [(name("w2"), (1, seen))].into();
    };
    let mut w = anew(|config| knew(config, Time::ZERO));
    w.now = w.now + crate::limit::LEASE_KEEP / 2;
    assert!(!load(&mut w).contains(&"guard@0: raised".to_string()));
    let now = w.now;
    let mut w = anew(|config| knew(config, now));
    assert!(load(&mut w).contains(&"guard@0: raised".to_string()));
}

#[test]
fn the_guard_stands_until_one_master_has_waited_for_all_and_then_for_nobody() {
    let mut w = anew_with_a_worker(|_| ());
    load(&mut w);
    hello(&mut w, 5, SessionId(8));
    end_of_tasks(&mut w, 2);
    let raised = w.guard.clone().expect("it is being written");
    check(w.lease_ok("w1"), &[]);
    check(guard_ok(&mut w, &raised), &[]);
    w.join("w1", 2, 12, |_| ());
    // What is submitted meanwhile is stored, and waits.
    w.submit(7, vec![new_task(9, |_| ())]);
    check(w.ok(9), &["reply 7: Stored(1)"]);
    w.cancel(8, 9);
    w.ok(9);
    let end = w.now + OUTAGE + WAIT;
    while w.now + SECOND < end {
        check(w.pass(SECOND), &[]);
        w.renews("w1", 2, |_| ());
        check(w.watch_lease("w1"), &[]);
    }
    let lines = w.pass(SECOND);
    assert_eq!(lines, ["guard@4: lifted", "write t1@2: A at w1"], "{lines:?}");

    // A master that starts meanwhile is bound from the beginning, and is free once it is lifted.
    let mut w = anew_with_a_worker(|_| ());
    let revision = w.next();
    w.see(Event::GuardSeen(raised.clone(), revision));
    check(load(&mut w), &["lease w1@1: Lost"]);
    w.lease_ok("w1");
    w.join("w1", 2, 12, |_| ());
    check(w.pass(SECOND), &[]);
    let revision = w.next();
    let lifted = FailoverGuard { lifted: true, ..raised.clone() };
    check(w.see(Event::GuardSeen(lifted, revision)), &["write t1@2: A at w1"]);
}

/// The guard of another master.
fn guard_of_another() -> FailoverGuard {
    FailoverGuard {
        nonce: Nonce(3),
        raised_by: SessionId(9),
        lifted: false,
        tasks: Mark::default(),
        wait_ms: 60_000,
        reason: String::new(),
        raised_at: WallMillis(0),
        unknown: Default::default(),
    }
}

#[test]
fn a_guard_that_the_registry_has_lost_is_raised_again() {
    let guard = guard_of_another();
    let since = World::unloaded().now;
    let mut w = anew(|config| config.memory.guard = Some((guard.clone(), since)));
    check(load(&mut w), &["guard@0: raised"]);
    // It is found where it was: this process goes on counting from when it first saw it.
    let mut w = anew(|config| config.memory.guard = Some((guard.clone(), since)));
    w.now = since + SECOND * 30;
    let revision = w.next();
    w.see(Event::GuardSeen(guard, revision));
    check(load(&mut w), &[]);
    check(w.pass(SECOND * 30), &["guard@1: lifted"]);
}

#[test]
fn what_ran_before_a_guard_is_over_when_that_ends() {
    let mut w = anew_with_a_worker(|_| ());
    // The registry has lost that lease: its revision is given out again much later.
    given_under(&mut w, SessionId(6), 1_000, StreamId::default());
    w.watch(1);
    load(&mut w);
    let end = Mark { revision: 3, ..Mark::default() };
    end_of(&mut w, Bucket::Workers, end);
    let raised = w.guard.clone().expect("it is being written");
    guard_ok(&mut w, &raised);
    w.lease_ok("w1");
    let lines = w.pass(OUTAGE + WAIT + SECOND);
    assert!(lines.contains(&"write t1@3: queued".to_string()), "{lines:?}");
}

#[test]
fn a_home_that_the_masters_lack_is_waited_for() {
    let mut w = anew(|_| ());
    let home = Home { master: "m2".parse().expect("a name"), session: SessionId(9) };
    w.renews("w1", 1, |lease| lease.home = Some(home));
    w.watch_lease("w1");
    load(&mut w);
    check(w.pass(OUTAGE), &[]);
    assert!(!w.fleet.may_act());
}

#[test]
fn a_lease_that_was_written_before_this_session_and_is_shown_late_is_no_answer() {
    let mut w = anew_with_a_worker(|_| ());
    w.renews("w1", 1, |_| ());
    load(&mut w);
    w.watch_lease("w1");
    assert!(w.fleet.next_missing(w.now).is_some());
}

#[test]
fn a_lost_that_was_refused_by_what_is_known_is_written_again() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    check(w.pass(WAIT), &["lease w1@1: Lost"]);
    let (_, lease, _) = w.lease_writes.remove(&name("w1")).expect("it is being written");
    let known = w.leases[&name("w1")].clone();
    // Whoever answers is behind: what was met must be newer than this.
    let answer = CasAnswer::Conflict(Some(known));
    check(w.see(Event::LeaseWritten { lease, asked_by: None, answer }), &[]);
    check(w.pass(ASK_AGAIN), &["lease w1@1: Lost"]);
}

#[test]
fn a_revision_of_a_stream_that_is_no_more_is_not_waited_for() {
    let mut w = World::new();
    w.join("w1", 1, 11, |_| ());
    let record = TaskRecord::queued(TaskId(1), Arc::new(spec()), WallMillis(0));
    w.cas(ABSENT, &record);
    given_under(&mut w, SessionId(6), 1_000, StreamId(9));
    w.watch(1);
    let end = w.now + OUTAGE + WAIT * 2;
    let mut lines = Vec::new();
    while w.now < end {
        lines.extend(w.pass(SECOND));
        w.renews("w1", 1, |_| ());
        lines.extend(w.watch_lease("w1"));
    }
    assert!(lines.iter().any(|line| line.ends_with("queued")), "{lines:?}");
}

/// A worker has an outcome of an attempt that the record does not name; one server of several answers.
fn inquired() -> World {
    let mut w = World::new();
    let mut config = config(7);
    config.server = None;
    w.fleet = Fleet::new(config);
    let record = TaskRecord::queued(TaskId(1), Arc::new(spec()), WallMillis(0));
    w.cas(ABSENT, &record);
    w.see(Event::Loaded(Loaded::default()));
    let key = AttemptKey { task: TaskId(1), attempt: AttemptId(5) };
    let finished =
        Event::Finished { worker: name("w1"), link: 11, key, revision: 9, outcome: failed() };
    check(w.see(finished), &["read t1"]);
    w
}

#[test]
fn a_late_answer_of_a_server_that_was_behind_refuses_no_outcome() {
    let (mut w, refused) = (inquired(), "link 11: refuse t1 A".to_string());
    // This master sleeps while the answer waits for it.
    w.now = w.now + limit::LEADER_LAG_MAX;
    let lines = w.read(1);
    assert!(!lines.contains(&refused), "{lines:?}");
    let lines = w.read(1);
    assert!(lines.contains(&refused), "it is lost: {lines:?}");
}

#[test]
fn a_server_that_may_be_behind_does_not_refuse_an_outcome() {
    let mut w = inquired();
    check(w.read(1), &[]);
    let end = w.now + limit::LEADER_LAG_MAX;
    let mut lines = Vec::new();
    while w.now < end {
        lines = w.pass(ASK_AGAIN);
        lines.extend(w.read(1));
    }
    assert!(lines.contains(&"link 11: refuse t1 A".to_string()), "it is lost: {lines:?}");
}

#[test]
fn no_task_is_written_while_a_stream_lags() {
    let mut w = World::new();
    let lags = |lags| Event::StreamLags { bucket: Bucket::Tasks, lags };
    w.see(lags(true));
    check(w.submit(1, vec![new_task(1, |_| ())]), &[]);
    let lines = w.see(lags(false));
    assert_eq!(lines, ["write t1@0: queued"]);
}
