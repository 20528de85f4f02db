//! Runs seeds of the simulation: a fixed set, and a new set each time. Also checks that the same seed
//! always gives the same world. A failure names the seed and how to run it again.

use muster_sim::{
    counters::Counters,
    play::{Played, play, play_many},
};
use std::time::{SystemTime, UNIX_EPOCH};

/// The number of seeds in each set: a few seconds on two cores.
const SEEDS: u64 = 250;

fn demand_nothing_broken(played: &Played) {
    for (seed, violation) in &played.violations {
        eprintln!("seed {seed} breaks {}\n  {}", violation.invariant, violation.what);
        eprintln!("  replay it with: make sim SEED={seed}");
    }
    assert!(played.violations.is_empty(), "{} violations", played.violations.len());
}

/// Demands that each kind of fault and of consequence happened often enough; otherwise the simulation is
/// too weak.
fn demand_disorder(counters: &Counters) {
    for (name, count) in counters.counts() {
        // The rarest of them happen in about every third world.
        let least = match name {
            "rollbacks"
            | "rewound"
            | "guards"
            | "held"
            | "twins"
            | "released"
            | "refused"
            | "lags"
            | "nodes_lost"
            | "extended_for_earlier"
            | "rewatched" => SEEDS / 20,
            "made_anew" | "followers_lag" => SEEDS / 100,
            // In most of them the connections break before a follower compares anything.
            "went_back" => SEEDS / 250,
            // This happens in about one world of a thousand.
            "checkpoints_refused" => 0,
            _ => SEEDS / 3,
        };
        assert!(count >= least, "{name} happened only {count} times: {counters:?}");
    }
}

#[test]
fn the_fixed_seeds_break_nothing_and_everything_rare_happens_in_them() {
    let played = play_many(1, SEEDS, false, |_| ());
    demand_nothing_broken(&played);
    demand_disorder(&played.counters);
}

#[test]
fn fresh_seeds_break_nothing() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let first = since.as_millis() as u64;
    println!("seeds from {first}");
    demand_nothing_broken(&play_many(first, SEEDS, false, |_| ()));
}

#[test]
fn the_same_seed_plays_the_same() {
    for seed in [7, 8] {
        assert_eq!(play(seed, false), play(seed, false));
    }
}
