//! The identities and ends of the registry's streams. A stream that ends before a revision that
//! somebody knows has lost writes. Never reads the values in the streams.

use crate::{
    Nonce, Revision, SessionId,
    record::{Unknown, record},
    subject::Bucket,
    time::WallMillis,
};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Names one creation of a stream: nanoseconds since 1970, by the clock of the registry's host. A
/// stream that was deleted and made again counts its revisions from 1 again, and has another id. 0
/// where the id is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

/// A revision and the stream that it belongs to. Revisions of two streams cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The stream.
    pub stream: StreamId,
    /// A revision in it; [`ABSENT`](crate::ABSENT) where none is known.
    pub revision: Revision,
}

impl Mark {
    /// Whether no revision is known.
    pub fn is_none(self) -> bool {
        self.revision == crate::ABSENT
    }

    /// Whether a stream that now ends at `end` lacks this revision: it ends before it, or it is another
    /// stream.
    pub fn is_missing_from(self, end: Mark) -> bool {
        !self.is_none() && (self.stream != end.stream || self.revision > end.revision)
    }

    /// The later of two marks of one stream; `other` if it is of another stream.
    pub fn raised_to(self, other: Mark) -> Mark {
        if other.is_none() || (self.stream == other.stream && self.revision >= other.revision) {
            self
        } else {
            other
        }
    }
}

/// The latest revision under which an attempt was dispatched to a session of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// The session of the worker; `None` before the first attempt.
    pub session: Option<SessionId>,
    /// The latest revision of the tasks' stream under which an attempt was dispatched to it.
    pub upto: Mark,
}

/// A mark for each bucket that masters follow. As JSON, it is a list in the order of
/// [`Bucket::FOLLOWED`]. A list of a later version may be longer: the further marks are ignored. A list
/// of an earlier version may be shorter: the absent marks are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Mark>")]
pub struct Marks([Mark; Bucket::FOLLOWED.len()]);

impl From<Vec<Mark>> for Marks {
    fn from(list: Vec<Mark>) -> Self {
        let mut marks = Marks::default();
        for (mark, known) in marks.0.iter_mut().zip(list) {
            *mark = known;
        }
        marks
    }
}

impl Marks {
    /// The mark of a bucket; none for a bucket that masters do not follow.
    pub fn of(&self, bucket: Bucket) -> Mark {
        slot(bucket).map_or(Mark::default(), |slot| self.0[slot])
    }

    /// Sets the mark of a bucket.
    pub fn set(&mut self, bucket: Bucket, mark: Mark) {
        if let Some(slot) = slot(bucket) {
            self.0[slot] = mark;
        }
    }

    /// This revision of a bucket is known to exist. Changes nothing if a later one is known.
    pub fn raise(&mut self, bucket: Bucket, revision: Revision) {
        if let Some(slot) = slot(bucket) {
            self.0[slot].revision = self.0[slot].revision.max(revision);
        }
    }

    /// The first bucket that lacks a known revision, given the present ends of the streams.
    pub fn missing_from(&self, ends: &Marks) -> Option<Bucket> {
        Bucket::FOLLOWED
            .into_iter()
            .find(|&bucket| self.of(bucket).is_missing_from(ends.of(bucket)))
    }

    /// Whether nothing was ever written to any bucket.
    pub fn are_empty(&self) -> bool {
        self.0.iter().all(|mark| mark.is_none())
    }
}

fn slot(bucket: Bucket) -> Option<usize> {
    Bucket::FOLLOWED.iter().position(|&followed| followed == bucket)
}

/// Names one process of the registry's server. While that process lives the registry loses nothing: it
/// has in memory what its disk may lack. Exists only where the registry is one server; a cluster has no
/// such name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub String);

/// The value under [`GUARD_KEY`] in the masters' bucket: the registry has lost writes, so no master
/// dispatches anything until every run from before has certainly ended.
///
/// It is in the registry so that it binds masters that did not notice the loss, and masters that start
/// later. Each master waits [`wait_ms`](FailoverGuard::wait_ms) on its own clock from when it first saw
/// the guard; the first one whose wait is over lifts it for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverGuard {
    /// Distinguishes this guard from an earlier one.
    pub nonce: Nonce,
    /// The session of the master that raised it.
    pub raised_by: SessionId,
    /// Whether the guard is lifted.
    pub lifted: bool,
    /// The end of the tasks' stream, as far as that master knew: when the guard is over, so is every
    /// attempt in a record that is not newer.
    pub tasks: Mark,
    /// How long every master waits from when it first saw the guard, in milliseconds.
    pub wait_ms: u64,
    /// Why, as a sentence.
    pub reason: String,
    /// When the guard was raised, on that master's wall clock. For people.
    pub raised_at: WallMillis,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(FailoverGuard);

/// The key of the [`FailoverGuard`]. It has no dot, unlike the keys of masters' leases.
pub const GUARD_KEY: &str = "guard";

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(stream: u64, revision: Revision) -> Mark {
        Mark { stream: StreamId(stream), revision }
    }

    #[test]
    fn a_stream_lacks_what_is_known_when_it_ends_before_or_is_another() {
        let end = mark(1, 10);
        assert!(!mark(1, 10).is_missing_from(end));
        assert!(mark(1, 11).is_missing_from(end));
        assert!(mark(2, 1).is_missing_from(end), "it was made anew");
        assert!(!mark(2, 0).is_missing_from(end), "nothing is known of it");
    }

    #[test]
    fn every_followed_bucket_has_a_mark_of_its_own() {
        let mut known = Marks::default();
        for bucket in Bucket::FOLLOWED {
            let ends = known;
            known.raise(bucket, 5);
            assert_eq!(known.missing_from(&ends), Some(bucket));
            assert_eq!(known.missing_from(&known), None);
            known.set(bucket, mark(3, 5));
        }
        known.raise(Bucket::Checkpoints, 5);
        assert!(known.of(Bucket::Checkpoints).is_none());
    }
}
