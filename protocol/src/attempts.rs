//! The worker's state machine: which attempts the worker has, which of them run, and when they must
//! stop. Never starts a run without a lease, never forgets an outcome before a master has acknowledged
//! it, and knows nothing of engines, files or sockets.
//!
//! The contract is that of [`Fleet`](crate::fleet::Fleet): observe every event, plan once, execute the
//! effects in order; plan again at [`Attempts::wakeup`].
//!
//! The lease is checked here, and again by the gate of each run at every tick and before every effect:
//! this state machine may be late, the gate is not.

mod ending;
mod event;
mod on_message;
mod shutdown;
#[cfg(test)]
mod tests;

pub use ending::waited;
pub(crate) use ending::{DRAINED, PREEMPTED, WAITED};
pub use event::{Effect, Event, Kill, LinkId};

use crate::{
    ABSENT, AttemptId, Revision, SessionId, Time,
    frame::FrameRange,
    limit,
    message::{AttemptKey, Dispatch, HeldAttempt, Hello, ToMaster},
    occupancy::{Occupancy, Share},
    registry::Mark,
    run_estimate::RunEstimate,
    task::{Outcome, Verdict},
};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::String,
    sync::Arc,
    vec::Vec,
};
use core::{ops::Bound, time::Duration};

/// How long to wait before the worker tries again to fetch a module or an input.
const PREPARE_AGAIN: Duration = Duration::from_secs(1);

/// How often in a row the worker tries to fetch a module or an input before it returns the attempt.
/// With [`PREPARE_AGAIN`] between the tries, a short outage passes, and another worker gets the attempt
/// within seconds.
const PREPARES_MAX: u32 = 5;

/// How many compiled modules are remembered.
const WARM_MAX: usize = 1_024;

/// How many acknowledged attempts are remembered: about a second of the smallest tasks, in under 1 MiB.
/// A dispatch that is older than those is returned, and not run.
const OVER_MAX: usize = 8_192;

/// See the [module](self).
#[derive(Debug)]
pub struct Attempts {
    slots: u32,
    /// The most memory that runs may have together, in bytes; not limited if absent.
    memory_total: Option<u64>,
    version: String,
    session: Option<SessionId>,
    ended_session: Option<SessionId>,
    until: Time,
    /// The session is over, and its runs have yet to be stopped; later events do not change that.
    fence_owed: bool,
    /// Attempts were dropped because the lease seemed to be over, and the masters do not know it yet.
    lapsed: bool,
    /// Whether [`Effect::Quiet`] has to be returned once nothing runs.
    quiet_owed: bool,
    stopping: Option<Time>,
    /// The final [`Effect::Quiet`] was returned: the lease is being given back, even if it still holds.
    closed: bool,
    attempts: BTreeMap<AttemptKey, Attempt>,
    /// Attempts that can start, in the order in which they arrived.
    ready: BTreeSet<(u64, AttemptKey)>,
    arrivals: u64,
    /// Those that run, or were killed and have not stopped yet.
    running: Occupancy,
    /// Those that wait or run, and were not killed.
    holding: Occupancy,
    run_estimate: RunEstimate,
    /// The links that are up, and the session of the master on each.
    links: BTreeMap<LinkId, SessionId>,
    /// The latest revision under which an attempt was dispatched to this session.
    holds: Mark,
    dirty: BTreeSet<AttemptKey>,
    timers: BTreeSet<(Time, AttemptKey)>,
    /// Since when attempts wait for room and no run has ended; none if no attempt waits.
    waits_since: Option<Time>,
    /// When to look next for outcomes that no master has acknowledged.
    report_again: Option<Time>,
    /// Attempts of this session that are over and acknowledged, oldest first in the queue. A dispatch
    /// that was sent before the acknowledgement and arrives after it must not run them again.
    over: BTreeSet<AttemptKey>,
    over_order: VecDeque<(AttemptKey, Revision)>,
    /// The newest revision of the attempts that are not remembered any more. A dispatch that is not
    /// newer may be for one of them.
    floor: Revision,
    /// How many ended attempts are remembered at most.
    over_max: usize,
    intake: Intake,
    /// Modules that are compiled, so that an attempt of one can start at once.
    warm: BTreeSet<crate::Digest>,
    outbox: Vec<Effect>,
}

