//! The host calls of a task. This file must never decide anything: each function is one call of the
//! interface `muster:task/host`, or of its stand-in in a native build.

use std::time::Duration;

#[cfg(target_family = "wasm")]
use crate::bindings::muster::task::host as worker;
#[cfg(not(target_family = "wasm"))]
use crate::testing as worker;

/// The ids of task, attempt and worker, and how much time is left, at the time of the call of [`context`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The task's identifier, as the submitter sees it. It is the same in every attempt, so you can use
    /// it as an idempotency key towards the outside world.
    pub task: String,
    /// The identifier of this attempt. Another attempt of the same task has another identifier.
    pub attempt: String,
    /// The number of the attempt: 1 for the first, 2 for the second, and so on.
    pub attempt_number: u32,
    /// The name of the worker that runs the attempt.
    pub worker: String,
    /// The time until the worker ends the attempt as timed out, in whole milliseconds; `None` without a
    /// limit.
    pub time_left: Option<Duration>,
    /// Whether the worker is draining: the attempt should finish soon.
    pub draining: bool,
}

/// The severity of a line in the log, the highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The task cannot do what it was asked to do.
    Error,
    /// Something is wrong, and the task goes on.
    Warn,
    /// An operator wants to read it.
    Info,
    /// The author of the task wants to read it.
    Debug,
    /// Every step.
    Trace,
}

/// Returns what the task may know of itself. Call it again instead of keeping the result: time passes, and
/// the worker may have begun to drain.
#[must_use]
pub fn context() -> Context {
    let told = worker::context();
    #[cfg(target_family = "wasm")]
    let told = Context {
        task: told.task,
        attempt: told.attempt,
        attempt_number: told.attempt_number,
        worker: told.worker,
        time_left: told.time_left_ms.map(Duration::from_millis),
        draining: told.draining,
    };
    told
}

/// Reports that `done` of `total` units of work are done. The task chooses the unit; a `total` of 0 means
/// that the total is not known. The worker keeps the newest report and sends it at its own rate, so you may
/// call this as often as you like.
pub fn progress(done: u64, total: u64) {
    worker::progress(done, total);
}

/// Writes one line to the log of the attempt. The worker may cut a long line, and drops lines that exceed the
/// attempt's limit; logging never fails. The macros [`error!`](crate::error) to [`trace!`](crate::trace)
/// format the line first.
pub fn log(level: Level, message: impl AsRef<str>) {
    #[cfg(target_family = "wasm")]
    let level = match level {
        Level::Error => worker::Level::Error,
        Level::Warn => worker::Level::Warn,
        Level::Info => worker::Level::Info,
        Level::Debug => worker::Level::Debug,
        Level::Trace => worker::Level::Trace,
    };
    worker::log(level, message.as_ref());
}

/// Writes a line of [`Level::Error`] to the attempt's log, formatted as by [`format!`].
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log($crate::Level::Error, ::std::format!($($message)+)) };
}

/// Writes a line of [`Level::Warn`] to the attempt's log, formatted as by [`format!`].
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log($crate::Level::Warn, ::std::format!($($message)+)) };
}

/// Writes a line of [`Level::Info`] to the attempt's log, formatted as by [`format!`].
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log($crate::Level::Info, ::std::format!($($message)+)) };
}

/// Writes a line of [`Level::Debug`] to the attempt's log, formatted as by [`format!`].
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log($crate::Level::Debug, ::std::format!($($message)+)) };
}

/// Writes a line of [`Level::Trace`] to the attempt's log, formatted as by [`format!`].
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log($crate::Level::Trace, ::std::format!($($message)+)) };
}
