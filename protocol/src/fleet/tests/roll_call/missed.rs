//! Leases that a process knew and that a cluster does not show. Never on one server, which shows what it has.

use super::*;

/// A session on a cluster, of a process that knew a later lease of `w1` than is shown.
fn anew_on_a_replica_that_is_behind(memory: Memory) -> World {
    let seen = World::unloaded().now;
    anew_with_a_worker(|config| {
        config.server = None;
        config.memory = Memory { leases: [(name("w1"), (3, seen))].into(), ..memory };
    })
}

#[test]
fn a_replica_that_shows_an_older_lease_for_a_while_is_no_loss() {
    let mut w = anew_on_a_replica_that_is_behind(Memory::default());
    check(load(&mut w), &[]);
    w.pass(SECOND);
    assert!(!w.fleet.may_answer() && !w.fleet.may_act(), "it may be a loss");
    w.renews("w1", 1, |_| ());
    w.watch_lease("w1");
    assert!(w.fleet.may_answer());
    w.pass(limit::LEADER_LAG_MAX);
    assert!(!w.news().contains(&"registry m1 rewound".to_string()));
}

#[test]
fn a_lease_that_no_leader_shows_any_more_is_a_loss_also_for_the_next_session() {
    let raised = "guard@0: raised".to_string();
    let mut w = anew_on_a_replica_that_is_behind(Memory::default());
    load(&mut w);
    let lines = w.pass(limit::LEADER_LAG_MAX - SECOND);
    assert!(!lines.contains(&raised), "{lines:?}");
    // It is declared lost meanwhile, and goes on with the wait of the session before.
    let mut own = w.fleet.masters().remove(0);
    own.state = LeaseState::Lost;
    check(w.see(Event::MasterSeen(own, 1_000)), &["begin anew"]);
    w.see(Event::RegistryDown);
    let (memory, now) = (w.fleet.memory(), w.now);
    let mut w = anew_on_a_replica_that_is_behind(memory.clone());
    w.now = now;
    load(&mut w);
    let lines = w.pass(SECOND);
    assert!(lines.contains(&raised), "{lines:?}");
    // A connection that breaks may lead to another leader; what is missed stays known.
    w = anew_on_a_replica_that_is_behind(Memory::default());
    load(&mut w);
    w.see(Event::RegistryDown);
    assert_eq!(w.fleet.memory(), Memory { missed_since: None, ..memory });
}

#[test]
fn the_guard_of_another_master_covers_a_missed_lease() {
    let mut w = anew_on_a_replica_that_is_behind(Memory::default());
    load(&mut w);
    let revision = w.next();
    check(w.see(Event::GuardSeen(guard_of_another(), revision)), &["lease w1@1: Lost"]);
    w.lease_ok("w1");
    let lines = w.pass(limit::LEADER_LAG_MAX * 2);
    assert!(lines.iter().all(|line| !line.starts_with("guard")), "{lines:?}");
}
