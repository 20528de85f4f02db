//! Frames from masters: dispatch, revoke, preempt, acknowledge, command. A frame that comes twice,
//! late, or on two links changes nothing more.

use super::{Attempt, Attempts, Effect, Intake, Kill, LinkId, Phase, ending::returned, has_room};
use crate::{
    Time, limit,
    message::{AttemptKey, Dispatch, ToWorker, WorkerCommand},
    registry::{Holds, Mark},
    task::Data,
};
use alloc::{sync::Arc, vec::Vec};
use core::time::Duration;

impl Attempts {
    pub(super) fn on_message(&mut self, now: Time, link: LinkId, message: ToWorker) {
        match message {
            ToWorker::Dispatch(dispatch) => self.dispatched(link, dispatch),
            ToWorker::Revoke { key, revision } => self.taken(link, key, revision, Kill::Revoked),
            ToWorker::Preempt { key, revision } => {
                self.taken(link, key, revision, Kill::Preempted);
            }
            ToWorker::Ack { key, .. } => self.acknowledged(key),
            ToWorker::Command(order) => self.on_command(now, order),
            ToWorker::Welcome { master, .. } => {
                self.unlinked(link);
                self.linked(link, master.session);
            }
            // These are for the lease loop.
            ToWorker::Renewed { .. } | ToWorker::Extended { .. } => {}
        }
    }

    fn on_command(&mut self, now: Time, order: WorkerCommand) {
        self.intake = match order {
            WorkerCommand::Cordon => Intake::Cordoned,
            WorkerCommand::Uncordon => Intake::Open,
            WorkerCommand::Drain { deadline_ms } => {
                self.give_back_waiting("its worker drains");
                let wait = Duration::from_millis(deadline_ms).min(limit::DRAIN_MAX);
                Intake::Draining(now + wait)
            }
        };
        if self.stopping.is_none() {
            self.outbox.push(Effect::SetLeaseState(order.lease_state()));
        }
    }

    /// Why a new attempt is returned at once, if it is.
    fn refuses(&self, dispatch: &Dispatch) -> Option<&'static str> {
        if self.over.contains(&dispatch.key) {
            // Its sender does not know the outcome; the record will tell it.
            Some("it has ended here, and its outcome was acknowledged")
        } else if self.of_task(dispatch.key).any(|(_, other)| other.revision > dispatch.revision) {
            Some("its worker has a later attempt of the task")
        } else if self.stopping.is_some() {
            Some("its worker stops")
        } else if self.intake != Intake::Open {
            Some("its worker takes no new attempts")
        } else if self.holding.count() as u64 >= u64::from(dispatch.held_max) {
            Some("its worker was full")
        } else if self.holding.has_alone() {
            Some("its worker has an attempt that has to run alone")
        } else if dispatch.alone && self.holding.count() > 0 {
            Some("it has to run alone, and its worker had other attempts")
        } else if !has_room(&self.holding, dispatch.share(), self.slots, self.memory_total) {
            Some("its worker had not enough memory left")
        } else if dispatch.revision <= self.floor {
            // It may have run here and been acknowledged, so long ago that it is not remembered.
            Some("it came so late that it may have ended here already")
        } else {
            None
        }
    }

    pub(super) fn dispatched(&mut self, link: LinkId, dispatch: Dispatch) {
        let key = dispatch.key;
        // The dispatch was sent before the session ended; the attempt may be running elsewhere by now,
        // and the new lease proves nothing for it.
        if self.closed || self.session != Some(dispatch.session) {
            return;
        }
        if self.attempts.contains_key(&key) {
            return;
        }
        let given = Mark { stream: dispatch.stream, revision: dispatch.revision };
        if self.holds.raised_to(given) != self.holds {
            self.holds = self.holds.raised_to(given);
            // Before the attempt can start, so that every renewal since then names it.
            let (session, upto) = (self.session, self.holds);
            self.outbox.push(Effect::SetHolds(Holds { session, upto }));
        }
        let at_hand =
            self.warm.contains(&dispatch.module) && matches!(dispatch.input, Data::Inline(_));
        self.arrivals += 1;
        let (arrival, revision) = (self.arrivals, dispatch.revision);
        if let Some(reason) = self.refuses(&dispatch) {
            let phase = Phase::Ended { outcome: Arc::new(returned(reason)), sent: None };
            self.attempts.insert(key, Attempt { dispatch: None, revision, arrival, link, phase });
            self.dirty.insert(key);
            return;
        }
        // A later attempt of a task shows that the earlier ones are not current any more.
        let earlier: Vec<AttemptKey> = self.of_task(key).map(|(earlier, _)| *earlier).collect();
        for earlier in earlier {
            self.taken(link, earlier, revision, Kill::Revoked);
        }
        let phase = if at_hand { Phase::Ready } else { Phase::Lacking { tries: 0 } };
        if at_hand {
            self.ready.insert((arrival, key));
        } else {
            self.dirty.insert(key);
        }
        let share = dispatch.share();
        let dispatch = Some(Arc::new(dispatch));
        self.holding.add(share);
        self.attempts.insert(key, Attempt { dispatch, revision, arrival, link, phase });
    }
}
