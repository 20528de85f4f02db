//! Known failures and rules as scripted worlds, in which only the faults of the script happen. Each
//! script runs with several seeds.

use muster_protocol::{lease::LeaseState, message::WorkerCommand, task::TaskState};
use muster_sim::{
    fault::Fault,
    network::Peer,
    setting::Setting,
    world::{MS, SECOND, SimEvent, World},
};

/// Runs a script with five seeds; none may violate an invariant.
fn play(change: impl Fn(&mut Setting), script: impl Fn(&mut World)) {
    for seed in 1..=5 {
        let mut world = World::calm(seed, &change);
        script(&mut world);
        let broken = world.violation.clone();
        assert!(broken.is_none(), "seed {seed}: {broken:?}");
    }
}

/// Submits one task and waits until it runs. Returns the index of its worker.
fn one_runs(world: &mut World) -> usize {
    world.will_submit(3 * SECOND, 1, |_| ());
    world.play_until(5 * SECOND);
    assert_eq!(world.running(1), 1);
    world.given_to(1).expect("it runs somewhere")
}

/// Lets simulated time pass.
fn pass(world: &mut World, seconds: u64) {
    world.play_until(world.now + seconds * SECOND);
}

fn attempts(world: &World, task: u128) -> u32 {
    world.record(task).map_or(0, |record| record.attempts)
}

#[test]
fn a_worker_that_loses_the_registry_renews_through_a_master() {
    play(
        |_| (),
        |world| {
            let worker = one_runs(world);
            world.strike(Fault::CutBoth(Peer::Worker(worker), Peer::Registry, 60 * SECOND));
            pass(world, 15);
            assert!(world.completed(1));
            assert_eq!((attempts(world, 1), world.counters.lost), (1, 0));
        },
    );
}

#[test]
fn a_worker_that_loses_the_masters_too_is_dead_before_another_may_start() {
    play(
        |setting| setting.run_lasts = Some(30 * SECOND),
        |world| {
            let worker = one_runs(world);
            world.strike(Fault::Isolate(worker, 60 * SECOND));
            world.play_until(world.now + 4_400 * MS);
            let runs = &world.workers[worker].runs;
            assert!(runs.is_empty(), "dead by the end of the lease and the kill margin");
            pass(world, 3);
            assert_eq!((attempts(world, 1), world.running(1)), (2, 1));
            assert_ne!(world.given_to(1), Some(worker));
        },
    );
}

#[test]
fn a_worker_that_reconnects_begins_a_session_that_is_empty() {
    play(
        |setting| setting.run_lasts = Some(30 * SECOND),
        |world| {
            let worker = one_runs(world);
            let before = world.workers[worker].lease_loop.session();
            world.strike(Fault::Isolate(worker, 10 * SECOND));
            pass(world, 15);
            assert_ne!(world.workers[worker].lease_loop.session(), before);
            assert!(world.workers[worker].runs.is_empty());
            assert_eq!((world.counters.lapsed, world.running(1)), (1, 1));
        },
    );
}

#[test]
fn a_worker_that_reaches_the_registry_but_no_master_goes_on_and_delivers_later() {
    play(
        |_| (),
        |world| {
            let worker = one_runs(world);
            for master in 0..2 {
                world.strike(Fault::CutBoth(
                    Peer::Worker(worker),
                    Peer::Master(master),
                    25 * SECOND,
                ));
            }
            pass(world, 20);
            assert!(!world.completed(1) && world.running(1) == 0, "the outcome is held");
            pass(world, 10);
            assert!(world.completed(1));
            assert_eq!((attempts(world, 1), world.counters.lost), (1, 0));
        },
    );
}

#[test]
fn a_healthy_run_survives_an_outage_of_the_registry() {
    play(
        |setting| setting.run_lasts = Some(45 * SECOND),
        |world| {
            world.will_submit(3 * SECOND, 6, |_| ());
            world.play_until(5 * SECOND);
            assert_eq!(world.counters.runs, 6);
            world.strike(Fault::Outage(30 * SECOND));
            world.will_submit(10 * SECOND, 1, |_| ());
            pass(world, 29);
            assert_eq!((1..=6).map(|task| world.running(task)).sum::<usize>(), 6);
            assert_eq!(attempts(world, 7), 0, "nothing is given out meanwhile");
            pass(world, 90);
            assert!((1..=7).all(|task| world.completed(task)));
            assert_eq!(
                (world.counters.runs, world.counters.lost, world.counters.lapsed),
                (7, 0, 0)
            );
            assert!(world.counters.leases_extended > 0);
        },
    );
}

