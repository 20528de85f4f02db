//! One master's mind, two workers', and a registry that loses answers, played through seeded
//! disorder: links are cut, processes crash and freeze, writes land late, the watch lags. At every
//! step no task runs twice and no end is ever changed; and once the disorder stops, everything
//! that was accepted ends. A failure names its seed; the same seed plays the same.

mod world;

use world::World;

/// Played each time. A seed that once failed needs no list: they are all played again.
const SEEDS: u64 = 1_000;

#[test]
fn nothing_runs_twice_at_once_and_what_was_accepted_ends() {
    let mut sum = world::Tally::default();
    for seed in 1..=SEEDS {
        let played = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.play();
            world.tally
        });
        let tally = played.unwrap_or_else(|_| panic!("seed {seed} failed; what happened is above"));
        sum.add(&tally);
    }
    // The walk is only worth something if the disorder did happen.
    println!("{sum:?}");
    let rare = [sum.lost, sum.conflicts, sum.unknown, sum.late, sum.fenced, sum.crashes];
    assert!(rare.iter().all(|&count| count > SEEDS / 4), "too little happened: {sum:?}");
}

#[test]
fn the_same_seed_plays_the_same() {
    let play = || {
        let mut world = World::new(7);
        world.play();
        world.tally
    };
    assert_eq!(play(), play());
}
