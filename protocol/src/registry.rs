//! What can be known of the registry's streams without reading them: which stream it is, and how far
//! it reaches. A stream that reaches less far than somebody knows has lost writes. Never the values.

use crate::{Nonce, Revision, SessionId, subject::Bucket, time::WallMillis};
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Names one creation of a stream: nanoseconds since 1970, by the clock of the registry's host. A
/// stream that was deleted and made anew counts its revisions from 1 again, and has another id.
/// 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

/// A revision together with the stream that gave it. Revisions of two streams cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The stream.
    pub stream: StreamId,
    /// A revision in it; [`ABSENT`](crate::ABSENT) where nothing is known.
    pub revision: Revision,
}

impl Mark {
    /// Whether nothing is known.
    pub fn is_none(self) -> bool {
        self.revision == crate::ABSENT
    }

    /// Whether a stream that now ends at `end` lacks what is known here: it ends before, or it is
    /// another stream.
    pub fn is_missing_from(self, end: Mark) -> bool {
        !self.is_none() && (self.stream != end.stream || self.revision > end.revision)
    }

    /// The later of two marks of one stream; the other mark where the stream is another.
    pub fn raised_to(self, other: Mark) -> Mark {
        if other.is_none() || (self.stream == other.stream && self.revision >= other.revision) {
            self
        } else {
            other
        }
    }
}

/// Up to where a session of a worker holds attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// The session of the worker; `None` before the first attempt.
    pub session: Option<SessionId>,
    /// The latest revision of the tasks' stream under which it was given an attempt.
    pub upto: Mark,
}

/// A mark for each bucket that masters follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks([Mark; Bucket::FOLLOWED.len()]);

impl Marks {
    /// The mark of a bucket; none of a bucket that masters do not follow.
    pub fn of(&self, bucket: Bucket) -> Mark {
        slot(bucket).map_or(Mark::default(), |slot| self.0[slot])
    }

    /// Sets the mark of a bucket.
    pub fn set(&mut self, bucket: Bucket, mark: Mark) {
        if let Some(slot) = slot(bucket) {
            self.0[slot] = mark;
        }
    }

    /// This revision of a bucket is known to exist. Changes nothing where a later one is known.
    pub fn raise(&mut self, bucket: Bucket, revision: Revision) {
        if let Some(slot) = slot(bucket) {
            self.0[slot].revision = self.0[slot].revision.max(revision);
        }
    }

    /// The first bucket that lacks what is known here, given where each ends now.
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

/// Names one life of the registry's server process. While it lives the registry loses nothing: it has
/// in memory what its disk may lack. Only where the registry is one server; a cluster has no such name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub String);

/// The value under [`GUARD_KEY`] in the masters' bucket: the registry has lost writes, so no master
/// dispatches anything until all that ran before has certainly ended.
///
/// It stands in the registry so that it binds masters that did not notice the loss, and masters that
/// start later. Each master waits [`wait_ms`](FailoverGuard::wait_ms) from when it first saw the guard,
/// on its own clock; the first whose wait is over lifts it for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverGuard {
    /// Tells this guard from an earlier one.
    pub nonce: Nonce,
    /// The session of the master that raised it.
    pub raised_by: SessionId,
    /// Whether it is over.
    pub lifted: bool,
    /// Where the tasks ended, as far as that master knew: an attempt in a record that is not newer is over
    /// when the guard is.
    pub tasks: Mark,
    /// How long every master waits from when it first saw this, in milliseconds.
    pub wait_ms: u64,
    /// Why, as a sentence.
    pub reason: String,
    /// For people: when it was raised.
    pub raised_at: WallMillis,
}

/// The key of the [`FailoverGuard`]. Keys of masters' leases have a dot in them, so it is none of those.
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
