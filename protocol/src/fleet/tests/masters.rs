//! Several masters: homes, ownership, and who declares whom.

use super::*;
use crate::{
    lease::{Home, MasterLease},
    task::PastAttempt,
};

pub(super) const MS: Duration = Duration::from_millis(1);
const OUTAGE: Duration = LeaseTiming::STANDARD.outage_wait();

pub(super) fn home(session: u64) -> Option<Home> {
    let master = if session == 7 { "m1" } else { "m2" };
    Some(Home { master: master.parse().expect("a name"), session: SessionId(session) })
}

/// A lease of another master.
fn lease_of(session: u64, renewal: u64, state: LeaseState) -> MasterLease {
    MasterLease {
        master: "m2".parse().expect("a name"),
        session: SessionId(session),
        renewal,
        state,
        wait_ms: 0,
        workers: 1,
        remembers: Vec::new(),
        vouches: None,
        connected_to: None,
        address: None,
        issues: false,
        renewed_at: WallMillis(0),
        unknown: Default::default(),
    }
}

impl World {
    /// The watch shows the lease of another master.
    fn master(&mut self, session: u64, renewal: u64, state: LeaseState) -> Vec<String> {
        let lease = lease_of(session, renewal, state);
        self.see(Event::MasterSeen(lease, renewal))
    }

    /// Another master renews every half second for so long; what this one does meanwhile.
    fn beside(&mut self, session: u64, from: u64, time: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        for step in 0..(time.as_millis() / 500) as u64 {
            lines.extend(self.master(session, from + step, LeaseState::Live));
            lines.extend(self.pass(MS * 500));
        }
        lines
    }
}

/// A task runs on a worker with this home.
pub(super) fn held(home: Option<Home>) -> World {
    let mut w = World::new();
    w.join("w1", 1, 11, |lease| lease.home = home);
    w.run(1, |_| ());
    w.pass(MS);
    w
}

#[test]
fn only_its_home_declares_a_worker_lost_as_long_as_that_may_live() {
    let mut own = held(home(7));
    assert!(own.pass(WAIT).contains(&"lease w1@1: Lost".to_string()));

    let mut other = held(home(9));
    check(other.beside(9, 1, SECOND * 20), &[]);
    // It falls silent: it is waited for, and then its workers are.
    check(other.pass(OUTAGE - MS * 502), &[]);
    check(other.pass(MS * 3), &["master 9@40: Lost"]);
    check(other.pass(WAIT * 3), &[]);
    check(other.master(9, 41, LeaseState::Lost), &[]);
    check(other.pass(WAIT - MS), &[]);
    check(other.pass(MS), &["lease w1@1: Lost"]);
}

#[test]
fn a_home_that_gave_its_lease_back_is_not_waited_for() {
    let mut w = held(home(9));
    w.beside(9, 1, SECOND * 20);
    check(w.master(9, 100, LeaseState::Released), &[]);
    check(w.pass(WAIT - MS), &[]);
    check(w.pass(MS), &["lease w1@1: Lost"]);
}

#[test]
fn a_home_that_nobody_has_seen_is_waited_for_as_long() {
    let mut w = held(home(9));
    check(w.pass(OUTAGE), &[]);
    check(w.pass(WAIT), &["master 9@0: Lost"]);
    check(w.pass(WAIT * 3), &[]);
    check(w.master(9, 41, LeaseState::Lost), &[]);
    check(w.pass(WAIT - MS), &[]);
    check(w.pass(MS), &["lease w1@1: Lost"]);
}

#[test]
fn a_home_that_a_late_watch_has_not_shown_is_not_over() {
    let mut w = held(home(9));
    check(w.pass(OUTAGE + WAIT), &["master 9@0: Lost"]);
    let lease = lease_of(9, 40, LeaseState::Live);
    let answer = CasAnswer::Conflict(Some((lease.clone(), 40)));
    check(w.see(Event::MasterWritten { lease, answer }), &[]);
    check(w.pass(OUTAGE - WAIT), &[]);
    check(w.pass(WAIT * 2), &["master 9@40: Lost"]);
}

