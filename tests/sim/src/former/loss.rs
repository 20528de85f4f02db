//! Scripts in which the registry loses writes or a stream, or seems to lose them.

use super::{attempts, cut_from_masters, one_runs, pass};
use crate::{
    fault::Fault,
    network::Peer,
    world::{MS, SECOND, World},
};

/// The registry loses the record of a second attempt. The worker that runs it reaches the registry but
/// no master.
pub(super) fn a_cut_off_worker(world: &mut World) {
    let first = one_runs(world);
    let before = world.now;
    world.strike(Fault::Crash(Peer::Worker(first), 300 * SECOND));
    while attempts(world, 1) == 1 || world.running(1) == 0 {
        assert!(world.now < before + 20 * SECOND, "another attempt runs soon");
        pass(world, 10 * MS);
    }
    let second = world.given_to(1).expect("it runs somewhere");
    cut_from_masters(world, second, 170 * SECOND);
    pass(world, 5 * SECOND);
    world.roll_back([None, None, Some(before)]);
    // After the crash no master knows of the second attempt.
    for master in 0..world.masters.len() {
        world.strike(Fault::Crash(Peer::Master(master), SECOND));
    }
    pass(world, 160 * SECOND);
    assert!(world.counters.guards > 0, "the worker's lease says what it holds");
    pass(world, 120 * SECOND);
    assert_eq!(world.running(1), 1);
}

/// A master starts while a failover guard stands that another master has raised.
pub(super) fn a_fresh_master(world: &mut World) {
    one_runs(world);
    world.roll_back([None, None, Some(4 * SECOND / 2)]);
    pass(world, 5 * SECOND);
    assert_eq!(world.counters.guards, 1);
    for master in 0..world.masters.len() {
        world.strike(Fault::Crash(Peer::Master(master), 2 * SECOND));
    }
    pass(world, 5 * SECOND);
    world.will_submit(world.now, 3, |_| ());
    pass(world, 45 * SECOND);
    assert!((2..=4).all(|task| world.record(task).is_some() && attempts(world, task) == 0));
    pass(world, 120 * SECOND);
    assert!((2..=4).all(|task| world.completed(task)));
}

/// The connection breaks a second time before the new session has read the registry.
pub(super) fn two_breaks(world: &mut World) {
    one_runs(world);
    let incarnations = world.counters.master_sessions;
    world.flap(Peer::Master(0));
    pass(world, MS / 10);
    while !world.masters[0].connection.up {
        pass(world, MS / 10);
    }
    world.flap(Peer::Master(0));
    pass(world, 20 * SECOND);
    assert_eq!((world.counters.master_sessions, world.counters.rewound), (incarnations + 2, 0));
    assert!(world.completed(1));
    assert_eq!(attempts(world, 1), 1);
}

/// The workers' leases are gone; the masters have to wait for every worker that may run something.
pub(super) fn a_bucket_made_anew(world: &mut World) {
    let worker = one_runs(world);
    world.strike(Fault::MakeAnew(0));
    cut_from_masters(world, worker, 60 * SECOND);
    pass(world, 200 * SECOND);
    assert!(world.counters.guards > 0);
    assert_eq!((attempts(world, 1), world.running(1)), (2, 1));
}

/// The task records are gone; every old run has to end before a new one starts.
pub(super) fn the_tasks_made_anew(world: &mut World) {
    one_runs(world);
    world.strike(Fault::MakeAnew(2));
    pass(world, 5 * SECOND);
    world.will_submit(world.now, 3, |_| ());
    while world.running(2) == 0 {
        assert!(world.now < 120 * SECOND, "the guard ends");
        pass(world, 10 * MS);
    }
    assert!(world.counters.guards > 0 && world.running(1) == 0);
    pass(world, 60 * SECOND);
    assert!((2..=4).all(|task| world.completed(task)));
}

/// The sessions of one master process follow each other so fast that none of them reads the registry.
/// Its server starts again.
pub(super) fn many_reconnects(world: &mut World) {
    one_runs(world);
    world.registry.server += 1;
    world.strike(Fault::Outage(5 * SECOND));
    pass(world, 6 * SECOND);
    for _ in 0..12 {
        for master in 0..world.masters.len() {
            world.flap(Peer::Master(master));
        }
        pass(world, 130 * MS);
    }
    pass(world, 3 * SECOND);
    world.will_submit(world.now, 3, |_| ());
    pass(world, 20 * SECOND);
    assert!((2..=4).all(|task| world.completed(task)), "nobody waits for their earlier sessions");
}