/// Whether the worker takes new attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    Cordoned,
    /// Runs that are not over at this time are stopped and their attempts returned.
    Draining(Time),
}

#[derive(Debug)]
struct Attempt {
    dispatch: Option<Arc<Dispatch>>,
    /// The revision of the record that dispatched it.
    revision: Revision,
    arrival: u64,
    /// The link on which it arrived, or on which its outcome was sent last.
    link: LinkId,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Its module or input is missing, after so many tries to fetch it.
    Lacking {
        tries: u32,
    },
    /// Module and input are being fetched, after so many failed tries.
    Preparing {
        tries: u32,
    },
    Ready,
    Running,
    Killed(Kill),
    /// The attempt is over, and its outcome has not been acknowledged.
    Ended {
        outcome: Arc<Outcome>,
        /// On which link it was reported, and when.
        sent: Option<(LinkId, Time)>,
    },
}

impl Attempts {
    /// A state machine without attempts, for a worker that runs `slots` of them at once. It starts a
    /// few more attempts that are very short; they wait for a slot next to the running ones.
    pub fn new(slots: u32, version: String) -> Self {
        Attempts {
            slots,
            memory_total: None,
            version,
            session: None,
            ended_session: None,
            until: Time::ZERO,
            fence_owed: false,
            lapsed: false,
            quiet_owed: false,
            stopping: None,
            closed: false,
            attempts: BTreeMap::new(),
            ready: BTreeSet::new(),
            arrivals: 0,
            running: Occupancy::default(),
            holding: Occupancy::default(),
            run_estimate: RunEstimate::default(),
            links: BTreeMap::new(),
            holds: Mark::default(),
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            waits_since: None,
            report_again: None,
            over: BTreeSet::new(),
            over_order: VecDeque::new(),
            floor: ABSENT,
            over_max: OVER_MAX,
            intake: Intake::Open,
            warm: BTreeSet::new(),
            outbox: Vec::new(),
        }
    }

    /// The same state machine, which remembers at most `over_max` ended attempts.
    pub fn remembering(self, over_max: usize) -> Self {
        Attempts { over_max, ..self }
    }

    /// The same state machine, whose runs may have so many bytes of linear memory together.
    pub fn within(self, memory_total: u64) -> Self {
        Attempts { memory_total: Some(memory_total), ..self }
    }

    /// Takes in one event.
    pub fn observe(&mut self, now: Time, event: Event) {
        match event {
            Event::LeaseHeld { session, until } => self.lease_held(session, until),
            Event::SessionOver => {
                self.ended_session = self.session.take();
                self.until = Time::ZERO;
                self.fence_owed = true;
                self.quiet_owed = true;
            }
            Event::Linked(link, master) => self.linked(link, master),
            Event::Unlinked(link) => self.unlinked(link),
            Event::Received(link, message) => self.on_message(now, link, message),
            Event::Prepared(key) => self.prepared(key),
            Event::NotPrepared { key, for_good, reason } => {
                self.not_prepared(now, key, for_good, reason);
            }
            Event::Ended { key, outcome } => self.ended(now, key, outcome),
            Event::Stopped(key) => self.stopped(now, key),
            Event::StopAsked { deadline } => self.stop(deadline),
        }
    }

    /// Decides from all events so far, and appends the effects to `out`.
    pub fn plan(&mut self, now: Time, out: &mut Vec<Effect>) {
        if core::mem::take(&mut self.fence_owed) || now >= self.until {
            self.stop_all(Kill::Fenced);
        }
        if self.stopping.is_some_and(|deadline| now >= deadline) {
            self.stop_all(Kill::Stopping);
        }
        if matches!(self.intake, Intake::Draining(deadline) if now >= deadline) {
            self.stop_all(Kill::Drained);
        }
        if self.report_again.is_some_and(|at| now >= at) {
            self.report_again(now);
        }
        while let Some(&(at, key)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            self.dirty.insert(key);
        }
        self.reconcile_all(now);
        self.resync(now);
        self.start();
        self.give_back_stuck(now);
        self.reconcile_all(now);
        if self.quiet_owed && self.is_quiet(now) {
            self.quiet_owed = false;
            self.closed = self.stopping.is_some();
            self.outbox.push(Effect::Quiet);
        }
        out.append(&mut self.outbox);
        debug_assert_eq!(
            self.holding.count(),
            self.attempts.values().filter(|attempt| attempt.holds_work()).count()
        );
    }

