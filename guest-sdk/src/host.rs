//! What a task may ask of the worker that runs it. It must never decide anything: each function is
//! one call of the interface `muster:task/host`, or of its stand-in on a native build.

use std::time::Duration;

#[cfg(target_family = "wasm")]
use crate::bindings::muster::task::host as worker;
#[cfg(not(target_family = "wasm"))]
use crate::testing as worker;

/// Who is running, where, and for how much longer, as of the call of [`context`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The task's identifier, as the one who submitted it sees it. It is the same in every attempt,
    /// so it can serve as an idempotency key towards the outside world.
    pub task: String,
    /// The identifier of this attempt; a retry of the same task has another.
    pub attempt: String,
    /// Which try this is: 1 for the first, 2 for the first retry, and so on.
    pub attempt_number: u32,
    /// The name of the worker the attempt runs on.
    pub worker: String,
    /// How long until the worker ends the attempt as timed out; `None` when it has no limit.
    /// Whole milliseconds.
    pub time_left: Option<Duration>,
    /// Whether the worker is draining: the attempt should finish soon.
    pub draining: bool,
}

/// How much a line in the log matters, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The task cannot do what it was asked.
    Error,
    /// Something is wrong, and the task goes on.
    Warn,
    /// What an operator would want to read.
    Info,
    /// What the author of the task would want to read.
    Debug,
    /// Every step.
    Trace,
}

/// Tells the task about itself. Ask again rather than keep it: time passes, and a worker that was
/// not draining may be draining now.
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

/// Says that `done` of `total` units of work are behind us. The unit is the task's own; a `total`
/// of 0 means that the end is not known. The worker keeps the newest report and passes it on at its
/// own pace, so this may be called as often as is convenient.
pub fn progress(done: u64, total: u64) {
    worker::progress(done, total);
}

/// Writes one line to the attempt's log. The worker may cut a long line and drops lines beyond the
/// attempt's allowance; logging never fails. The macros [`info!`](crate::info) and its siblings
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