#[test]
fn a_home_whose_lease_was_removed_is_declared_over_what_is_left_of_it() {
    let mut w = held(home(9));
    check(w.pass(OUTAGE + WAIT), &["master 9@0: Lost"]);
    let lease = lease_of(9, 0, LeaseState::Lost);
    check(w.see(Event::MasterWritten { lease, answer: CasAnswer::Gone(39) }), &[]);
    check(w.pass(OUTAGE + WAIT), &["master 9@39: Lost"]);
}

#[test]
fn a_read_from_before_its_own_lease_does_not_end_a_master() {
    let mut w = World::new();
    check(w.plan(), &[]);
    check(w.pass(SECOND), &[]);
    // Its first renewal was written with revision 1, and later ones after it.
    let refused = |renewal, answer| Event::MasterWritten {
        lease: lease_of(7, renewal, LeaseState::Live),
        answer,
    };
    check(w.see(refused(1, CasAnswer::Conflict(None))), &[]);
    check(w.see(refused(1, CasAnswer::Gone(1))), &[]);
    check(w.see(refused(u64::MAX, CasAnswer::Conflict(None))), &["begin anew"]);
}

#[test]
fn workers_of_a_home_that_an_earlier_session_saw_end_are_declared_lost() {
    let mut w = held(home(9));
    w.fleet.config.memory.over = [(SessionId(9), w.now)].into();
    check(w.pass(OUTAGE + WAIT), &["master 9@0: Lost"]);
    check(w.master(9, 41, LeaseState::Lost), &[]);
    check(w.pass(WAIT), &["lease w1@1: Lost"]);
}

#[test]
fn a_waiting_task_is_placed_by_its_owner_and_by_another_only_after_a_while() {
    let mut w = World::new();
    w.beside(9, 1, SECOND);
    // Many tasks that another master has stored: each has one owner.
    for id in 1..=40 {
        w.cas(ABSENT, &TaskRecord::queued(TaskId(id), Arc::new(spec()), WallMillis(0)));
        w.watch(id);
    }
    w.renews("w1", 1, |lease| lease.offer.slots = 40);
    w.watch_lease("w1");
    let at_once = w.link("w1", 1, 11, &[]).len();
    assert!((10..=30).contains(&at_once), "{at_once} of 40");
    w.beside(9, 20, SECOND);
    let after = w.beside(9, 30, SECOND * 2).len();
    assert_eq!(at_once + after, 40, "the other has left its own to wait");
}

#[test]
fn the_tasks_of_a_silent_master_are_taken_over() {
    let mut w = World::new();
    w.beside(9, 1, SECOND);
    for id in 1..=40 {
        w.cas(ABSENT, &TaskRecord::queued(TaskId(id), Arc::new(spec()), WallMillis(0)));
        w.watch(id);
    }
    w.renews("w1", 1, |lease| lease.offer.slots = 40);
    w.watch_lease("w1");
    let at_once = w.link("w1", 1, 11, &[]).len();
    assert_eq!(at_once + w.pass(crate::limit::PATIENCE + MS).len(), 40);
}

#[test]
fn what_another_master_has_given_out_is_sent_by_it_and_by_this_one_only_after_a_while() {
    let mut w = World::new();
    w.beside(9, 1, SECOND);
    w.join("w1", 1, 11, |_| ());
    let mut record = TaskRecord::queued(TaskId(1), Arc::new(spec()), WallMillis(0));
    record.writer = SessionId(9);
    record.state = TaskState::Dispatched(Attempt {
        id: AttemptId(1),
        number: 1,
        worker: name("w1"),
        session: SessionId(1),
        lease: 1,
        lease_stream: Default::default(),
        dispatched_at: WallMillis(0),
        alone: false,
        to_silent: false,
        unknown: Default::default(),
    });
    w.cas(ABSENT, &record);
    check(w.watch(1), &[]);
    check(w.beside(9, 10, MS * 1_500), &[]);
    check(w.beside(9, 20, SECOND), &["link 11: dispatch t1 A"]);
}