    /// When [`plan`](Attempts::plan) has to be called again if no event comes before.
    pub fn wakeup(&self) -> Option<Time> {
        let holds = self.holding.count() > 0;
        // Only few attempts hold no work: those that were killed and have not stopped yet, and those
        // whose outcome is about to be acknowledged.
        let fence = holds || self.attempts.values().any(Attempt::can_be_fenced);
        let fence = fence.then_some(self.until);
        let undelivered = self.quiet_owed && self.running.count() == 0;
        let stop = self.stopping.filter(|_| undelivered || holds);
        let drain = match self.intake {
            Intake::Draining(deadline) if holds => Some(deadline),
            _ => None,
        };
        let timer = self.timers.first().map(|&(at, _)| at);
        let stuck = self.waits_since.map(|since| since + limit::ROOM_WAIT_MAX);
        [fence, stop, drain, timer, stuck, self.report_again].into_iter().flatten().min()
    }

    /// How many runs have been started and not ended, those that wait for a slot included.
    pub fn running(&self) -> usize {
        self.running.count()
    }

    /// A link is up, or the master on it has begun another session, which knows nothing of earlier
    /// frames.
    fn linked(&mut self, link: LinkId, master: SessionId) {
        self.links.insert(link, master);
        self.send_hello(link);
        self.dirty.extend(self.attempts.keys().copied());
    }

    fn send_hello(&mut self, link: LinkId) {
        let (Some(session), Some(&to)) = (self.session, self.links.get(&link)) else { return };
        let with_ended = self.attempts.len() <= limit::HELLO_ATTEMPTS_MAX;
        let held = |(key, attempt): (&AttemptKey, &Attempt)| {
            let is_told = with_ended || !matches!(attempt.phase, Phase::Ended { .. });
            is_told.then_some(HeldAttempt { key: *key, revision: attempt.revision })
        };
        let attempts = self.attempts.iter().filter_map(held);
        let attempts = attempts.take(limit::HELLO_ATTEMPTS_MAX).collect();
        let (holds, version) = (self.holds, self.version.clone());
        let message = ToMaster::Hello(Hello {
            to,
            session,
            attempts,
            holds,
            version,
            frames: FrameRange::SPOKEN,
        });
        self.outbox.push(Effect::Send { link, message });
    }

    fn unlinked(&mut self, link: LinkId) {
        self.links.remove(&link);
        for (key, attempt) in &mut self.attempts {
            if let Phase::Ended { sent, .. } = &mut attempt.phase
                && sent.is_some_and(|(on, _)| on == link)
            {
                *sent = None;
                self.dirty.insert(*key);
            }
        }
    }

