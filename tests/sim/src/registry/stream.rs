//! A stream of the registry: compare-and-set on its keys, and the loss of its newest writes. Never
//! accepts a write whose expected revision is not the key's.

use crate::world::Nanos;
use muster_protocol::{
    ABSENT, Revision,
    lease::CasAnswer,
    registry::{Mark, StreamId},
};
use std::collections::BTreeMap;

/// A stream: the newest value of each key, and the history of its writes.
#[derive(Debug)]
pub struct Stream<K, V> {
    /// The identity of the stream; a stream that is created again has another one.
    id: StreamId,
    last: Revision,
    /// The present values.
    pub values: BTreeMap<K, (V, Revision)>,
    /// The history, without the values that have expired.
    log: Vec<(Nanos, Revision, K, Option<V>)>,
}

impl<K: Ord + Clone, V: Clone> Stream<K, V> {
    pub(super) fn new() -> Self {
        Stream { id: StreamId(1), last: ABSENT, values: BTreeMap::new(), log: Vec::new() }
    }

    /// The value and the revision of a key.
    pub fn get(&self, key: &K) -> Option<(V, Revision)> {
        self.values.get(key).cloned()
    }

    /// The end of the stream.
    pub fn end(&self) -> Mark {
        Mark { stream: self.id, revision: self.last }
    }

    /// The time of the newest write.
    pub fn written_at(&self) -> Nanos {
        self.log.last().map_or(0, |(at, ..)| *at)
    }

    /// The value that a server without the stream's newest write knows.
    fn behind(&self, key: &K) -> Option<(V, Revision)> {
        let newest = self.get(key)?;
        if newest.1 != self.last {
            return Some(newest);
        }
        let earlier = self.log.iter().rev().filter(|(_, _, of, _)| of == key).nth(1);
        earlier.and_then(|(_, at, _, value)| Some((value.clone()?, *at)))
    }

    /// The value that a server knows; with `lags` it is a server without the newest write.
    pub fn read(&self, key: &K, lags: bool) -> Option<(V, Revision)> {
        if lags { self.behind(key) } else { self.get(key) }
    }

    /// Deletes the stream and creates it again.
    pub fn make_anew(&mut self) {
        *self = Stream { id: StreamId(self.id.0 + 1), ..Stream::new() };
    }

    fn revision(&self, key: &K) -> Revision {
        self.values.get(key).map_or(ABSENT, |(_, at)| *at)
    }

    /// Compare-and-set of a key.
    pub fn cas(
        &mut self,
        now: Nanos,
        expect: Revision,
        key: K,
        value: V,
        lags: bool,
    ) -> CasAnswer<V> {
        // The server that acts as the leader judges by what it knows.
        let shown = self.read(&key, lags).map_or(ABSENT, |(_, at)| at);
        if shown != expect || self.revision(&key) != expect {
            return CasAnswer::Conflict(self.read(&key, lags));
        }
        self.last += 1;
        self.values.insert(key.clone(), (value.clone(), self.last));
        self.log.push((now, self.last, key, Some(value)));
        CasAnswer::Written(self.last)
    }

    /// Deletes an expired value, unless it was replaced. Returns whether the value was still there.
    pub fn expire(&mut self, key: &K, revision: Revision) -> bool {
        if self.revision(key) != revision {
            return false;
        }
        self.values.remove(key);
        for (_, _, of, value) in &mut self.log {
            if of == key {
                *value = None;
            }
        }
        true
    }

    /// Loses every write after the time `to`, as a server does that loses what was not on its disk.
    pub fn rewind(&mut self, to: Nanos) {
        self.log.retain(|(at, ..)| *at <= to);
        self.values.clear();
        self.last = self.log.last().map_or(ABSENT, |(_, at, ..)| *at);
        for (_, at, key, value) in &self.log {
            if let Some(value) = value {
                self.values.insert(key.clone(), (value.clone(), *at));
            }
        }
    }
}