#[test]
fn when_most_workers_fall_silent_at_once_none_is_declared_for_a_while() {
    let mut w = World::new();
    for number in 1..=4 {
        w.join(&format!("w{number}"), number, 10 + number, |_| ());
    }
    w.pass(SECOND * 3);
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    check(w.pass(SECOND * 2), &[]);
    assert!(w.news().contains(&"failover m1 held".to_string()));
    // One comes back: half is not over half.
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    w.renews("w2", 2, |_| ());
    w.watch_lease("w2");
    let lines = w.pass(SECOND);
    check(lines, &["lease w3@3: Lost", "lease w4@4: Lost"]);
}

#[test]
fn workers_that_fell_silent_together_need_not_have_renewed_together() {
    let mut w = World::new();
    for number in 1..=5 {
        w.join(&format!("w{number}"), number, 10 + number, |_| ());
    }
    // One a fifth of a second; then only the first goes on.
    for number in 1..=5 {
        w.pass(MS * 200);
        w.renews(&format!("w{number}"), number, |_| ());
        w.watch_lease(&format!("w{number}"));
    }
    for _ in 0..6 {
        check(w.pass(SECOND), &[]);
        w.renews("w1", 1, |_| ());
        w.watch_lease("w1");
    }
    assert!(w.news().contains(&"failover m1 held".to_string()));
}

#[test]
fn half_a_fleet_that_stays_silent_is_lost_in_the_end() {
    let mut w = World::new();
    for number in 1..=4 {
        w.join(&format!("w{number}"), number, 10 + number, |_| ());
    }
    check(w.pass(WAIT + crate::limit::MASS_SILENCE_MAX - MS), &[]);
    assert_eq!(w.pass(SECOND).len(), 4);
}

#[test]
fn whoever_declares_a_worker_lost_moves_its_tasks_at_once() {
    for watch_is_quicker in [false, true] {
        let mut w = World::new();
        w.beside(9, 1, SECOND);
        w.join("w1", 1, 11, |_| ());
        w.run(1, |_| ());
        let lines = w.beside(9, 10, WAIT + SECOND);
        assert!(lines.iter().any(|line| line.ends_with("Lost")), "{lines:?}");
        let (_, lease, asked_by) = w.lease_writes.remove(&name("w1")).expect("it is written");
        let revision = w.next();
        w.leases.insert(name("w1"), (lease.clone(), revision));
        if watch_is_quicker {
            w.watch_lease("w1");
        }
        let answer = CasAnswer::Written(revision);
        let lines = w.see(Event::LeaseWritten { lease, asked_by, answer });
        assert!(lines.iter().any(|line| line.ends_with("queued")), "{lines:?}");
    }
}

#[test]
fn what_another_master_does_not_move_is_moved_after_a_while_though_the_worker_is_back() {
    let mut w = World::new();
    w.beside(9, 1, SECOND);
    w.join("w1", 1, 11, |_| ());
    let ids: Vec<u128> = (1..=40).collect();
    let other = *ids.iter().find(|&&id| !w.fleet.is_mine(TaskId(id))).expect("one of forty");
    w.run(other, |_| ());
    let mut lines = Vec::new();
    for renewal in 0..6 {
        w.renews("w1", 2, |lease| lease.succeeds = vec![SessionId(1)]);
        lines.extend(w.watch_lease("w1"));
        lines.extend(w.beside(9, 10 + renewal, MS * 500));
    }
    assert!(lines.iter().any(|line| line.ends_with("queued")), "{lines:?}");
}

