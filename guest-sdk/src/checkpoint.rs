//! Checkpoints: the state that an attempt stores for later attempts. This file must never report a state as
//! stored that is not, and never start from the beginning without an error if it cannot read a stored state.

use std::any::type_name;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(target_family = "wasm")]
use crate::bindings::muster::task::host as worker;
#[cfg(not(target_family = "wasm"))]
use crate::testing as worker;

/// Stores `state` as JSON for later attempts of the task. It replaces the state that was stored before. When
/// this returns, the state is in the fleet's registry: it survives this worker and its host.
///
/// It costs a write in the registry, some milliseconds; about one a second is a good rate. There is no error
/// to handle. If the attempt is no longer the task's current one, or the state is larger than the task's limit
/// for checkpoints, the worker ends the attempt inside this call.
///
/// # Panics
///
/// If the state has no JSON form, for instance a map whose keys are not strings. Then the attempt ends as
/// trapped, and the state that was stored before stays.
pub fn checkpoint<T: Serialize + ?Sized>(state: &T) {
    match serde_json::to_vec(state) {
        Ok(bytes) => checkpoint_bytes(&bytes),
        Err(error) => panic!(
            "the checkpoint cannot be written as JSON: {error}; change the type {}, or write it \
             another way and use muster::checkpoint_bytes",
            type_name::<T>()
        ),
    }
}

/// Returns the state that the task's latest [`checkpoint`] stored; `None` if there is none, as in every first
/// attempt. After this call, no earlier attempt can store anything any more.
///
/// All attempts of a task run the module with which the task was submitted, so they write and read the same
/// type.
///
/// # Panics
///
/// If there is a state and it is not a `T`. Starting from the beginning could repeat what the task has done to
/// the outside world. A task that wants to decide this itself uses [`try_resume`].
#[must_use]
pub fn resume<T: DeserializeOwned>() -> Option<T> {
    match try_resume() {
        Ok(state) => state,
        Err(error) => panic!("{error}; use muster::try_resume to start over instead"),
    }
}

/// The same as [`resume`], with an error instead of a panic.
///
/// # Errors
///
/// If there is a state and it is not a `T`.
pub fn try_resume<T: DeserializeOwned>() -> Result<Option<T>, ResumeError> {
    let Some(bytes) = resume_bytes() else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| ResumeError {
        wanted: type_name::<T>(),
        found: bytes.len(),
        error,
    })
}

/// Stores `state` as [`checkpoint`] does, in an encoding that the task chooses.
pub fn checkpoint_bytes(state: &[u8]) {
    worker::checkpoint(state);
}

/// Returns the bytes that the task's latest checkpoint stored, as [`resume`] does.
#[must_use]
pub fn resume_bytes() -> Option<Vec<u8>> {
    worker::resume()
}

/// There is a checkpoint, and it does not have the expected type.
#[derive(Debug)]
pub struct ResumeError {
    wanted: &'static str,
    found: usize,
    error: serde_json::Error,
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, found, error } = self;
        write!(f, "the checkpoint that was kept ({found} bytes) is no {wanted}: {error}")
    }
}

impl std::error::Error for ResumeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::panic::catch_unwind;

    use super::{checkpoint, checkpoint_bytes, resume, resume_bytes, try_resume};
    use crate::testing;

    fn told(panic: Box<dyn std::any::Any + Send>) -> String {
        *panic.downcast::<String>().expect("a message with values in it")
    }

    #[test]
    fn what_is_kept_is_found_by_the_next_attempt() {
        assert_eq!(resume::<(u8, String)>(), None);
        checkpoint(&(1, "one"));
        checkpoint(&(2, "two"));
        testing::set_attempt(2);
        assert_eq!(resume(), Some((2, "two".to_owned())));
        checkpoint_bytes(b"\xff");
        assert_eq!(resume_bytes(), Some(b"\xff".to_vec()));
    }

    #[test]
    fn a_state_of_another_type_is_never_taken_for_none() {
        testing::set_checkpoint(r#"{"at":"noon"}"#);
        let error = try_resume::<u8>().expect_err("no number").to_string();
        assert!(error.starts_with("the checkpoint that was kept (13 bytes) is no u8: "), "{error}");
        let panic = told(catch_unwind(resume::<u8>).expect_err("it panics"));
        assert!(panic.ends_with("; use muster::try_resume to start over instead"), "{panic}");
    }

    #[test]
    fn a_state_without_a_json_form_keeps_nothing() {
        let panic = catch_unwind(|| checkpoint(&HashMap::from([((1, 2), 3)])));
        let panic = told(panic.expect_err("it panics"));
        assert!(panic.contains("key must be a string"), "{panic}");
        assert!(testing::take_checkpoints().is_empty());
    }
}