#[test]
fn masters_that_fail_each_other_over_at_the_same_time_make_one_copy() {
    play(
        |setting| (setting.masters, setting.run_lasts) = (3, Some(20 * SECOND)),
        |world| {
            let worker = one_runs(world);
            for master in 0..3 {
                world.strike(Fault::Stop(Peer::Master(master), 6 * SECOND));
            }
            world.strike(Fault::Crash(Peer::Worker(worker), 60 * SECOND));
            pass(world, 60);
            assert!(world.completed(1));
            assert_eq!((world.counters.outcomes, world.counters.runs), (1, 2));
        },
    );
}

#[test]
fn a_master_that_loses_the_registry_gives_nothing_out_and_lists_again() {
    play(
        |_| (),
        |world| {
            one_runs(world);
            world.strike(Fault::CutBoth(Peer::Master(0), Peer::Registry, 15 * SECOND));
            world.will_submit(7 * SECOND, 3, |_| ());
            pass(world, 40);
            assert!((1..=4).all(|task| world.completed(task)));
            assert_eq!((world.counters.runs, world.counters.lost), (4, 0));
            assert_eq!(world.counters.master_sessions, 3);
        },
    );
}

#[test]
fn a_dispatch_that_does_not_arrive_is_said_again_to_the_same_worker() {
    play(
        |setting| setting.workers = 1,
        |world| {
            world.play_until(3 * SECOND);
            let links: Vec<_> = world.network.links.keys().copied().collect();
            for link in links {
                world.strike(Fault::LinkBreaks(link));
            }
            world.will_submit(world.now, 1, |_| ());
            pass(world, 20);
            assert!(world.completed(1));
            assert_eq!((attempts(world, 1), world.counters.runs), (1, 1));
        },
    );
}

#[test]
fn lost_is_written_first_and_gates_everything() {
    play(
        |_| (),
        |world| {
            let worker = one_runs(world);
            world.strike(Fault::Crash(Peer::Worker(worker), 60 * SECOND));
            let mut steps = 0;
            while attempts(world, 1) == 1 && steps < 10_000 {
                let taken = world.given_to(1).is_none();
                assert!(!taken || world.standing(worker) == Some(LeaseState::Lost));
                world.play_until(world.now + MS);
                steps += 1;
            }
            assert_eq!(attempts(world, 1), 2);
            assert_eq!(world.standing(worker), Some(LeaseState::Lost));
        },
    );
}

#[test]
fn clocks_that_disagree_by_years_decide_nothing() {
    play(
        |_| (),
        |world| {
            let worker = one_runs(world);
            let (begun, least) = (world.now, 3_400 * MS);
            world.strike(Fault::Crash(Peer::Worker(worker), 60 * SECOND));
            while world.counters.lost == 0 && world.now < begun + 60 * SECOND {
                world.play_until(world.now + 10 * MS);
            }
            let took = world.now - begun;
            assert!((least..5 * SECOND).contains(&took), "{took}");
        },
    );
}

#[test]
fn a_late_result_of_an_old_run_is_refused() {
    play(
        |setting| setting.run_lasts = Some(4 * SECOND),
        |world| {
            let worker = one_runs(world);
            world.strike(Fault::Isolate(worker, 20 * SECOND));
            pass(world, 30);
            assert!(world.completed(1));
            assert_eq!((attempts(world, 1), world.counters.outcomes), (2, 1));
            assert!(world.counters.refused >= 1, "it is told so");
        },
    );
}

