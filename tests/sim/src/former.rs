//! Failures that once were real, each as a named script, with the mutants that bring it back. Never
//! injects a fault that the script does not name. Each script runs with a few seeds.

mod loss;

use crate::{
    checker::Violation,
    fault::Fault,
    network::{LinkId, Peer},
    play::caught,
    setting::Setting,
    world::{MS, Nanos, SECOND, SimEvent, World},
};
use muster_protocol::{TaskId, lease::LeaseState};

/// A script.
#[derive(Clone, Copy, Debug)]
pub struct Former {
    /// The name of the script: what must hold.
    pub name: &'static str,
    /// The mutants with which it does not hold; none if several rules together prevent the failure, so that it
    /// takes more than one mutant.
    pub mutants: &'static [&'static str],
    setting: fn(&mut Setting),
    script: fn(&mut World),
}

/// Every script.
pub const FORMER: &[Former] = &[
    Former {
        name: "a-loss-is-noticed-by-a-worker-that-reaches-no-master",
        mutants: &["a-worker-does-not-say-what-it-holds"],
        setting: |setting| {
            (setting.run_lasts, setting.keeps_disk) = (Some(300 * SECOND), false);
        },
        script: loss::a_cut_off_worker,
    },
    Former {
        name: "a-master-that-starts-during-a-guard-waits-for-its-end",
        mutants: &["a-guard-is-not-waited-for", "a-guard-binds-who-raised-it-alone"],
        setting: |setting| setting.keeps_disk = false,
        script: loss::a_fresh_master,
    },
    Former {
        name: "a-connection-that-breaks-twice-raises-no-guard",
        mutants: &["what-was-sent-counts-as-acknowledged"],
        setting: |_| (),
        script: loss::two_breaks,
    },
    Former {
        name: "a-read-that-began-before-an-attempt-refuses-nothing",
        mutants: &[],
        setting: |setting| (setting.timeout, setting.run_lasts) = (60 * SECOND, Some(60 * SECOND)),
        script: a_late_read,
    },
    Former {
        name: "a-dispatch-that-is-later-than-the-memory-goes-back",
        mutants: &["a-forgotten-attempt-may-run-again"],
        setting: |setting| small_memory(setting),
        script: |world| a_late_dispatch(world, false),
    },
    Former {
        name: "a-dispatch-that-is-later-than-its-revocation-goes-back",
        mutants: &["a-revoked-attempt-leaves-no-trace"],
        setting: |setting| small_memory(setting),
        script: |world| a_late_dispatch(world, true),
    },
    Former {
        name: "a-task-moves-from-a-worker-that-can-get-nothing-ready",
        mutants: &[
            "what-cannot-be-fetched-is-tried-for-ever",
            "a-worker-that-returns-attempts-gets-no-backoff",
        ],
        setting: |setting| (setting.workers, setting.run_lasts) = (2, Some(SECOND)),
        script: an_unwell_worker,
    },
    Former {
        name: "workers-go-on-when-their-bucket-is-made-anew",
        mutants: &["a-guard-is-not-waited-for"],
        setting: |setting| setting.run_lasts = Some(180 * SECOND),
        script: loss::a_bucket_made_anew,
    },
    Former {
        name: "tasks-that-were-lost-run-no-longer-when-others-begin",
        mutants: &["what-is-claimed-is-not-compared"],
        setting: |setting| setting.run_lasts = Some(20 * SECOND),
        script: loss::the_tasks_made_anew,
    },
    Former {
        name: "an-outage-with-many-reconnects-keeps-the-proof",
        mutants: &["a-process-does-not-remember-its-sessions"],
        setting: |_| (),
        script: loss::many_reconnects,
    },
    Former {
        name: "a-loss-of-a-worker-that-is-refused-is-written-again",
        mutants: &[],
        setting: |setting| {
            (setting.workers, setting.cluster, setting.keeps_disk) = (1, true, false);
            setting.run_lasts = Some(40 * SECOND);
        },
        script: a_refused_loss,
    },
    Former {
        name: "a-master-that-waits-longer-is-waited-for",
        mutants: &["the-waits-of-other-masters-are-not-asked-for"],
        setting: |setting| {
            (setting.last_outage, setting.run_lasts) = (Some(120 * SECOND), Some(200 * SECOND));
        },
        script: a_longer_wait,
    },
];

impl Former {
    /// Runs the script with five seeds. Returns the first violation, if there is one.
    pub fn play(&self, told: bool) -> Option<Violation> {
        (1..=5).find_map(|seed| {
            caught(|| {
                let mut world = World::calm(seed, self.setting);
                world.told = told;
                (self.script)(&mut world);
                world
            })
            .1
        })
    }
}

/// Submits a task and waits until it runs, which takes at most two seconds. Returns the index of its
/// worker.
fn one_runs(world: &mut World) -> usize {
    one_runs_from(world, 3 * SECOND)
}

fn one_runs_from(world: &mut World, submitted: Nanos) -> usize {
    world.will_submit(submitted, 1, |_| ());
    world.play_until(submitted + 2 * SECOND);
    assert_eq!(world.running(1), 1);
    world.given_to(1).expect("it runs somewhere")
}

fn pass(world: &mut World, lasts: Nanos) {
    world.play_until(world.now + lasts);
}

fn attempts(world: &World, task: u128) -> u32 {
    world.record(task).map_or(0, |record| record.attempts)
}

/// The index of the master that wrote a task's record last.
fn writer_of(world: &World, task: u128) -> usize {
    let writer = world.record(task).expect("it is stored").writer;
    let of = |session| world.masters.iter().position(|master| master.session() == Some(session));
    of(writer).expect("it is one of them")
}

