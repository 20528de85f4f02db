//! What masters say: run this, stop that, your outcome is known. Saying it twice, late, or on two
//! links changes nothing.

use super::{Attempt, Attempts, Effect, Kill, LinkId, OVER_MAX, Phase};
use crate::{
    Time,
    message::{AttemptKey, Dispatch, ToWorker},
    task::{Data, Outcome, Verdict},
};
use alloc::sync::Arc;
use core::time::Duration;

impl Attempts {
    pub(super) fn told(&mut self, now: Time, link: LinkId, message: ToWorker) {
        match message {
            ToWorker::Dispatch(dispatch) => self.dispatched(link, dispatch),
            ToWorker::Revoke(key) => self.revoked(link, key),
            ToWorker::Ack { key, .. } => {
                if matches!(
                    self.attempts.get(&key),
                    Some(Attempt { phase: Phase::Ended { .. }, .. })
                ) {
                    self.attempts.remove(&key);
                    self.remember(key);
                }
            }
            ToWorker::Drain { deadline_ms } => {
                self.stop(now + Duration::from_millis(deadline_ms));
            }
            // The lease loop and the link loop listen to these.
            ToWorker::Welcome { .. } | ToWorker::Renewed { .. } => {}
        }
    }

    pub(super) fn remember(&mut self, key: AttemptKey) {
        if self.over.insert(key) {
            self.over_order.push_back(key);
        }
        if self.over_order.len() > OVER_MAX
            && let Some(oldest) = self.over_order.pop_front()
        {
            self.over.remove(&oldest);
        }
    }

    pub(super) fn dispatched(&mut self, link: LinkId, dispatch: Dispatch) {
        let key = dispatch.key;
        // One that was under way while a session ended and the next began may be running elsewhere
        // by now: the new lease proves nothing for it.
        if self.closed || self.session != Some(dispatch.session) {
            return;
        }
        if self.attempts.contains_key(&key) || self.over.contains(&key) {
            return;
        }
        let at_hand =
            self.warm.contains(&dispatch.module) && matches!(dispatch.input, Data::Inline(_));
        self.arrivals += 1;
        let arrival = self.arrivals;
        let phase = if at_hand { Phase::Ready } else { Phase::Lacking };
        if at_hand {
            self.ready.insert((arrival, key));
        } else {
            self.dirty.insert(key);
        }
        self.attempts
            .insert(key, Attempt { dispatch: Some(Arc::new(dispatch)), arrival, link, phase });
    }

    pub(super) fn revoked(&mut self, link: LinkId, key: AttemptKey) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            // Never heard of, so it does not run here; the master waits to be told so.
            let outcome = Arc::new(Outcome::bare(Verdict::Cancelled));
            let phase = Phase::Ended { outcome, sent: None };
            self.attempts.insert(key, Attempt { dispatch: None, arrival: 0, link, phase });
            self.dirty.insert(key);
            return;
        };
        match &mut attempt.phase {
            Phase::Running => {
                attempt.phase = Phase::Killed(Kill::Revoked);
                self.outbox.push(Effect::Kill { key, why: Kill::Revoked });
            }
            Phase::Lacking | Phase::Preparing | Phase::Ready => {
                self.outbox.push(Effect::Drop(key));
                self.conclude(key, Outcome::bare(Verdict::Cancelled));
            }
            Phase::Killed(_) => {}
            Phase::Ended { sent, .. } => {
                *sent = None;
                self.dirty.insert(key);
            }
        }
    }
}