#[test]
fn a_task_whose_group_has_no_healthy_worker_waits_and_says_why() {
    play(
        |_| (),
        |world| {
            world.play_until(3 * SECOND);
            for worker in 0..3 {
                world.strike(Fault::Isolate(worker, 20 * SECOND));
            }
            world.play_until(12 * SECOND);
            world.will_submit(world.now, 1, |_| ());
            pass(world, 5);
            let record = world.record(1).expect("it is stored").clone();
            assert!(matches!(record.state, TaskState::Queued { .. }));
            assert!(world.counters.groups_empty > 0);
            let current = world.masters[0].current.as_ref().expect("it is up");
            let clock = world.machines[world.masters[0].process.machine].clock(world.now);
            let why = current.fleet.explain(clock, &record);
            assert!(why.contains("no worker of group"), "{why}");
            pass(world, 30);
            assert!(world.completed(1));
        },
    );
}

#[test]
fn when_a_master_and_its_worker_die_at_once_the_other_master_takes_over() {
    play(
        |_| (),
        |world| {
            let worker = one_runs(world);
            let lease = world.registry.workers.get(&world.workers[worker].name);
            let home = lease.and_then(|(lease, _)| lease.home).expect("it has a home");
            let master = world.masters.iter().position(|master| master.name == home.master);
            let master = master.expect("it is one of them");
            world.strike(Fault::Crash(Peer::Master(master), 300 * SECOND));
            world.strike(Fault::Crash(Peer::Worker(worker), 300 * SECOND));
            pass(world, 55);
            assert_eq!(attempts(world, 1), 1, "the home is waited for");
            pass(world, 35);
            assert!(world.completed(1));
            assert_eq!((attempts(world, 1), world.counters.masters_lost), (2, 1));
        },
    );
}

#[test]
fn a_drained_worker_finishes_what_it_can_and_gives_the_rest_back() {
    play(
        |setting| setting.run_lasts = Some(10 * SECOND),
        |world| {
            let worker = one_runs(world);
            let order = WorkerCommand::Drain { deadline_ms: 2_000 };
            for _ in 0..3 {
                world.strike(Fault::Order(worker, order));
            }
            pass(world, 5);
            assert_eq!(world.standing(worker), Some(LeaseState::Draining));
            assert!(world.workers[worker].runs.is_empty() && world.counters.obeyed > 0);
            pass(world, 15);
            assert!(world.completed(1));
            assert_eq!((attempts(world, 1), world.counters.lost), (2, 0));
        },
    );
}

#[test]
fn an_urgent_task_takes_the_place_of_a_run_that_is_not() {
    play(
        |_| (),
        |world| {
            world.will_submit(3 * SECOND, 6, |spec| spec.priority = 20);
            world.will_submit(5 * SECOND, 1, |spec| spec.priority = 90);
            world.play_until(8 * SECOND);
            assert_eq!(world.running(7), 1);
            assert_eq!(world.counters.returned, 1);
            pass(world, 40);
            assert!((1..=7).all(|task| world.completed(task)));
        },
    );
}

#[test]
fn when_masters_find_most_of_the_fleet_silent_at_once_nobody_is_declared_lost() {
    play(
        |setting| (setting.workers, setting.run_lasts) = (5, Some(2 * SECOND)),
        |world| {
            world.play_until(3 * SECOND);
            for worker in 0..4 {
                world.at(4 * SECOND, SimEvent::Strike(Fault::Isolate(worker, 25 * SECOND)));
            }
            world.at(4 * SECOND, SimEvent::Strike(Fault::Outage(3 * SECOND)));
            world.play_until(25 * SECOND);
            assert!(world.counters.held > 0);
            assert_eq!(world.counters.lost, 0);
        },
    );
}

#[test]
fn a_worker_that_says_that_it_is_unwell_is_spared_until_it_is_well() {
    play(
        |setting| (setting.workers, setting.run_lasts) = (2, Some(SECOND)),
        |world| {
            world.strike(Fault::Unwell(0, 30 * SECOND, true));
            // The worker notices the shortage at its first probe, without a task.
            for seconds in [5, 10, 15, 20] {
                world.will_submit(seconds * SECOND, 2, |_| ());
            }
            world.play_until(29 * SECOND);
            assert!((1..=8).all(|task| world.completed(task)));
            assert_eq!(world.counters.returned, 0);
            pass(world, 6);
            world.will_submit(world.now, 4, |_| ());
            pass(world, 1);
            assert_eq!(world.workers[0].runs.len(), 2, "it is used again");
            assert_eq!((world.counters.told_unwell, world.counters.told_well), (1, 1));
        },
    );
}
