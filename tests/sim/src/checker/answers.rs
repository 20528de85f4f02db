//! Checks that a worker answers every dispatch: it runs the attempt, or says that it does not. A task
//! whose dispatch stays unanswered would wait for that worker for ever.

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

/// How long a worker that has a free slot and gets its turns may take to answer: five tries to prepare
/// the attempt, one second apart, and a few seconds of margin.
const ANSWER_WITHIN: Nanos = 10 * SECOND;

/// What each worker, by its index, has received and sent about an attempt.
#[derive(Debug, Default)]
pub struct Answers {
    /// Dispatches that are not answered yet: the link, and when the first one came.
    owed: BTreeMap<(usize, AttemptKey), (LinkId, Nanos)>,
    /// Outcomes that were sent and are not acknowledged yet, with the link on which they were sent.
    sent: BTreeMap<(usize, AttemptKey), LinkId>,
}

impl Answers {
    /// The attempt runs, which answers its dispatch.
    pub fn runs(&mut self, at: usize, key: AttemptKey) {
        self.owed.remove(&(at, key));
    }

    /// A worker sends a message.
    pub fn said(&mut self, at: usize, link: LinkId, message: &ToMaster) {
        match message {
            ToMaster::Finished { key, .. } => {
                self.owed.remove(&(at, *key));
                self.sent.insert((at, *key), link);
            }
            // The master that wrote the dispatch sends it again, or sees that the session has changed.
            ToMaster::Hello(Hello { attempts, .. }) => self.owed.retain(|(of, key), (by, _)| {
                (*of, *by) != (at, link) || attempts.iter().any(|held| held.key == *key)
            }),
            _ => {}
        }
    }

    /// A link is down: its dispatches and outcomes are sent again on another link.
    pub fn link_lost(&mut self, at: usize, link: LinkId) {
        self.owed.retain(|(of, _), (by, _)| (*of, *by) != (at, link));
        self.sent.retain(|(of, _), by| (*of, *by) != (at, link));
    }

    /// The session of a worker has ended: the master decides about its attempts by the lease.
    pub fn session_over(&mut self, at: usize) {
        self.owed.retain(|(of, _), _| *of != at);
    }

    /// The process of a worker has ended.
    pub fn process_over(&mut self, at: usize) {
        self.session_over(at);
        self.sent.retain(|(of, _), _| *of != at);
    }
}

impl World {
    /// A worker's state machine receives a message from a master.
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
        let is_meant = worker.lease_loop.session() == dispatch.session
            && worker.deadman.end().get() != Time::ZERO;
        let is_answered =
            worker.runs.contains_key(&key) || self.checker.answers.sent.contains_key(&(at, key));
        // A worker ignores a frame from a link that is down; the worker and master repeat it on the next
        // link.
        if !is_meant || is_answered || !worker.links.contains_key(&link) {
            return;
        }
        let since = self.now;
        self.checker.answers.owed.entry((at, key)).or_insert((link, since));
        self.later(ANSWER_WITHIN, SimEvent::AnswerDue { worker: at, key, since });
    }

    /// Checks, some time after a dispatch came, that the worker has answered it.
    pub fn no_dispatch_goes_unanswered(&mut self, at: usize, key: AttemptKey, since: Nanos) {
        match self.checker.answers.owed.get(&(at, key)) {
            Some(&(_, of)) if of == since => {}
            _ => return,
        }
        let worker = &self.workers[at];
        let still = self.still_until(&worker.process).max(worker.loop_queue.busy_until);
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
