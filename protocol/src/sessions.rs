//! A master's sessions: one for each connection to the registry, each with a [`Fleet`] of its own.
//! Holds what one session leaves to the next: proof that earlier sessions are over, and which revisions
//! this process knows. Never decides about a worker or a task (`fleet` does).
//!
//! [`Fleet`]: crate::fleet::Fleet

pub use crate::fleet::Memory;

use crate::{
    Revision, SessionId,
    fleet::{Event, Loaded},
    lease::CasAnswer,
    registry::{Mark, Marks},
    subject::Bucket,
};
use alloc::vec::Vec;

/// How many earlier sessions of a process its lease names, so that other masters need not wait for
/// them. A connection that breaks every second makes as many in half a minute; earlier ones have been
/// over for so long that nobody waits for them.
pub const REMEMBERS_MAX: usize = 32;

/// See the [module](self).
///
/// Call [`begin`](Sessions::begin) for each connection, [`heard`](Sessions::heard) for each event that
/// the registry reports in it, [`loaded`](Sessions::loaded) for each bucket that was read to its end,
/// and [`broken`](Sessions::broken) when the connection ends.
#[derive(Debug)]
pub struct Sessions {
    /// Sessions of earlier processes that are proven over by the lock of the state directory.
    proven: Vec<SessionId>,
    /// Earlier sessions of this process, the oldest first.
    own: Vec<SessionId>,
    /// The highest revisions that this process knows to exist or to have existed.
    known: Marks,
    /// Whether `known` comes from the state directory alone, that is from before this process.
    from_disk: bool,
    memory: Memory,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    session: SessionId,
    ends: Marks,
    unloaded: Vec<Bucket>,
    is_up: bool,
}

impl Sessions {
    /// The sessions of a process that has not connected yet. `proven` and `known` are what its state
    /// directory holds of earlier processes.
    pub fn new(proven: Vec<SessionId>, known: Marks) -> Self {
        Sessions {
            proven,
            own: Vec::new(),
            known,
            from_disk: true,
            memory: Memory::default(),
            current: None,
        }
    }

    /// A connection is up. `ends` are the ends of the streams, read in this connection before anything
    /// else; `memory` is what the previous session has left.
    pub fn begin(&mut self, session: SessionId, ends: Marks, memory: Memory) {
        if let Some(before) = self.current.take() {
            // A missing revision stays known until a guard covers it.
            if before.unloaded.is_empty() && !memory.owes_guard {
                self.known = before.ends;
            }
            self.own.push(before.session);
            let surplus = self.own.len().saturating_sub(REMEMBERS_MAX);
            self.own.drain(..surplus);
            self.memory = memory;
        }
        if core::mem::take(&mut self.from_disk) {
            // A state directory that was used for another registry knows nothing of this one.
            for bucket in Bucket::FOLLOWED {
                if self.known.of(bucket).stream != ends.of(bucket).stream {
                    self.known.set(bucket, Mark::default());
                }
            }
        }
        let unloaded = Bucket::FOLLOWED.to_vec();
        self.current = Some(Current { session, ends, unloaded, is_up: true });
    }

    /// The session, once one has begun.
    pub fn session(&self) -> Option<SessionId> {
        self.current.as_ref().map(|current| current.session)
    }

    /// Whether this is the current session, and its connection is up.
    pub fn is_current(&self, session: SessionId) -> bool {
        self.current.as_ref().is_some_and(|current| current.is_up && current.session == session)
    }

    /// Whether a connection is up.
    pub fn is_up(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.is_up)
    }

    /// Sessions that are certainly over: those of earlier processes, by the lock of the state
    /// directory, and the earlier ones of this process.
    pub fn succeeds(&self) -> Vec<SessionId> {
        self.proven.iter().chain(&self.own).copied().collect()
    }

    /// The earlier sessions of this process, whose knowledge it still has.
    pub fn remembers(&self) -> Vec<SessionId> {
        self.own.clone()
    }

    /// What the previous session has left.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The highest revisions that are known to exist, for the state directory.
    pub fn known(&self) -> &Marks {
        let loaded = self.current.as_ref().filter(|current| current.unloaded.is_empty());
        loaded.map_or(&self.known, |current| &current.ends)
    }

    /// Notes the revisions in an event of the current session.
    pub fn heard(&mut self, event: &Event) {
        let Some(current) = &mut self.current else { return };
        if let Some((bucket, revision)) = revision_of(event) {
            current.ends.raise(bucket, revision);
        }
    }

    /// A bucket was read to its end. After the last bucket, returns what a
    /// [`Fleet`](crate::fleet::Fleet) has to know.
    pub fn loaded(&mut self, bucket: Bucket) -> Option<Loaded> {
        let current = self.current.as_mut()?;
        let before = current.unloaded.len();
        current.unloaded.retain(|left| *left != bucket);
        if before == 0 || !current.unloaded.is_empty() {
            return None;
        }
        Some(Loaded { ends: current.ends, known: self.known })
    }

    /// The connection is broken. Returns whether it was up until now.
    pub fn broken(&mut self) -> bool {
        let up = self.current.as_mut().map(|current| &mut current.is_up);
        up.is_some_and(core::mem::take)
    }
}

/// The bucket and the revision that an event proves to exist.
fn revision_of(event: &Event) -> Option<(Bucket, Revision)> {
    Some(match event {
        Event::LeaseSeen(_, revision) | Event::LeaseGone(_, revision) => {
            (Bucket::Workers, *revision)
        }
        Event::LeaseWritten { answer: CasAnswer::Written(revision), .. } => {
            (Bucket::Workers, *revision)
        }
        Event::MasterSeen(_, revision) | Event::GuardSeen(_, revision) => {
            (Bucket::Masters, *revision)
        }
        Event::MasterWritten { answer: CasAnswer::Written(revision), .. }
        | Event::GuardWritten { answer: CasAnswer::Written(revision), .. } => {
            (Bucket::Masters, *revision)
        }
        Event::TaskSeen(_, revision) => (Bucket::Tasks, *revision),
        Event::TaskWritten { answer: CasAnswer::Written(revision), .. } => {
            (Bucket::Tasks, *revision)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
