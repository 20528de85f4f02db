//! The worker's stand-in on a native build: it remembers what a task told it and answers as a test
//! says. It must never be part of a guest, and never let one test hear another's task.
//!
//! What it remembers belongs to the thread, and each test has its own.
//!
//! ```
//! use muster::{Level, testing};
//!
//! #[muster::task]
//! fn careful(_: ()) -> &'static str {
//!     muster::progress(1, 2);
//!     if muster::context().attempt_number > 1 {
//!         muster::warn!("we have been here before");
//!     }
//!     "done"
//! }
//!
//! testing::set_context(muster::Context { attempt_number: 2, ..testing::default_context() });
//! assert_eq!(testing::run(careful, b""), Ok(b"done".to_vec()));
//! assert_eq!(testing::take_progress(), [(1, 2)]);
//! assert_eq!(testing::take_log(), [(Level::Warn, "we have been here before".to_owned())]);
//! ```

use std::cell::RefCell;

use crate::{Context, FromInput, IntoOutput, Level};

#[derive(Default)]
struct Worker {
    context: Option<Context>,
    progress: Vec<(u64, u64)>,
    log: Vec<(Level, String)>,
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// Runs a task as a worker would: bytes in, and bytes or the task's error out.
///
/// # Errors
///
/// What a worker would report: the input did not fit, or the task returned an error.
pub fn run<I: FromInput, O: IntoOutput>(
    task: impl FnOnce(I) -> O,
    input: impl Into<Vec<u8>>,
) -> Result<Vec<u8>, String> {
    crate::__private::call(task, input.into())
}

/// What [`context`](crate::context) answers until a test says otherwise: the first attempt, with no
/// limit, on a worker that is not draining.
#[must_use]
pub fn default_context() -> Context {
    Context {
        task: "task".into(),
        attempt: "attempt".into(),
        attempt_number: 1,
        worker: "worker".into(),
        time_left: None,
        draining: false,
    }
}

/// Sets what [`context`](crate::context) answers on this thread from now on.
pub fn set_context(context: Context) {
    WORKER.with_borrow_mut(|worker| worker.context = Some(context));
}

/// Every report of progress on this thread since the last call, in order, as `(done, total)`.
#[must_use]
pub fn take_progress() -> Vec<(u64, u64)> {
    WORKER.with_borrow_mut(|worker| std::mem::take(&mut worker.progress))
}

/// Every line logged on this thread since the last call, in order.
#[must_use]
pub fn take_log() -> Vec<(Level, String)> {
    WORKER.with_borrow_mut(|worker| std::mem::take(&mut worker.log))
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
