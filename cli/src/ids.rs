//! Ids of tasks and batches: new ones, from this machine's wall clock and the kernel's randomness, and those
//! that follow from a token, a name that a user gives to a task (an order's number, a file's name). Never the
//! same id for two tasks: two new ids would have to agree in 80 random bits, and a token stands for one id in
//! a fleet.

use crate::exit::Failure;
use anyhow::Context as _;
use muster_protocol::{BatchId, TaskId};
use muster_wire::process;
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

/// Random bits of an id; the rest is the time in milliseconds.
const RANDOM_BITS: u32 = 80;

/// An id for a task.
pub fn new_task() -> anyhow::Result<TaskId> {
    Ok(TaskId(number()?))
}

/// An id for tasks that are submitted together.
pub fn new_batch() -> anyhow::Result<BatchId> {
    Ok(BatchId(number()?))
}

fn number() -> anyhow::Result<u128> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let half = || process::random().context("the kernel gives no random bytes");
    let random = (u128::from(half()?) << 64 | u128::from(half()?)) & ((1 << RANDOM_BITS) - 1);
    Ok((now.as_millis() << RANDOM_BITS) | random)
}

/// The longest token, in bytes: a path or a URL fits.
const SIZE_MAX: usize = 1_024;

/// A task's id, or a token that stands for one.
///
/// The id for a token is the first 128 bits of the SHA-256 of the fleet's name, a zero byte and the
/// token; for one of several tasks, followed by a zero byte and its number from 1 on in decimal. 128
/// bits do not collide by chance: two tokens with one id would take about 10^19 tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(String);

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > SIZE_MAX {
            return Err(format!("an id is that of a task, or a name of 1 to {SIZE_MAX} bytes"));
        }
        Ok(Token(text.into()))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Token {
    /// The id of a single task.
    pub fn id(&self, fleet: &str) -> TaskId {
        self.0.parse().unwrap_or_else(|_| TaskId(hash(&[fleet, &self.0])))
    }

    /// The ids of several tasks and of their batch. Not for a task's id, which names a single task.
    pub fn ids(&self, fleet: &str, count: u64) -> anyhow::Result<(Vec<TaskId>, BatchId)> {
        if self.0.parse::<TaskId>().is_ok() {
            let failure = Failure::user(
                "this --id is the id of one task, but --count asks for several tasks",
            );
            return Err(failure.hint("choose a name for all of them: --id order-4711").into());
        }
        let number = |number: u64| TaskId(hash(&[fleet, &self.0, &number.to_string()]));
        Ok(((1..=count).map(number).collect(), BatchId(hash(&[fleet, &self.0]))))
    }
}

fn hash(parts: &[&str]) -> u128 {
    let digest = Sha256::digest(parts.join("\0"));
    digest.iter().take(16).fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        text.parse().expect("a token")
    }

    #[test]
    fn a_token_has_one_id_in_one_fleet() {
        let id = token("order-4711").id("shops");
        // The same value as from `printf 'shops\0order-4711' | sha256sum`.
        assert_eq!(id, TaskId(0xc6ba43e8e0bdbaa0f758f6582bf9ba7f));
        assert_ne!(id, token("order-4712").id("shops"));
        assert_ne!(id, token("order-4711").id("boats"));
    }

    #[test]
    fn the_id_of_a_task_is_itself() {
        let id = TaskId(0x0190_0000_0000_1234_5678_9abc_def0_1234);
        assert_eq!(token(&id.to_string()).id("f"), id);
        assert!(token(&id.to_string()).ids("f", 2).is_err());
    }

    #[test]
    fn several_tasks_of_one_token_are_the_same_ones_again() {
        let (ids, batch) = token("night").ids("f", 12).expect("a token");
        let mut different = ids.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 12);
        let (more, same) = token("night").ids("f", 20).expect("a token");
        assert_eq!((&more[..12], same), (&ids[..], batch));
        assert_ne!(ids[0], token("night1").id("f"), "parts do not run together");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        assert!("".parse::<Token>().is_err() && "x".repeat(1_025).parse::<Token>().is_err());
    }

    #[test]
    fn ids_differ_and_begin_with_the_time() {
        let (a, b) = (new_task().expect("random"), new_task().expect("random"));
        assert_ne!(a, b);
        assert!((a.0 >> 80).abs_diff(b.0 >> 80) < 60_000);
        assert_eq!(a.to_string().parse(), Ok(a));
    }
}
