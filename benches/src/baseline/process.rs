//! What a fleet of processes would do: one process for each run, of the program `run-once` of this
//! crate, which does for one module what `wasmtime run` does. Never uses a process again.

use crate::baseline::runtime::processors;
use anyhow::Context as _;
use muster_tests::place;
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

/// Runs a module `count` times, each in its own process, with as many processes at once as there are
/// processors. Returns runs a second.
///
/// # Errors
///
/// A process failed.
pub fn rate(module: &Path, count: usize) -> anyhow::Result<f64> {
    let program = place::program("run-once");
    let left = AtomicUsize::new(count);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let one = || {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let mut command = Command::new(&program);
                let ended =
                    command.arg(module).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
                anyhow::ensure!(ended.success(), "{ended}");
            }
            Ok(())
        };
        let all: Vec<_> = (0..processors()).map(|_| scope.spawn(one)).collect();
        for thread in all {
            thread.join().ok().context("a thread panicked")??;
        }
        anyhow::Ok(())
    })?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
