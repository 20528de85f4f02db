//! Write a task for a Muster fleet: one function that takes an input and returns an output or an error.
//! Inside a guest, this crate must never start threads, read clocks or keep state between calls.
//!
//! # A first task
//!
//! ```
//! #[muster::task]
//! fn shout(text: String) -> String {
//!     text.to_uppercase()
//! }
//! # assert_eq!(shout("hello".into()), "HELLO");
//! ```
//!
//! `src/lib.rs` needs nothing else. `muster new shout` makes the project around it. Its `Cargo.toml`
//! says that the crate is a guest, and where this crate is:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! muster = { path = "muster" }
//! serde = { version = "1", features = ["derive"] }
//! ```
//!
//! # Build it, push it, run it
//!
//! ```text
//! muster build                                     # writes shout.wasm
//! muster module push shout.wasm --version 1.0      # gives it a name: shout:1.0
//! muster task run shout:1.0 --input hello --wait   # HELLO
//! ```
//!
//! `muster dev` starts a whole fleet on your machine, on which you can try the task. Instead of
//! `muster build` you can use `cargo build --release --target wasm32-wasip1`; then `muster module
//! push` makes a component of the module.
//!
//! # Bytes, text, or JSON
//!
//! A worker gives bytes to a task and takes bytes back. The types of the function decide how they are
//! encoded: bytes and text as they are, every other type that serde supports as JSON.
//!
//! | type | as input | as output |
//! |---|---|---|
//! | `Vec<u8>` | the bytes as they are | the same |
//! | `String` | the bytes, which must be UTF-8 | its bytes; the same for a `&str` |
//! | `()` | the input must be empty | no bytes |
//! | any other `T` | JSON, for a `T` that is `Deserialize` | JSON, for a `T` that is `Serialize` |
//! | `Option<T>` | `None` if the input is empty, else `T` | no bytes for `None`, else `T` |
//! | `Result<T, E>` | | `T`, or the task fails with the message of `E` |
//! | [`Json<T>`](Json) | JSON, also for a `String` or a `Vec<u8>` | the same |
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     price: u64,
//!     pieces: u64,
//! }
//!
//! #[derive(Serialize)]
//! struct Bill {
//!     total: u64,
//! }
//!
//! #[muster::task]
//! fn bill(order: Order) -> Result<Bill, String> {
//!     let total = order.price.checked_mul(order.pieces).ok_or("that is more than there is")?;
//!     Ok(Bill { total })
//! }
//!
//! let output = muster::testing::run!(bill, r#"{"price": 7, "pieces": 6}"#);
//! assert_eq!(output, Ok(br#"{"total":42}"#.to_vec()));
//! ```
//!
//! If the input does not have the expected form, the function is not called: the task fails with a
//! message that says what is wrong with the input.
//!
//! ```
//! # #[derive(serde::Deserialize)]
//! # struct Order { price: u64, pieces: u64 }
//! # #[muster::task]
//! # fn bill(order: Order) -> u64 { order.price * order.pieces }
//! let output = muster::testing::run!(bill, r#"{"price": 7}"#);
//! assert_eq!(
//!     output.unwrap_err(),
//!     "the input is not the JSON this task takes: missing field `pieces` at line 1 column 12"
//! );
//! ```
//!
//! For another encoding, implement [`FromInput`] or [`IntoOutput`] for a type of your own. They are used
//! instead of JSON.
//!
//! # Errors and panics
//!
//! A task fails by returning `Err`. The submitter of the task sees the error, formatted by
//! [`Display`](std::fmt::Display) in its longer form `{:#}`, so `?` works with any error type. A panic is
//! different: the attempt ends as *trapped*, and the message goes to its standard error. The retry policy
//! of the task applies to both.
//!
//! ```
//! use std::num::ParseIntError;
//!
//! #[muster::task]
//! fn double(number: String) -> Result<String, ParseIntError> {
//!     let number: u32 = number.trim().parse()?;
//!     Ok((number * 2).to_string())
//! }
//!
//! let output = muster::testing::run!(double, "two");
//! assert_eq!(output.unwrap_err(), "invalid digit found in string");
//! ```
//!
//! # Progress and context
//!
//! [`progress`] reports how far the task has come. [`context`] returns the ids of task and attempt, the
//! number of the attempt, how much time is left, and whether the worker is draining. You may call both as
//! often as you like.
//!
//! ```
//! #[muster::task]
//! fn checksum(bytes: Vec<u8>) -> String {
//!     let total = bytes.len().div_ceil(1024) as u64;
//!     let mut sum = 0_u32;
//!     for (done, chunk) in (1..).zip(bytes.chunks(1024)) {
//!         sum = chunk.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
//!         muster::progress(done, total);
//!     }
//!     let attempt = muster::context().attempt_number;
//!     format!("{sum:08x} in attempt {attempt}")
//! }
//! # assert_eq!(checksum(b"abc".to_vec()), "00017862 in attempt 1");
//! ```
//!
//! # Checkpoints
//!
//! When a worker is lost, its tasks run again on other workers. They run from the start, unless they have
//! stored a checkpoint. [`checkpoint()`] stores a state, of any type that serde supports, for later attempts;
//! when it returns, the state is stored in the fleet. [`resume`] returns the latest state, and `None` in a
//! first attempt.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct State {
//!     next: u64,
//!     sum: u64,
//! }
//!
//! #[muster::task]
//! fn sum_of_squares(to: u64) -> u64 {
//!     let mut state: State = muster::resume().unwrap_or_default();
//!     while state.next <= to {
//!         state.sum += state.next * state.next;
//!         state.next += 1;
//!         if state.next.is_multiple_of(1000) {
//!             muster::checkpoint(&state);
//!         }
//!     }
//!     state.sum
//! }
//!
//! use muster::testing;
//! let killed = testing::kill_at_checkpoint(2, || sum_of_squares(2500));
//! assert_eq!(killed, None);
//! assert_eq!(testing::take_checkpoints().len(), 2); // At 1000 and at 2000.
//!
//! // The next attempt continues from 2000.
//! assert_eq!(sum_of_squares(2500), 2500 * 2501 * 5001 / 6);
//! ```
//!
//! A checkpoint costs a write in the fleet's registry; about one a second is a good rate. Everything that a
//! task does to the outside world between two checkpoints may happen again. The task's identifier
//! ([`Context::task`]) is the same in every attempt; use it as an idempotency key.
//!
//! # Logging
//!
//! [`log`] and the macros [`error!`], [`warn!`], [`info!`], [`debug!`] and [`trace!`] write lines to the
//! log of the attempt; `muster task logs` shows them. Standard output and standard error go there, too.
//!
//! If a library logs with the crate `log` or with `tracing`, a feature of this crate brings its lines to
//! the same log:
//!
//! ```toml
//! [dependencies]
//! muster = { path = "muster", features = ["log", "tracing"] }
//! log = "0.4"
//! tracing = { version = "0.1", default-features = false, features = ["std", "attributes"] }
//! ```
//!
//! You need not set anything up: the logger is installed before the function is called.
//!
#![cfg_attr(not(all(feature = "log", feature = "tracing")), doc = "```ignore")]
#![cfg_attr(all(feature = "log", feature = "tracing"), doc = "```")]
//! #[muster::task]
//! fn ship(pieces: u32) {
//!     log::info!("shipping {pieces}");
//!     let _span = tracing::info_span!("order", pieces).entered();
//!     tracing::warn!(left = 0, "sold out");
//! }
//!
//! muster::testing::run!(ship, "3").unwrap();
//! let log = muster::testing::take_log();
//! # let log: Vec<_> = log.into_iter().map(|(level, line)| {
//! #     (level, line.replace(module_path!(), "shop"))
//! # }).collect();
//! assert_eq!(log[0], (muster::Level::Info, "shop: shipping 3".into()));
//! assert_eq!(log[1], (muster::Level::Warn, "order{pieces=3}: shop: sold out left=0".into()));
//! ```
//!
//! Lines of `info` and above are written, unless the variable `RUST_LOG` says otherwise. A task has this
//! variable only if it was granted: `muster task run ship --env RUST_LOG=warn,shop=debug`.
//!
//! # Tests
//!
//! In a native build the function is an ordinary function. A stand-in takes the place of the worker: it
//! remembers what the task reported, and answers as the test says. See [`testing`].
//!
//! ```
//! # #[muster::task]
//! # fn halve(list: Vec<u32>) -> Vec<u32> {
//! #     muster::progress(1, 1);
//! #     list.into_iter().map(|n| n / 2).collect()
//! # }
//! // #[test]
//! fn halves_and_reports() {
//!     assert_eq!(halve(vec![2, 4]), [1, 2]);
//!     assert_eq!(muster::testing::take_progress(), [(1, 1)]);
//! }
//! # halves_and_reports();
//! ```
//!
//! # What a task may do
//!
//! A task has no files, no network and no environment, unless they were granted when it was submitted.
//! `muster module inspect` shows which grants a module may need. Without grants, random numbers follow from
//! the task's identifier, and the clock is coarse.
//!
//! # What a module looks like
//!
//! The module exports the world `muster:task/task` of `wit/world.wit`. Any language with tools for
//! components can do so. A `wasm32-wasip1` module of this crate is a core module; `muster build` makes it a
//! component, or `muster module push` does.

mod call;
mod checkpoint;
mod data;
mod host;
#[cfg(any(feature = "log", feature = "tracing"))]
mod logging;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use checkpoint::{ResumeError, checkpoint, checkpoint_bytes, resume, resume_bytes, try_resume};
pub use data::{FromInput, IntoOutput, Json};
pub use host::{Context, Level, context, log, progress};
pub use muster_macros::task;

/// The code that wit-bindgen generates from `wit/world.wit`.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code, missing_docs)] // Generated code that passes pointers between the guest and the worker.
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "task",
        export_macro_name: "export_task",
        pub_export_macro: true,
    });
}

/// The names that the expansion of [`task`] uses. Not a public API: it may change at any time.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::bindings::*;
    pub use crate::call::*;

    /// Called before the task's function is called for the first time.
    pub fn begin() {
        #[cfg(any(feature = "log", feature = "tracing"))]
        crate::logging::install();
    }
}
