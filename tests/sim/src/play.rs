//! Runs many seeds on every core. Never stops at a panic: a panic is a violation like any other.

use crate::{checker::Violation, counters::Counters, world::World};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The result of many worlds.
#[derive(Debug, Default)]
pub struct Played {
    /// How many seeds were run to their end.
    pub seeds: u64,
    /// The sum of their counters.
    pub counters: Counters,
    /// The violations, by seed.
    pub violations: Vec<(u64, Violation)>,
}

/// Runs one seed. With `told` the trace is printed.
pub fn play(seed: u64, told: bool) -> (Counters, Option<Violation>) {
    caught(|| {
        let mut world = World::new(seed);
        world.told = told;
        world.play();
        world
    })
}

/// Runs a world. Returns its result, and a violation if the code panics.
pub(crate) fn caught(play: impl FnOnce() -> World) -> (Counters, Option<Violation>) {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let world = play();
        (world.counters, world.violation)
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        let what = text.unwrap_or_default();
        (Counters::default(), Some(Violation { invariant: "nobody_panics", what }))
    })
}

/// Runs `count` seeds from `first` on every core, and calls `each` with the number of seeds run so far.
/// With `stop` it stops at the first violation.
pub fn play_many(first: u64, count: u64, stop: bool, each: impl Fn(u64) + Sync) -> Played {
    let next = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let sum = Mutex::new(Played::default());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count || over.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = first.wrapping_add(at);
                    let (counters, violation) = play(seed, false);
                    let mut sum = sum.lock().unwrap_or_else(|broken| broken.into_inner());
                    sum.seeds += 1;
                    sum.counters.add(&counters);
                    if let Some(violation) = violation {
                        sum.violations.push((seed, violation));
                        over.fetch_or(stop, Ordering::Relaxed);
                    }
                    each(sum.seeds);
                }
            });
        }
    });
    let mut played = sum.into_inner().unwrap_or_else(|broken| broken.into_inner());
    played.violations.sort_by_key(|(seed, _)| *seed);
    played
}
