//! A module that the fleet has never seen, from the start of `muster module push` to the end of `muster
//! task run --wait`: both commands, the upload, the transfer to the worker, the compilation in a child
//! process, and the run. Then the worker is killed and starts again with the same directory, and the
//! first `muster task run --wait` of each module is timed again: the compiled code is on the worker's
//! disk. Never a module that was compiled before, except in this second part.
//!
//! The module is a component of 1 MB that this file generates. It is similar to `thumbnail` of
//! `examples/` (0.6 MB, most of it picture decoders): functions of 1 KB with arithmetic, loops, loads,
//! stores and calls of each other, and one ninth of data. `thumbnail` itself is measured too, to check
//! that the two are similar.

use crate::{
    figures::median,
    guests,
    measure::{Measure, Target},
};
use muster_tests::{Fleet, fleet::text, hostile};
use std::{fmt::Write as _, path::Path, time::Instant};

/// The number of modules. Each has different constants, and so a different digest.
const MODULES: usize = 3;

/// With these numbers a component has about a million bytes: functions, blocks of each function, and
/// bytes of data.
const FUNCTIONS: usize = 790;
const BLOCKS: usize = 9;
const DATA: usize = 100_000;

const FIRST_MILLIS_MOST: f64 = 1_500.0;
const KEPT_MILLIS_MOST: f64 = 50.0;

/// Runs the measurement and returns the rows of the table.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    let mut fleet = Fleet::start(1, 2);
    let modules: Vec<String> = (0..MODULES).map(|number| format!("big{number}")).collect();
    let mut size = 0;
    for (seed, name) in modules.iter().enumerate() {
        let component = hostile::for_the_world(wat::parse_str(large(seed))?)?;
        size = component.len();
        std::fs::write(fleet.path(&format!("{name}.wasm")), component)?;
    }
    let mut first = Vec::new();
    for name in &modules {
        first.push(push_and_run(&fleet, name, &fleet.path(&format!("{name}.wasm")), "")?);
    }
    let real = guests::example("thumbnail")?;
    let real_size = real.len();
    let path = fleet.path("real.wasm");
    std::fs::write(&path, real)?;
    // The guest gets no picture and fails. Only its compilation matters.
    let real = push_and_run(&fleet, "real", &path, "no picture")?;

    fleet.kill("w1");
    fleet.start_worker("w1", &["--slots", "2"]);
    let mut kept = Vec::new();
    for name in &modules {
        kept.push(run_once(&fleet, name, "")?);
    }
    let kb = |size: usize| format!("{:.2} MB", size as f64 / 1e6);
    let cold = format!("cold component of {}, push → result", kb(size));
    let note = format!("`thumbnail`, {}: {real:.0} ms", kb(real_size));
    let again = "its code kept, restarted worker, run → result";
    Ok(vec![
        Measure::of_rounds(cold, &first, "ms").aims(Target::AtMost(FIRST_MILLIS_MOST)).note(note),
        Measure::of_rounds(again, &kept, "ms")
            .aims(Target::AtMost(KEPT_MILLIS_MOST))
            .note(format!("the next one {:.0} ms", next(&fleet, &modules)?)),
    ])
}

/// The same once more, when the worker has loaded the code: the rest is mostly the command.
fn next(fleet: &Fleet, modules: &[String]) -> anyhow::Result<f64> {
    let times: anyhow::Result<Vec<f64>> =
        modules.iter().map(|name| run_once(fleet, name, "")).collect();
    Ok(median(&times?))
}

fn push_and_run(fleet: &Fleet, name: &str, path: &Path, input: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    fleet.run(&["module", "push", text(path), "--name", name]).ok();
    let pushed = began.elapsed().as_secs_f64() * 1e3;
    let run = run_once(fleet, name, input)?;
    eprintln!("  {name}: push {pushed:.0} ms, run {run:.0} ms");
    Ok(pushed + run)
}

fn run_once(fleet: &Fleet, name: &str, input: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let ran = fleet.run(&["task", "run", name, "--input", input, "--wait"]);
    let took = began.elapsed().as_secs_f64() * 1e3;
    // The guest has run even if it refused its input.
    anyhow::ensure!(ran.code == 0 || !input.is_empty(), "{ran:?}");
    Ok(took)
}

/// The text of a core module for the SDK's world.
fn large(seed: usize) -> String {
    let mut text = String::from(
        "(module (memory (export \"memory\") 4)\n\
         (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 1024))\n\
         (func $f0 (param i32 i32) (result i32) (local.get 0))\n",
    );
    for number in 1..FUNCTIONS {
        let _ = writeln!(
            text,
            "(func $f{number} (param $a i32) (param $b i32) (result i32) \
             (local $i i32) (local $x i32) (local $y i64)"
        );
        for block in 0..BLOCKS {
            text += &large_block(number, block, seed);
        }
        text += "(local.get $x))\n";
    }
    // `run` calls none of the functions: their compilation is measured, not their execution.
    let last = FUNCTIONS - 1;
    let _ = writeln!(
        text,
        "(func (export \"run\") (param i32 i32) (result i32) \
         (if (local.get 1) (then (drop (call $f{last} (local.get 0) (local.get 1))))) (i32.const 16))"
    );
    let data: String = (0..DATA).map(|at| format!("\\{:02x}", (at * 151 + seed) % 251)).collect();
    text + "(data (i32.const 65536) \"" + &data + "\"))"
}

/// A loop over memory, and a call of one of the earlier functions.
fn large_block(number: usize, block: usize, seed: usize) -> String {
    let callee = (number * (block + 3) * 7 + seed) % number;
    let factor = (number * BLOCKS + block) * 2_654_435 % 1_000_003 + seed;
    let at = (number * BLOCKS + block) * 16 % 60_000;
    format!(
        "  (local.set $x (i32.add (i32.mul (local.get $a) (i32.const {factor})) (local.get $b)))
  (local.set $i (i32.const 0))
  (block $out (loop $next
    (br_if $out (i32.ge_u (local.get $i) (i32.and (local.get $b) (i32.const 15))))
    (local.set $y (i64.xor (i64.rotl (local.get $y) (i64.const 7)) (i64.extend_i32_u (local.get $x))))
    (i64.store offset={at} (i32.and (local.get $i) (i32.const 1023)) (local.get $y))
    (local.set $x (i32.xor (i32.shr_u (local.get $x) (i32.const 3))
      (i32.load offset={at} (i32.and (local.get $x) (i32.const 1023)))))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br $next)))
  (local.set $a (if (result i32) (i32.lt_u (local.get $x) (i32.const {factor}))
    (then (call $f{callee} (local.get $x) (i32.wrap_i64 (local.get $y))))
    (else (i32.div_u (local.get $x) (i32.or (local.get $i) (i32.const 1))))))
"
    )
}
