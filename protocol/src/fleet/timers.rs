//! The timers of a master, and the ends of queueing times. Never decides what is done then.
//!
//! Invariant: a timer that is due is returned once, in the order of the times, and never early.

use crate::{GroupName, SessionId, TaskId, Time, WorkerId};
use alloc::collections::BTreeSet;

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// This master's own lease has to be renewed.
    Own,
    /// Another master may be silent, or its lease over.
    Master(SessionId),
    /// The failover guard has to be raised or lifted.
    Guard,
    /// An answer to the roll call, or the end of a stream, is missing.
    RollCall,
    /// This master takes over a group's unowned tasks after the takeover delay.
    Group(GroupName),
    /// A worker's lease may be over.
    Lease(WorkerId),
    /// The backoff of a worker that returned attempts is over.
    Backoff(WorkerId),
    /// The delay of a task is over, or the registry has to be asked about its write.
    Task(TaskId),
    /// The task of an inquiry has to be read again.
    Inquiry(TaskId),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Time, Timer)>,
    /// When the queueing time of each queued task is over. There may be a million of them.
    queue_ends: BTreeSet<(Time, TaskId)>,
}

impl Timers {
    /// Sets a timer. The same timer may be set several times.
    pub(super) fn set(&mut self, at: Time, timer: Timer) {
        self.set.insert((at, timer));
    }

    /// The queueing time of a task ends at `until`.
    pub(super) fn enqueued(&mut self, until: Time, task: TaskId) {
        self.queue_ends.insert((until, task));
    }

    /// The task is not queued any more.
    pub(super) fn dequeued(&mut self, until: Time, task: TaskId) {
        self.queue_ends.remove(&(until, task));
    }

    /// When the next timer is due.
    pub(super) fn next(&self) -> Option<Time> {
        let (timer, queue) = (self.set.first(), self.queue_ends.first());
        timer.map(|&(at, _)| at).into_iter().chain(queue.map(|&(at, _)| at)).min()
    }

    /// The next task whose queueing time is over.
    pub(super) fn pop_queue_end(&mut self, now: Time) -> Option<TaskId> {
        let is_due = self.queue_ends.first().is_some_and(|&(at, _)| at <= now);
        is_due.then(|| self.queue_ends.pop_first()).flatten().map(|(_, task)| task)
    }

    /// The next timer that is due.
    pub(super) fn pop(&mut self, now: Time) -> Option<Timer> {
        let is_due = self.set.first().is_some_and(|&(at, _)| at <= now);
        is_due.then(|| self.set.pop_first()).flatten().map(|(_, timer)| timer)
    }

    #[cfg(test)]
    pub(super) fn has(&self, timer: &Timer) -> bool {
        self.set.iter().any(|(_, known)| known == timer)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.set.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_once_and_in_order() {
        let at = Time::from_nanos;
        let mut timers = Timers::default();
        timers.set(at(5), Timer::Guard);
        timers.set(at(3), Timer::Own);
        timers.enqueued(at(2), TaskId(1));
        timers.enqueued(at(4), TaskId(2));
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!((timers.pop(at(2)), timers.pop_queue_end(at(1))), (None, None));
        timers.dequeued(at(2), TaskId(1));
        assert_eq!((timers.pop_queue_end(at(3)), timers.next()), (None, Some(at(3))));
        assert_eq!(timers.pop(at(9)), Some(Timer::Own));
        assert_eq!(timers.pop(at(9)), Some(Timer::Guard));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop_queue_end(at(4)), Some(TaskId(2)));
        assert_eq!(timers.next(), None);
    }
}