fn links_between(world: &World, worker: usize, master: usize) -> Vec<LinkId> {
    let ends = world.workers[worker].links.iter();
    ends.filter(|(_, end)| end.master == master).map(|(&link, _)| link).collect()
}

fn cut_from_masters(world: &mut World, worker: usize, lasts: Nanos) {
    for master in 0..world.masters.len() {
        world.strike(Fault::CutBoth(Peer::Worker(worker), Peer::Master(master), lasts));
    }
}

fn small_memory(setting: &mut Setting) {
    (setting.workers, setting.over_max, setting.run_lasts) = (1, 4, Some(SECOND / 2));
}

/// Master `other` reads the record while it names the first attempt. The answer arrives after a second
/// attempt has ended, of which that master does not know.
fn a_late_read(world: &mut World) {
    // The masters compared the end of the stream just before this. They replace the watches ten seconds
    // later.
    for master in 0..2 {
        world.at(5_100 * MS, SimEvent::Strike(Fault::WatchStalls(master, 2, 60 * SECOND)));
    }
    let first = one_runs_from(world, 5_500 * MS);
    let (author, other) = (writer_of(world, 1), 1 - writer_of(world, 1));
    world.strike(Fault::ReadsLate(other, 7 * SECOND));
    for link in links_between(world, first, other) {
        world.strike(Fault::LinkBreaks(link));
    }
    // Its `Hello` names an attempt that the other master does not know.
    pass(world, 3 * SECOND);
    world.setting.run_lasts = Some(SECOND);
    world.strike(Fault::StopAsked(Peer::Worker(first)));
    while world.running(1) == 0 || attempts(world, 1) == 1 {
        assert!(world.now < 20 * SECOND, "another attempt runs soon");
        pass(world, 10 * MS);
    }
    let second = world.given_to(1).expect("it runs somewhere");
    world.strike(Fault::CutBoth(Peer::Worker(second), Peer::Master(author), 20 * SECOND));
    pass(world, 30 * SECOND);
    assert!(world.completed(1));
    assert_eq!(attempts(world, 1), 2);
}

/// A dispatch arrives after another master has ended its attempt, and after the worker has forgotten
/// that attempt.
fn a_late_dispatch(world: &mut World, revoked: bool) {
    world.play_until(2 * SECOND);
    let links: Vec<LinkId> = world.network.links.keys().copied().collect();
    for &link in &links {
        world.strike(Fault::LateDispatch(link, 14 * SECOND, true));
    }
    world.will_submit(world.now, 1, |_| ());
    pass(world, SECOND / 2);
    let other = 1 - writer_of(world, 1);
    if revoked {
        world.cancel(TaskId(1));
    }
    for link in links_between(world, 0, other) {
        world.strike(Fault::LinkBreaks(link));
    }
    pass(world, 6 * SECOND);
    assert!(world.record(1).is_some_and(|record| record.is_done()), "the other master sees to it");
    // As many tasks as the worker remembers ended attempts, one after the other.
    for _ in 0..4 {
        world.will_submit(world.now, 1, |_| ());
        pass(world, 3 * SECOND / 2);
    }
    assert!((2..=5).all(|task| world.completed(task)));
    pass(world, 10 * SECOND);
    let runs = if revoked { 4 } else { 5 };
    assert_eq!((world.counters.late_dispatches, world.counters.runs), (1, runs));
}

fn an_unwell_worker(world: &mut World) {
    world.stays_unwell(0, 0, false);
    world.will_submit(3 * SECOND, 2, |_| ());
    pass(world, 60 * SECOND);
    assert!(world.counters.returned > 0, "the worker is tried");
    assert!((1..=2).all(|task| world.completed(task)));
}

/// The server that answers a master's write of `lost` does not know the worker's last renewal, which the
/// master knows.
fn a_refused_loss(world: &mut World) {
    one_runs(world);
    // A server that was the leader is behind no sooner.
    world.play_until(16 * SECOND);
    let renewals = world.counters.leases_extended;
    while world.counters.leases_extended == renewals {
        pass(world, MS);
    }
    world.strike(Fault::Crash(Peer::Worker(0), 30 * SECOND));
    // The server is behind when the master declares the loss, and not when the masters compare the ends
    // of the streams, which they do every 5 s.
    world.play_until(20_200 * MS);
    world.strike(Fault::LeaderLags(4_500 * MS));
    pass(world, 25 * SECOND);
    assert_eq!(world.standing(0), Some(LeaseState::Lost));
    pass(world, 100 * SECOND);
    assert!(world.completed(1));
    assert_eq!(attempts(world, 1), 2);
}

/// The home extends its worker's lease for longer than the other master would.
fn a_longer_wait(world: &mut World) {
    let worker = one_runs(world);
    let lease = world.registry.workers.get(&world.workers[worker].name);
    let home = lease.and_then(|(lease, _)| lease.home).expect("it has a home");
    let last = world.masters.len() - 1;
    if world.masters[last].session() != Some(home.session) {
        // The worker has to name the last master as its home, so the others are down for a moment.
        world.strike(Fault::Crash(Peer::Master(0), 5 * SECOND));
        pass(world, 15 * SECOND);
    }
    world.strike(Fault::CutBoth(Peer::Master(last), Peer::Registry, 110 * SECOND));
    world.strike(Fault::CutBoth(Peer::Worker(worker), Peer::Master(0), 110 * SECOND));
    world.strike(Fault::CutBoth(Peer::Worker(worker), Peer::Registry, 110 * SECOND));
    pass(world, 100 * SECOND);
    assert_eq!((attempts(world, 1), world.running(1)), (1, 1), "its home answers for it");
}
