//! Runs seeds of the simulation: many, or one with a trace. Never decides what is right: the checker
//! does.
//!
//! `sim [--seeds N] [--first N] [--stop]`, `sim --seed N`, or `sim --former NAME`.

use muster_sim::{
    former::FORMER,
    play::{play, play_many},
};
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

/// The default number of seeds: two cores run them in about a minute and a half.
const SEEDS: u64 = 2_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seed, mut seeds, mut first, mut stop) = (None, SEEDS, 1, false);
    let mut script = None;
    while let Some(argument) = arguments.next() {
        if argument == "--former" {
            let name = arguments.next();
            script = FORMER.iter().find(|former| Some(former.name) == name.as_deref());
            if script.is_none() {
                let names: Vec<&str> = FORMER.iter().map(|former| former.name).collect();
                eprintln!("sim: --former takes one of: {}", names.join(", "));
                return ExitCode::from(2);
            }
            continue;
        }
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok());
        let understood = match argument.as_str() {
            "--seed" => number().map(|number| seed = Some(number)),
            "--seeds" => number().map(|number| seeds = number),
            "--first" => number().map(|number| first = number),
            "--stop" => {
                stop = true;
                Some(())
            }
            _ => None,
        };
        if understood.is_none() {
            eprintln!(
                "sim: `{argument}`? use: sim [--seeds N] [--first N] [--stop], sim --seed N, \
                 or sim --former NAME"
            );
            return ExitCode::from(2);
        }
    }
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(former) = script {
        let begun = Instant::now();
        let violation = former.play(true);
        if let Some(violation) = &violation {
            println!("\n{} breaks {}\n  {}", former.name, violation.invariant, violation.what);
        }
        return verdict(1, begun, usize::from(violation.is_some()));
    }
    match seed {
        Some(seed) => one(seed),
        None => many(first, seeds, stop),
    }
}

fn one(seed: u64) -> ExitCode {
    let begun = Instant::now();
    let (counters, violation) = play(seed, true);
    println!();
    for (name, count) in counters.counts().iter().filter(|(_, count)| *count > 0) {
        println!("{count:>10}  {name}");
    }
    if let Some(violation) = &violation {
        println!("\nseed {seed} breaks {}\n  {}", violation.invariant, violation.what);
    }
    verdict(1, begun, usize::from(violation.is_some()))
}

fn many(first: u64, seeds: u64, stop: bool) -> ExitCode {
    let begun = Instant::now();
    let shown = Mutex::new(begun);
    let every = Duration::from_millis(if std::io::stderr().is_terminal() { 200 } else { 5_000 });
    let played = play_many(first, seeds, stop, |done| {
        let mut last = shown.lock().unwrap_or_else(|broken| broken.into_inner());
        if last.elapsed() >= every {
            *last = Instant::now();
            let pace = done as f64 / begun.elapsed().as_secs_f64() * 60.0;
            let end = if std::io::stderr().is_terminal() { '\r' } else { '\n' };
            eprint!("sim: {done} of {seeds} seeds, {pace:.0} a minute{end}");
            let _ = std::io::stderr().flush();
        }
    });
    for (name, count) in played.counters.counts() {
        println!("{count:>10}  {name}");
    }
    for (seed, violation) in played.violations.iter().take(20) {
        println!("\nseed {seed} breaks {}\n  {}", violation.invariant, violation.what);
        println!("  replay it with: make sim SEED={seed}");
    }
    verdict(played.seeds, begun, played.violations.len())
}

fn verdict(seeds: u64, begun: Instant, violations: usize) -> ExitCode {
    let pace = (seeds as f64 / begun.elapsed().as_secs_f64() * 60.0) as u64;
    println!("sim: seeds={seeds} per_minute={pace} violations={violations}");
    if violations > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