    fn prepared(&mut self, key: AttemptKey) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return self.outbox.push(Effect::Drop(key));
        };
        match attempt.phase {
            Phase::Preparing { .. } => {
                attempt.phase = Phase::Ready;
                self.ready.insert((attempt.arrival, key));
                if let Some(dispatch) = &attempt.dispatch {
                    self.warm.insert(dispatch.module);
                }
                if self.warm.len() > WARM_MAX {
                    self.warm.pop_first();
                }
            }
            // The attempt was revoked meanwhile.
            Phase::Ended { .. } => self.outbox.push(Effect::Drop(key)),
            _ => {}
        }
    }

    fn not_prepared(&mut self, now: Time, key: AttemptKey, for_good: bool, message: String) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        let Phase::Preparing { tries } = attempt.phase else { return };
        let tries = tries + 1;
        if for_good {
            self.set_outcome(key, Outcome::bare(Verdict::Rejected { message }));
        } else if tries >= PREPARES_MAX {
            // Another worker may have what this one could not fetch.
            self.outbox.push(Effect::Drop(key));
            let reason =
                format!("its worker could not prepare it {tries} times in a row: {message}");
            self.set_outcome(key, ending::returned(&reason));
        } else {
            attempt.phase = Phase::Lacking { tries };
            self.timers.insert((now + PREPARE_AGAIN, key));
        }
    }

    fn reconcile_all(&mut self, now: Time) {
        while let Some(key) = self.dirty.pop_first() {
            self.reconcile(now, key);
        }
    }

    fn reconcile(&mut self, now: Time, key: AttemptKey) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        // Use the link on which the attempt arrived if it is up, else any.
        let link = Some(attempt.link).filter(|link| self.links.contains_key(link));
        let link = link.or(self.links.first_key_value().map(|(&link, _)| link));
        match &mut attempt.phase {
            &mut Phase::Lacking { tries } => match (link, &attempt.dispatch) {
                (Some(link), Some(dispatch)) => {
                    attempt.phase = Phase::Preparing { tries };
                    self.outbox.push(Effect::Prepare { dispatch: dispatch.clone(), link });
                }
                _ => {
                    self.timers.insert((now + PREPARE_AGAIN, key));
                }
            },
            Phase::Ended { outcome, sent } => {
                if sent.is_none()
                    && let Some(link) = link
                {
                    *sent = Some((link, now));
                    self.report_again.get_or_insert(now + limit::PATIENCE);
                    let (revision, outcome) = (attempt.revision, Outcome::clone(outcome));
                    let message = ToMaster::Finished { key, revision, outcome };
                    self.outbox.push(Effect::Send { link, message });
                }
            }
            Phase::Preparing { .. } | Phase::Ready | Phase::Running | Phase::Killed(_) => {}
        }
    }

    fn start(&mut self) {
        let ahead = self.run_estimate.runs_in(limit::BEGUN_WORK, self.slots);
        let most = self.slots.saturating_add(ahead.min(limit::BEGUN_TASKS_MAX)) as usize;
        let mut after = Bound::Unbounded;
        while self.running.count() < most
            && let Some(&(arrival, key)) = self.ready.range((after, Bound::Unbounded)).next()
        {
            after = Bound::Excluded((arrival, key));
            // Wait until the earlier attempt of the same task has stopped.
            if self.runs_another(key) {
                continue;
            }
            let Some(attempt) = self.attempts.get_mut(&key) else { continue };
            let Some(dispatch) = &attempt.dispatch else { continue };
            // Those behind it wait as well, or it might wait for ever.
            if !has_room(&self.running, attempt.share(), self.slots, self.memory_total) {
                break;
            }
            self.ready.remove(&(arrival, key));
            self.running.add(attempt.share());
            self.outbox.push(Effect::Start(dispatch.clone()));
            attempt.phase = Phase::Running;
        }
    }
}

impl Attempts {
    /// Whether another attempt of the same task runs here, or may still run.
    fn runs_another(&self, key: AttemptKey) -> bool {
        self.of_task(key)
            .any(|(_, attempt)| matches!(attempt.phase, Phase::Running | Phase::Killed(_)))
    }

    /// The other attempts of the same task.
    fn of_task(&self, key: AttemptKey) -> impl Iterator<Item = (&AttemptKey, &Attempt)> {
        let first = AttemptKey { task: key.task, attempt: AttemptId(0) };
        let last = AttemptKey { task: key.task, attempt: AttemptId(u64::MAX) };
        self.attempts.range(first..=last).filter(move |(other, _)| **other != key)
    }
}

/// Whether an attempt with this share may run beside those that run.
fn has_room(running: &Occupancy, share: Share, slots: u32, memory_total: Option<u64>) -> bool {
    let is_kept_alone = running.has_alone() || (share.alone && running.count() > 0);
    let free = memory_total.map_or(u64::MAX, |total| running.memory_free(slots, total));
    !is_kept_alone && share.memory_bytes <= free
}

impl Attempt {
    fn share(&self) -> Share {
        let dispatch = self.dispatch.as_ref();
        dispatch.map_or_else(Share::default, |dispatch| dispatch.share())
    }

    /// Whether the attempt runs or may still run, and was not killed.
    fn holds_work(&self) -> bool {
        !matches!(self.phase, Phase::Ended { .. } | Phase::Killed(_))
    }

    /// Whether the end of the lease changes anything for the attempt.
    fn can_be_fenced(&self) -> bool {
        !matches!(self.phase, Phase::Ended { .. } | Phase::Killed(Kill::Fenced))
    }
}
