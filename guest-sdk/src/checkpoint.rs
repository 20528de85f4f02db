//! Checkpoints: the state that an attempt keeps for later attempts. Never reports a state as kept that
//! is not, and never starts over silently when there is a state that it cannot read.

use std::any::type_name;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(target_family = "wasm")]
use crate::bindings::muster::task::host as worker;
#[cfg(not(target_family = "wasm"))]
use crate::testing as worker;

/// Keeps `state`, as JSON, for the attempts after this one. It replaces the state kept before. When this
/// function returns, the state is stored in the fleet's registry: it survives the loss of this worker
/// and its host.
///
/// A checkpoint costs a write in the registry, some milliseconds; once a second is a good pace. The
/// caller has no error to handle: the worker ends the attempt inside this call if the attempt is no
/// longer the task's current one, or if the state is larger than the task's limit for checkpoints.
///
/// # Panics
///
/// Panics when the state has no JSON form, such as a map whose keys are not strings. The attempt then
/// ends as trapped, and the state kept before stays.
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

/// Returns the state that the task's latest [`checkpoint`] has kept; `None` if there is none, as in
/// every first attempt. From this call on, earlier attempts cannot keep anything any more.
///
/// A task keeps the module it was submitted with, so its attempts write and read the same type.
///
/// # Panics
///
/// Panics when there is a state and it is no `T`. To start over could repeat the task's effects on the
/// outside world, so the task must decide that: see [`try_resume`].
#[must_use]
pub fn resume<T: DeserializeOwned>() -> Option<T> {
    match try_resume() {
        Ok(state) => state,
        Err(error) => panic!("{error}; use muster::try_resume to start over instead"),
    }
}

/// Like [`resume`], but returns an error instead of panicking.
///
/// # Errors
///
/// An error means that there is a state and it is no `T`.
pub fn try_resume<T: DeserializeOwned>() -> Result<Option<T>, ResumeError> {
    let Some(bytes) = resume_bytes() else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| ResumeError {
        wanted: type_name::<T>(),
        found: bytes.len(),
        error,
    })
}

/// Keeps `state` like [`checkpoint`], in the task's own encoding.
pub fn checkpoint_bytes(state: &[u8]) {
    worker::checkpoint(state);
}

/// Returns the bytes of the task's latest checkpoint, under the same rules as [`resume`].
#[must_use]
pub fn resume_bytes() -> Option<Vec<u8>> {
    worker::resume()
}

/// There is a checkpoint, and it is not of the requested type.
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
