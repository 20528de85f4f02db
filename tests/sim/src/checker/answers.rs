//! What a worker owes to the master that dispatches: a run, or a word that there is none. A dispatch
//! that nobody answers leaves its task with a worker that does nothing about it.

use crate::{
    network::LinkId,
    process::worker::SLOTS,
    world::{Nanos, SECOND, SimEvent, World},
};
use muster_protocol::{
    Time,
    message::{AttemptKey, Dispatch, Hello, ToMaster, ToWorker},
};
use std::collections::BTreeMap;

/// How long a worker that has a free slot and gets its turns may take: five tries to get ready what is
/// needed, a second apart, and a few seconds for the rest.
const ANSWER_WITHIN: Nanos = 10 * SECOND;

/// What each worker, by index, has heard and said of an attempt.
#[derive(Debug, Default)]
pub struct Answers {
    /// Dispatches not answered yet: the link, and when the first came.
    owed: BTreeMap<(usize, AttemptKey), (LinkId, Nanos)>,
    /// Outcomes that were sent, and by which link, until they are acknowledged.
    sent: BTreeMap<(usize, AttemptKey), LinkId>,
}

impl Answers {
    /// The attempt runs.
    pub fn runs(&mut self, at: usize, key: AttemptKey) {
        self.owed.remove(&(at, key));
    }

    /// A worker says something.
    pub fn said(&mut self, at: usize, link: LinkId, message: &ToMaster) {
        match message {
            ToMaster::Finished { key, .. } => {
                self.owed.remove(&(at, *key));
                self.sent.insert((at, *key), link);
            }
            // Whoever gave it sends it again, or sees that the session is another.
            ToMaster::Hello(Hello { attempts, .. }) => self.owed.retain(|(of, key), (by, _)| {
                (*of, *by) != (at, link) || attempts.iter().any(|held| held.key == *key)
            }),
            _ => {}
        }
    }

    /// A link is down: what was said on it is said again on another.
    pub fn link_lost(&mut self, at: usize, link: LinkId) {
        self.owed.retain(|(of, _), (by, _)| (*of, *by) != (at, link));
        self.sent.retain(|(of, _), by| (*of, *by) != (at, link));
    }

    /// Its session is over, or its process: the lease tells what its attempts come to.
    pub fn session_over(&mut self, at: usize) {
        self.owed.retain(|(of, _), _| *of != at);
    }

    /// Its process is over.
    pub fn process_over(&mut self, at: usize) {
        self.session_over(at);
        self.sent.retain(|(of, _), _| *of != at);
    }
}

impl World {
    /// A worker's mind hears a master.
    pub fn worker_hears(&mut self, at: usize, link: LinkId, message: &ToWorker) {
        match message {
            ToWorker::Dispatch(dispatch) => self.dispatch_heard(at, link, dispatch),
            ToWorker::Ack { key, .. } => {
                self.checker.answers.sent.remove(&(at, *key));
            }
            _ => {}
        }
    }

    fn dispatch_heard(&mut self, at: usize, link: LinkId, dispatch: &Dispatch) {
        let (worker, key) = (&self.workers[at], dispatch.key);
        let is_meant =
            worker.keeper.session() == dispatch.session && worker.deadman.end().get() != Time::ZERO;
        let is_answered =
            worker.runs.contains_key(&key) || self.checker.answers.sent.contains_key(&(at, key));
        // What comes from a link that is gone meanwhile is told on the next one.
        if !is_meant || is_answered || !worker.links.contains_key(&link) {
            return;
        }
        let since = self.now;
        self.checker.answers.owed.entry((at, key)).or_insert((link, since));
        self.later(ANSWER_WITHIN, SimEvent::AnswerDue { worker: at, key, since });
    }

    /// A dispatch came a while ago.
    pub fn no_dispatch_goes_unanswered(&mut self, at: usize, key: AttemptKey, since: Nanos) {
        match self.checker.answers.owed.get(&(at, key)) {
            Some(&(_, of)) if of == since => {}
            _ => return,
        }
        let worker = &self.workers[at];
        let still = self.still_until(&worker.process).max(worker.mind_desk.busy_until);
        let full = if worker.runs.len() >= SLOTS as usize { self.now } else { worker.full_until };
        let due = since.max(still).max(full) + ANSWER_WITHIN;
        if self.now < due {
            return self.at(due, SimEvent::AnswerDue { worker: at, key, since });
        }
        self.violate("no_dispatch_goes_unanswered", || {
            format!("{key:?} came to worker {at} at {:.3} s", since as f64 / SECOND as f64)
        });
    }
}
