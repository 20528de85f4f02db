//! Write a task for a Muster fleet: one function, input in, output or an error out. This crate must
//! never do anything of its own inside a guest: no threads, no clocks, no state between calls.
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
//! That is the whole of `src/lib.rs`. Its `Cargo.toml` says that the crate is a guest:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! muster = "0.1"
//! ```
//!
//! and `cargo build --release --target wasm32-wasip1` makes the module.
//!
//! # Bytes, or JSON
//!
//! A worker hands a task bytes and takes bytes back. The types of the function say what they mean:
//!
//! | type | as input | as output |
//! |---|---|---|
//! | `Vec<u8>` | the bytes as they are | the same |
//! | `String` | the bytes, which must be UTF-8 | its bytes |
//! | [`Json<T>`](Json) | JSON, which must fit `T` | JSON |
//! | `Option<T>` | `None` if there are no bytes, else `T` | no bytes for `None` |
//! | `()` | there must be no bytes | no bytes |
//! | `Result<T, E>` | | `T`, or the task fails with `E` in words |
//!
//! Input that does not fit never reaches the function: the task fails with a message that says
//! what was wrong with it.
//!
//! ```
//! use muster::Json;
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
//! fn bill(Json(order): Json<Order>) -> Result<Json<Bill>, String> {
//!     let total = order.price.checked_mul(order.pieces).ok_or("that is more than there is")?;
//!     Ok(Json(Bill { total }))
//! }
//!
//! let output = muster::testing::run(bill, br#"{"price": 7, "pieces": 6}"#);
//! assert_eq!(output, Ok(br#"{"total":42}"#.to_vec()));
//!
//! let output = muster::testing::run(bill, br#"{"price": 7}"#);
//! assert!(output.unwrap_err().starts_with("the input is not the JSON this task takes"));
//! ```
//!
//! # To fail
//!
//! A task fails by returning `Err`; the error is shown, through [`Display`](std::fmt::Display), to
//! whoever submitted it, so `?` with any error type will do. A panic is something else: the attempt
//! ends as *trapped*, the message goes to its standard error, and a retry policy treats it apart.
//!
//! # What the worker offers
//!
//! [`progress`] says how far along the task is, [`log`] and the macros [`error!`], [`warn!`],
//! [`info!`], [`debug!`] and [`trace!`] write to the attempt's log, and [`context`] tells who is
//! running, which attempt it is, how much time is left and whether the worker is draining.
//!
//! ```
//! #[muster::task]
//! fn checksum(bytes: Vec<u8>) -> Result<String, String> {
//!     let attempt = muster::context().attempt_number;
//!     muster::info!("attempt {attempt}: {} bytes", bytes.len());
//!
//!     let mut sum = 0_u32;
//!     for (done, chunk) in bytes.chunks(1024).enumerate() {
//!         if muster::context().draining {
//!             return Err("the worker is draining".into());
//!         }
//!         sum = chunk.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
//!         muster::progress(done as u64 + 1, bytes.len().div_ceil(1024) as u64);
//!     }
//!     Ok(format!("{sum:08x}"))
//! }
//! # assert_eq!(checksum(b"abc".to_vec()), Ok("00017862".into()));
//! ```
//!
//! Standard output and standard error work as well: they go to the attempt's log. There are no
//! files, no network and no environment unless the task was granted them.
//!
//! # Tests
//!
//! On a native build the function is an ordinary one, and the worker is a stand-in that remembers
//! what it was told: see [`testing`].
//!
//! ```
//! # #[muster::task]
//! # fn halve(Json(list): muster::Json<Vec<u32>>) -> muster::Json<Vec<u32>> {
//! #     muster::progress(1, 1);
//! #     muster::Json(list.into_iter().map(|n| n / 2).collect())
//! # }
//! # use muster::Json;
//! // #[test]
//! fn halves_and_reports() {
//!     assert_eq!(halve(Json(vec![2, 4])).0, [1, 2]);
//!     assert_eq!(muster::testing::take_progress(), [(1, 1)]);
//! }
//! # halves_and_reports();
//! ```
//!
//! # What a module looks like
//!
//! The module exports the world `muster:task/task` of `wit/world.wit`, which any language with
//! component tooling can target. A `wasm32-wasip1` module of this crate is a core module; it is made
//! a component when it is uploaded.

mod data;
mod host;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use data::{FromInput, IntoOutput, Json};
pub use host::{Context, Level, context, log, progress};
pub use muster_macros::task;

/// What wit-bindgen makes of `wit/world.wit`.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code, missing_docs)] // Generated: it passes pointers between the guest and the worker.
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "task",
        export_macro_name: "export_task",
        pub_export_macro: true,
    });
}

/// What the expansion of [`task`] names. Not for use by hand: it may change at any time.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::bindings::*;

    /// Decodes the input, runs the task, encodes what it returned.
    pub fn call<I: crate::FromInput, O: crate::IntoOutput>(
        task: impl FnOnce(I) -> O,
        input: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        task(I::from_input(input)?).into_output()
    }
}
