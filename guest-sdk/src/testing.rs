//! The stand-in for the worker in a native build. It remembers what a task reported, and answers as a test says.
//! It must never be part of a guest, and never mix the tasks of two tests.
//!
//! It remembers separately for each thread, and each test has a thread of its own. A test calls a task as an
//! ordinary function, or with bytes by [`run!`], as a worker does.
//!
//! ```
//! use muster::{Level, testing};
//!
//! #[muster::task]
//! fn careful(_: ()) -> &'static str {
//!     muster::progress(1, 2);
//!     if muster::context().draining {
//!         muster::warn!("there is little time left");
//!     }
//!     "done"
//! }
//!
//! testing::set_draining(true);
//! assert_eq!(testing::run!(careful, b""), Ok(b"done".to_vec()));
//! assert_eq!(testing::take_progress(), [(1, 2)]);
//! assert_eq!(testing::take_log(), [(Level::Warn, "there is little time left".to_owned())]);
//! ```
//!
//! # A worker that is lost
//!
//! [`kill_at_checkpoint`] ends a run right after one of its checkpoints was stored, as if its worker had died
//! then. The next run on this thread is the next attempt, and resumes.
//!
//! ```
//! use muster::testing;
//!
//! #[muster::task]
//! fn add(numbers: Vec<u64>) -> u64 {
//!     let (mut next, mut sum) = muster::resume().unwrap_or((0, 0));
//!     while next < numbers.len() {
//!         sum += numbers[next];
//!         next += 1;
//!         muster::progress(next as u64, numbers.len() as u64);
//!         muster::checkpoint(&(next, sum));
//!     }
//!     sum
//! }
//!
//! let killed = testing::kill_at_checkpoint(2, || add(vec![1, 2, 3]));
//! assert_eq!(killed, None);
//! assert_eq!(testing::take_progress(), [(1, 3), (2, 3)]);
//!
//! assert_eq!(muster::context().attempt_number, 2);
//! assert_eq!(add(vec![1, 2, 3]), 6);
//! assert_eq!(testing::take_progress(), [(3, 3)]); // The first two were not added again.
//! ```

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::{Context, Level};

#[doc(inline)]
pub use crate::__run as run;