#[test]
fn a_session_that_another_master_has_found_lost_is_given_nothing_though_its_lease_seems_held() {
    let mut w = World::new();
    w.beside(9, 1, SECOND);
    w.join("w1", 1, 11, |_| ());
    w.run(1, |_| ());
    // This master's watch of the leases is behind; its watch of the tasks is not.
    w.other_writes(1, |record| {
        let attempt = record.attempt().cloned().expect("it is dispatched");
        let (ended_at, reason) = (WallMillis(0), String::from("worker w1 was lost"));
        record.push_history(PastAttempt { attempt, ended_at, lost: true, reason });
        record.state = TaskState::queued_for(Duration::ZERO);
    });
    check(w.watch(1), &[]);
    check(w.beside(9, 10, SECOND), &[]);
    check(w.run(2, |_| ()), &["reply 102: Stored(1)"]);
    // The next session of the worker is given tasks again.
    w.renews("w1", 2, |lease| lease.succeeds = vec![SessionId(1)]);
    w.watch_lease("w1");
    check(w.link("w1", 2, 12, &[]), &["write t2@4: B at w1"]);
}

#[test]
fn a_much_more_urgent_task_takes_the_place_of_the_least_urgent_run() {
    let mut w = World::new();
    w.join("w1", 1, 11, |lease| lease.offer.slots = 2);
    w.run(1, |spec| spec.priority = 20);
    w.run(2, |spec| spec.priority = 30);
    let lines = w.run(3, |spec| spec.priority = 35);
    check(lines, &["reply 103: Stored(1)", "link 11: preempt t1 A"]);
    check(w.pass(MS), &[]);
    let back = Outcome::bare(Verdict::Returned { reason: String::new() });
    check(w.finish("w1", 11, w.key(1, 'A'), back), &["write t1@2: queued", "write t3@4: C at w1"]);
    let lines = w.ok(1);
    assert!(lines.contains(&"link 11: ack t1 A".to_string()), "{lines:?}");
    assert_eq!(w.tasks[&TaskId(1)].0.failures, 0);
    // A neighbour in priority does not push.
    check(w.run(4, |spec| spec.priority = 39), &["reply 104: Stored(1)"]);
}

#[test]
fn room_that_was_made_for_another_masters_urgent_task_is_left_to_it_for_a_while() {
    let mut w = World::new();
    w.beside(9, 1, SECOND);
    // The worker makes this master able to give work, and so to own any.
    w.join("w1", 1, 11, |lease| lease.offer.slots = 1);
    let ids: Vec<u128> = (1..=40).collect();
    let mine = *ids.iter().find(|&&id| w.fleet.is_mine(TaskId(id))).expect("one of forty");
    let other = *ids.iter().find(|&&id| !w.fleet.is_mine(TaskId(id))).expect("one of forty");
    w.unlink("w1", 11);
    for (id, priority) in [(mine, 20), (other, 70)] {
        let mut spec = spec();
        spec.priority = priority;
        w.cas(ABSENT, &TaskRecord::queued(TaskId(id), Arc::new(spec), WallMillis(0)));
        w.watch(id);
    }
    check(w.link("w1", 1, 12, &[]), &[]);
    check(w.beside(9, 20, SECOND), &[]);
    let lines = w.beside(9, 30, SECOND * 2);
    assert!(lines.len() == 1 && lines[0].starts_with(&format!("write t{other}@")), "{lines:?}");
}

#[test]
fn masters_that_share_a_server_choose_different_ones_when_it_fails() {
    let mut w = World::new();
    let connected = |w: &mut World, session, to: &str| {
        let mut lease = lease_of(session, session, LeaseState::Live);
        lease.connected_to = Some(ServerId(to.into()));
        w.see(Event::MasterSeen(lease, session));
    };
    assert!(w.fleet.servers_of_others().is_empty());
    // This master has session 7, and is connected to `server`.
    connected(&mut w, 5, "server");
    connected(&mut w, 9, "server");
    connected(&mut w, 10, "another");
    let names = ["another", "server"].map(|name| ServerId(name.into()));
    assert_eq!(w.fleet.servers_of_others(), names.into());
    assert_eq!(w.fleet.sharers_before(), 1, "session 5 chooses before this one");
    w.pass(OUTAGE);
    assert!(w.fleet.servers_of_others().is_empty(), "they are silent");
}
