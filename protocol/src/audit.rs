//! The audit: what people and programs have asked masters to decide, and how it ended. Its entries form a
//! chain: each names the SHA-256 of the one before, so that none can be changed or taken out unnoticed. Never
//! writes one.
//!
//! The chain shows changes by somebody who cannot write the whole rest of it anew. Whoever may write to the
//! registry can do that. Note the last entry elsewhere from time to time, and compare.

use crate::{
    Digest, MasterId, Nonce,
    record::{Unknown, record},
    role::Actor,
    time::WallMillis,
};
use alloc::{collections::VecDeque, string::String, vec::Vec};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// The most decisions in one entry.
pub const ENTRY_DECISIONS_MAX: usize = 64;

/// The most decisions that wait to be written. Further ones are only counted.
pub const WAITING_MAX: usize = 1_024;

/// The most objects that a decision names.
pub const OBJECTS_MAX: usize = 16;

/// The most bytes of the name of an object. Longer ones are cut.
pub const OBJECT_SIZE_MAX: usize = 256;

/// The most bytes of the sentence that says why something was not done. Longer ones are cut.
pub const REASON_SIZE_MAX: usize = 512;

/// One value of the audit's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 1 for the first of all entries, and one more for each further one.
    pub number: u64,
    /// The SHA-256 of the entry before, as its bytes are stored; absent in the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// When it was written, by the wall clock of its master. For people.
    pub at: WallMillis,
    /// The master that wrote it.
    pub master: MasterId,
    /// A random number, by which the master recognises its own write.
    pub write: Nonce,
    /// What was decided, in this order.
    pub decisions: Vec<Decision>,
    /// How many decisions are not noted, because too many came at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(Entry);

/// A request, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who asked.
    pub actor: Actor,
    /// What for: the endpoint's word, such as `task.cancel`.
    pub verb: String,
    /// What the request named: the first [`OBJECTS_MAX`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// How many others it named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// How often the same came in a short time; the objects are those of all of them.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u64,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, with this sentence. Nothing was done.
    Refused(String),
    /// It failed, with this sentence. It may have been done, or some of it.
    Failed(String),
}

impl Outcome {
    /// A word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Refused(_) => "refused",
            Outcome::Failed(_) => "failed",
        }
    }

    /// Why it was not done.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Outcome::Done => None,
            Outcome::Refused(reason) | Outcome::Failed(reason) => Some(reason),
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_once(times: &u64) -> bool {
    *times == 1
}

fn once() -> u64 {
    1
}

/// Cuts a text to at most so many bytes.
fn cut(text: &mut String, size_max: usize) {
    text.truncate(text.floor_char_boundary(size_max));
}

impl Decision {
    /// A decision that names these objects, as far as it may.
    pub fn new(actor: Actor, verb: &str, mut objects: Vec<String>, outcome: Outcome) -> Self {
        let more = objects.len().saturating_sub(OBJECTS_MAX) as u64;
        objects.truncate(OBJECTS_MAX);
        objects.iter_mut().for_each(|object| cut(object, OBJECT_SIZE_MAX));
        let mut outcome = outcome;
        if let Outcome::Refused(reason) | Outcome::Failed(reason) = &mut outcome {
            cut(reason, REASON_SIZE_MAX);
        }
        Decision { actor, verb: verb.into(), objects, more, outcome, times: 1 }
    }

    /// Whether two decisions may share a place: the same asked for the same, and it ended in the same way.
    fn is_like(&self, other: &Decision) -> bool {
        self.actor == other.actor
            && self.verb == other.verb
            && self.outcome.word() == other.outcome.word()
    }

    fn add(&mut self, other: Decision) {
        self.times += other.times;
        let room = OBJECTS_MAX - self.objects.len().min(OBJECTS_MAX);
        let beyond = other.objects.len().saturating_sub(room) as u64;
        self.more += other.more + beyond;
        self.objects.extend(other.objects.into_iter().take(room));
    }
}

/// Decisions that wait to be written. What the same user asks for again shares a place, so that a user fills
/// the audit no faster with many requests than with few.
#[derive(Debug, Default)]
pub struct Waiting {
    decisions: VecDeque<Decision>,
    lost: u64,
}

impl Waiting {
    /// Adds a decision; counts it only, if too many wait.
    pub fn add(&mut self, decision: Decision) {
        if let Some(like) = self.decisions.iter_mut().find(|like| like.is_like(&decision)) {
            return like.add(decision);
        }
        match self.decisions.len() < WAITING_MAX {
            true => self.decisions.push_back(decision),
            false => self.lost += 1,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.lost == 0
    }

    /// Takes what the next entry has: decisions, and how many are lost.
    pub fn take(&mut self) -> (Vec<Decision>, u64) {
        let count = self.decisions.len().min(ENTRY_DECISIONS_MAX);
        (self.decisions.drain(..count).collect(), core::mem::take(&mut self.lost))
    }
}

/// A place in the chain: an entry's number, and the SHA-256 of its bytes. As text `NUMBER:sha256:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The entry's number.
    pub number: u64,
    /// The SHA-256 of the entry's bytes.
    pub digest: Digest,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.digest)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(':');
        let place = parts.and_then(|(number, digest)| {
            Some(Place { number: number.parse().ok()?, digest: digest.parse().ok()? })
        });
        place.ok_or(
            "a place in the audit is NUMBER:sha256:DIGITS, as `muster audit verify` prints it",
        )
    }
}

/// Where the chain is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Entries are missing, or come twice.
    #[error(
        "entry {found} follows entry {after}: entries between them are gone, or others were put in"
    )]
    Number {
        /// The number of the entry before.
        after: u64,
        /// The number of this one.
        found: u64,
    },
    /// The entry before is not the one that this entry follows.
    #[error("entry {0} was written after another entry {before} than the one that is stored", before = .0 - 1)]
    Previous(u64),
    /// The entry is not the one that was noted.
    #[error("entry {0} is not the one that you noted")]
    Noted(u64),
    /// The chain ends before the entry that was noted.
    #[error("entry {0}, which you noted, is gone")]
    Ended(u64),
}

/// Reads the chain, entry after entry, oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain {
    first: Option<u64>,
    last: Option<Place>,
    noted: Option<Place>,
}

impl Chain {
    /// A chain that has this entry, as somebody noted it.
    pub fn with(noted: Option<Place>) -> Self {
        Chain { noted, ..Chain::default() }
    }

    /// Takes the next entry, whose bytes have this digest.
    pub fn follow(&mut self, entry: &Entry, digest: Digest) -> Result<(), Broken> {
        let found = entry.number;
        if let Some(last) = self.last {
            if last.number.checked_add(1) != Some(found) {
                return Err(Broken::Number { after: last.number, found });
            }
            if entry.previous != Some(last.digest) {
                return Err(Broken::Previous(found));
            }
        }
        let place = Place { number: found, digest };
        if self.noted.is_some_and(|noted| noted.number == found && noted != place) {
            return Err(Broken::Noted(found));
        }
        self.first.get_or_insert(found);
        self.last = Some(place);
        Ok(())
    }

    /// The chain has ended. Returns the number of its first entry, and its end; nothing if it is empty.
    pub fn end(self) -> Result<Option<(u64, Place)>, Broken> {
        let end = self.last.map_or(0, |last| last.number);
        match self.noted {
            Some(noted) if noted.number > end => Err(Broken::Ended(noted.number)),
            _ => Ok(self.first.zip(self.last)),
        }
    }
}

#[cfg(test)]
mod tests;