#[derive(Default)]
struct Worker {
    context: Option<Context>,
    progress: Vec<(u64, u64)>,
    log: Vec<(Level, String)>,
    /// The state kept for the next attempt.
    kept: Option<Vec<u8>>,
    /// All states kept, in order, until the test takes them.
    checkpoints: Vec<Vec<u8>>,
    /// The number of checkpoints after which the run is killed; `None` if it is not to be killed.
    lives: Option<usize>,
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// The payload with which a killed run unwinds.
struct Killed;

/// Runs a task as a worker does: it takes bytes, and returns bytes or the task's error, as
/// `Result<Vec<u8>, String>`. An input of the wrong form is an error, too.
///
/// ```
/// # #[derive(serde::Deserialize)]
/// # struct Order { pieces: u32 }
/// # #[muster::task]
/// # fn price(order: Order) -> u32 { order.pieces * 3 }
/// let output = muster::testing::run!(price, r#"{"pieces": 2}"#);
/// assert_eq!(output, Ok(b"6".to_vec()));
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __run {
    ($task:expr, $input:expr $(,)?) => {
        $crate::__call!($task, ::std::vec::Vec::<u8>::from($input))
    };
}

/// Runs `run` until it has stored `n` checkpoints, kills it then, and returns `None`. The next run is the task's
/// next attempt. If the run ends earlier, this returns its result as `Some`.
///
/// # Panics
///
/// If `n` is 0, or if `run` panics.
pub fn kill_at_checkpoint<T>(n: usize, run: impl FnOnce() -> T) -> Option<T> {
    assert_ne!(n, 0, "checkpoints are counted from 1");
    WORKER.with_borrow_mut(|worker| worker.lives = Some(n));
    // The half-done state of the closure is what a lost worker leaves, and the test wants to see it.
    let ended = catch_unwind(AssertUnwindSafe(run));
    WORKER.with_borrow_mut(|worker| worker.lives = None);
    match ended {
        Ok(result) => Some(result),
        Err(panic) if panic.is::<Killed>() => {
            set_attempt(context().attempt_number + 1);
            None
        }
        Err(panic) => resume_unwind(panic),
    }
}

/// What [`context`](crate::context) returns unless a test changes it: the first attempt, with no limit, on a
/// worker that is not draining.
#[must_use]
pub fn default_context() -> Context {
    Context {
        task: "task".into(),
        attempt: "attempt-1".into(),
        attempt_number: 1,
        worker: "worker".into(),
        time_left: None,
        draining: false,
    }
}

/// Sets what [`context`](crate::context) returns on this thread from now on.
pub fn set_context(context: Context) {
    WORKER.with_borrow_mut(|worker| worker.context = Some(context));
}

/// Sets the number of the attempt.
pub fn set_attempt(number: u32) {
    change(|context| {
        context.attempt = format!("attempt-{number}");
        context.attempt_number = number;
    });
}

/// Sets how much time is left; it does not become less by itself.
pub fn set_time_left(left: Option<Duration>) {
    change(|context| context.time_left = left);
}

/// Sets whether the worker is draining.
pub fn set_draining(draining: bool) {
    change(|context| context.draining = draining);
}

/// Stores these bytes as the checkpoint of an earlier attempt: JSON, for a task that uses
/// [`resume`](crate::resume). If this was the first attempt, it becomes the second.
pub fn set_checkpoint(state: impl Into<Vec<u8>>) {
    WORKER.with_borrow_mut(|worker| worker.kept = Some(state.into()));
    set_attempt(context().attempt_number.max(2));
}

/// Returns all reports of progress on this thread since the last call, in order, as `(done, total)`.
#[must_use]
pub fn take_progress() -> Vec<(u64, u64)> {
    WORKER.with_borrow_mut(|worker| std::mem::take(&mut worker.progress))
}

/// Returns all lines logged on this thread since the last call, in order.
#[must_use]
pub fn take_log() -> Vec<(Level, String)> {
    WORKER.with_borrow_mut(|worker| std::mem::take(&mut worker.log))
}

/// Every state stored on this thread since the last call, in order. This does not change what the next attempt
/// resumes from.
#[must_use]
pub fn take_checkpoints() -> Vec<Vec<u8>> {
    WORKER.with_borrow_mut(|worker| std::mem::take(&mut worker.checkpoints))
}

/// Forgets everything on this thread: the next run is the first attempt of another task.
pub fn reset() {
    WORKER.with_borrow_mut(|worker| *worker = Worker::default());
}

fn change(change: impl FnOnce(&mut Context)) {
    WORKER.with_borrow_mut(|worker| {
        change(worker.context.get_or_insert_with(default_context));
    });
}

pub(crate) fn context() -> Context {
    WORKER.with_borrow(|worker| worker.context.clone()).unwrap_or_else(default_context)
}

pub(crate) fn progress(done: u64, total: u64) {
    WORKER.with_borrow_mut(|worker| worker.progress.push((done, total)));
}

pub(crate) fn log(level: Level, message: &str) {
    WORKER.with_borrow_mut(|worker| worker.log.push((level, message.to_owned())));
}

pub(crate) fn checkpoint(state: &[u8]) {
    let is_last = WORKER.with_borrow_mut(|worker| {
        worker.kept = Some(state.to_vec());
        worker.checkpoints.push(state.to_vec());
        worker.lives = worker.lives.map(|lives| lives.saturating_sub(1));
        worker.lives == Some(0)
    });
    if is_last {
        // Unwind without a panic message, because nothing went wrong.
        resume_unwind(Box::new(Killed));
    }
}

pub(crate) fn resume() -> Option<Vec<u8>> {
    // As on a worker: a first attempt finds no checkpoint.
    if context().attempt_number == 1 {
        return None;
    }
    WORKER.with_borrow(|worker| worker.kept.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_attempt_finds_nothing_and_the_next_one_the_last() {
        checkpoint(b"a");
        assert_eq!(resume(), None, "nobody was there before the first");
        set_attempt(2);
        assert_eq!(resume(), Some(b"a".to_vec()));
        reset();
        assert_eq!((resume(), context()), (None, default_context()));
    }

    #[test]
    fn a_run_that_ends_before_it_is_killed_has_its_result() {
        assert_eq!(kill_at_checkpoint(2, || checkpoint(b"a")), Some(()));
        assert_eq!(context().attempt_number, 1);
        checkpoint(b"b"); // No run is to be killed any more.
        assert_eq!(take_checkpoints(), [b"a", b"b"]);
    }

    #[test]
    fn a_tasks_own_panic_is_not_taken_for_a_kill() {
        let panic = catch_unwind(|| kill_at_checkpoint(1, || panic!("no such cat")));
        let panic = panic.expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"no such cat"));
    }

    #[test]
    fn a_test_says_what_is_left() {
        set_time_left(Some(Duration::from_secs(3)));
        set_draining(true);
        let Context { time_left, draining, .. } = context();
        assert_eq!((time_left, draining), (Some(Duration::from_secs(3)), true));
    }
}
