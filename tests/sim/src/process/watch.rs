//! How a master follows the streams: consumers that deliver writes late, in order, or not at all, and
//! queries for the end of a stream. Never decides what a message or an end means.

use super::MasterIn;
use crate::{
    network::Peer,
    registry::STREAMS,
    world::{MS, Nanos, SimEvent, World},
};
use muster_protocol::{
    Revision, SessionId, Time, fleet,
    registry::Marks,
    task::TaskRecord,
    watch::{COMPARE_EVERY, COMPARE_LAGGING_EVERY, Compared, EndQuestion, Shown, Start, Watch},
};
use std::sync::Arc;

/// The delay before a consumer that has missed something is replaced.
const AGAIN_AFTER: Nanos = 250 * MS;

/// The index of the stream of tasks, the last of the streams that a master follows.
const TASKS: usize = 2;

/// One session of a master that follows one stream.
#[derive(Debug)]
pub struct Follower {
    watch: Watch,
    /// The number of the present consumer. It also grows when the follower begins to rest.
    number: u64,
    state: FollowState,
    /// The time at which the consumer has delivered every earlier write.
    shown: Nanos,
    /// Whether the last comparison found that the stream lacks a known revision.
    lags: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FollowState {
    /// There is no consumer yet.
    Beginning,
    /// The consumer delivers writes.
    Following,
    /// The consumer has stopped delivering, without an error.
    Dead,
    /// No consumer is needed.
    Resting,
}

/// A message of a consumer or of the registry to a follower.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is explained by its variant")]
pub enum Word {
    /// The consumer is created. The stream ended at `end` at that time.
    Began { end: Revision, has_more: bool },
    /// The consumer delivers a write.
    Shown(Shown, Box<fleet::Event>),
    /// It is time to query the end of the stream.
    CompareDue,
    /// The answer to a query: the ends of the streams.
    End { question: EndQuestion, ends: Marks },
    /// The follower needs another consumer.
    Again,
}

impl Follower {
    /// The followers of a session that has read the ends of the streams.
    pub fn of_session(
        session: SessionId,
        ends: &Marks,
        is_cluster: bool,
        now: Nanos,
    ) -> [Follower; 3] {
        STREAMS.map(|bucket| Follower {
            watch: Watch::new(bucket, session, ends.of(bucket).stream, is_cluster),
            number: 0,
            state: FollowState::Beginning,
            shown: now,
            lags: false,
        })
    }

    /// The consumer delivers nothing before `until`.
    pub fn stall(&mut self, until: Nanos) {
        self.shown = self.shown.max(until);
    }

    /// The consumer stops delivering. Returns whether there was one that delivered.
    pub fn die(&mut self) -> bool {
        let follows = self.state == FollowState::Following;
        if follows {
            self.state = FollowState::Dead;
        }
        follows
    }

    fn next(&mut self, state: FollowState) -> u64 {
        self.number += 1;
        self.state = state;
        self.number
    }
}

impl World {
    fn follower(&mut self, at: usize, session: SessionId, stream: usize) -> Option<&mut Follower> {
        let current =
            self.masters[at].current.as_mut().filter(|current| current.session == session)?;
        Some(&mut current.followers[stream])
    }

    fn follower_hears(
        &mut self,
        when: Nanos,
        at: usize,
        session: SessionId,
        stream: usize,
        number: u64,
        word: Word,
    ) {
        let incarnation = self.masters[at].process.incarnation;
        let word = Box::new(word);
        let input = MasterIn::Word { session, stream, number, word };
        self.at(when, SimEvent::Master(at, incarnation, input));
    }

    /// Creates a consumer for a session of a master, and delivers the present values.
    pub fn list(&mut self, at: usize, session: SessionId, stream: usize) {
        if !self.masters[at].connection.up {
            return;
        }
        let now = self.now;
        if self.elects(stream) {
            let at_end = self.registry.elects_until[stream] + self.soon();
            return self.at(at_end, SimEvent::List { master: at, session, stream });
        }
        let ends = self.ends();
        let end = ends.of(STREAMS[stream]);
        let Some(follower) = self.follower(at, session, stream) else { return };
        let question = follower.watch.question(Time::from_nanos(now));
        let compared = follower.watch.compared(question, end);
        if compared == Compared::WentBack {
            return self.went_back(at);
        }
        self.compared_lag(at, session, stream, compared == Compared::Lagging);
        let Some(follower) = self.follower(at, session, stream) else { return };
        let after = match follower.watch.begin() {
            Start::Newest => 0,
            Start::After(upto) => upto,
        };
        let number = follower.next(FollowState::Following);
        let when = self.arrival(Peer::Registry, Peer::Master(at));
        let messages = self.contents(stream, after);
        let has_more = !messages.is_empty();
        let began = Word::Began { end: end.revision, has_more };
        self.follower_hears(when, at, session, stream, number, began);
        for (left, (shown, event)) in (0..messages.len()).rev().zip(messages) {
            let shown = Word::Shown(Shown { has_more: left > 0, ..shown }, Box::new(event));
            self.follower_hears(when, at, session, stream, number, shown);
        }
        if let Some(follower) = self.follower(at, session, stream) {
            follower.shown = when;
        }
        let due = when + COMPARE_EVERY.as_nanos() as u64;
        self.follower_hears(due, at, session, stream, number, Word::CompareDue);
    }

    /// The newest values after a revision, as a consumer delivers them.
    fn contents(&self, stream: usize, after: Revision) -> Vec<(Shown, fleet::Event)> {
        let registry = &self.registry;
        let mut found: Vec<(Shown, fleet::Event)> = match stream {
            0 => {
                let leases = registry.workers.values.values().cloned();
                let seen = leases.map(|(lease, at)| fleet::Event::LeaseSeen(lease, at));
                seen.map(|event| (self.shown(&event), event)).collect()
            }
            1 => {
                let values = registry.masters.values.values().cloned();
                let seen = values.map(|(value, at)| value.seen(at));
                seen.map(|event| (self.shown(&event), event)).collect()
            }
            _ => {
                let records = registry.tasks.values.values();
                let seen = records.map(|(record, at)| task_seen(record, *at));
                seen.map(|event| (self.shown(&event), event)).collect()
            }
        };
        found.retain(|(shown, _)| shown.revision > after);
        found.sort_by_key(|(shown, _)| shown.revision);
        found
    }

    fn shown(&self, event: &fleet::Event) -> Shown {
        let (revision, is_done) = match event {
            fleet::Event::TaskSeen(record, at) => (*at, record.is_done()),
            fleet::Event::LeaseSeen(_, at)
            | fleet::Event::MasterSeen(_, at)
            | fleet::Event::GuardSeen(_, at) => (*at, false),
            _ => unreachable!("a stream has no such values"),
        };
        let is_task = matches!(event, fleet::Event::TaskSeen(..));
        let writer = is_task.then(|| self.registry.writers.get(&revision)).flatten().copied();
        Shown { revision, has_more: false, writer, is_done }
    }

    /// Delivers a write to every master that follows the stream, with a delay and in order.
    pub fn show(&mut self, stream: usize, event: impl Fn() -> fleet::Event) {
        for at in 0..self.masters.len() {
            let master = &self.masters[at];
            let Some(current) = master.current.as_ref() else { continue };
            let follower = &current.followers[stream];
            if !master.connection.alive
                || !master.connection.up
                || follower.state != FollowState::Following
            {
                continue;
            }
            let (session, number, last) = (current.session, follower.number, follower.shown);
            let when = self.arrival(Peer::Registry, Peer::Master(at)).max(last);
            if let Some(follower) = self.follower(at, session, stream) {
                follower.shown = when;
            }
            let event = event();
            let word = Word::Shown(self.shown(&event), Box::new(event));
            self.follower_hears(when, at, session, stream, number, word);
        }
    }

    /// A stream was deleted: its consumers deliver nothing any more.
    pub fn consumers_end(&mut self, stream: usize) {
        for master in &mut self.masters {
            if let Some(current) = &mut master.current {
                current.followers[stream].die();
            }
        }
    }

    /// A follower of a session receives a message.
    pub fn told_follower(
        &mut self,
        at: usize,
        session: SessionId,
        stream: usize,
        number: u64,
        word: Word,
    ) {
        let now = self.now;
        let Some(follower) = self.follower(at, session, stream) else { return };
        if follower.number != number {
            return;
        }
        match word {
            Word::Began { end, has_more } => {
                if follower.watch.began(end, has_more) {
                    self.stream_loaded(at, stream);
                }
            }
            Word::Shown(shown, event) => {
                let is_news = follower.watch.is_news(&shown);
                if is_news {
                    self.told(at, session, *event);
                }
                let Some(follower) = self.follower(at, session, stream) else { return };
                if follower.watch.showed(&shown) {
                    self.stream_loaded(at, stream);
                }
            }
            Word::CompareDue => {
                let question = follower.watch.question(Time::from_nanos(now));
                let wait = if follower.lags { COMPARE_LAGGING_EVERY } else { COMPARE_EVERY };
                let due = now + wait.as_nanos() as u64;
                self.follower_hears(due, at, session, stream, number, Word::CompareDue);
                let when = self.arrival(Peer::Master(at), Peer::Registry);
                let ask = SimEvent::EndAsked { master: at, session, stream, number, question };
                self.at(when, ask);
            }
            Word::End { question, ends } => {
                let compared = follower.watch.compared(question, ends.of(STREAMS[stream]));
                let wait = if follower.state == FollowState::Resting { 0 } else { AGAIN_AFTER };
                self.compared_lag(at, session, stream, compared == Compared::Lagging);
                match compared {
                    Compared::Fine | Compared::Lagging => {}
                    Compared::Behind => {
                        self.counters.rewatched += 1;
                        self.follower_hears(now + wait, at, session, stream, number, Word::Again);
                    }
                    Compared::WentBack => self.went_back(at),
                }
            }
            Word::Again => self.list(at, session, stream),
        }
    }

    /// The query for the end of a stream reaches the registry.
    pub fn end_asked(
        &mut self,
        at: usize,
        session: SessionId,
        stream: usize,
        number: u64,
        question: EndQuestion,
    ) {
        let connection = &self.masters[at].connection;
        let is_up = connection.up && connection.alive && self.registry_is_up();
        if !is_up || self.elects(stream) {
            return;
        }
        let when = self.arrival(Peer::Registry, Peer::Master(at)).max(self.registry.stalled_until);
        let word = Word::End { question, ends: self.ends() };
        self.follower_hears(when, at, session, stream, number, word);
    }

    /// A follower has compared its stream: tells the fleet if it began or ceased to lag.
    fn compared_lag(&mut self, at: usize, session: SessionId, stream: usize, lags: bool) {
        let Some(follower) = self.follower(at, session, stream) else { return };
        if core::mem::replace(&mut follower.lags, lags) != lags {
            self.counters.followers_lag += u64::from(lags);
            let bucket = STREAMS[stream];
            self.told(at, session, fleet::Event::StreamLags { bucket, lags });
        }
    }

    /// The registry has acknowledged a session's own write to the stream of tasks.
    pub fn own_write_acknowledged(&mut self, at: usize, session: SessionId, revision: Revision) {
        if let Some(follower) = self.follower(at, session, TASKS) {
            follower.watch.wrote(revision);
        }
    }

    /// Stops following the tasks where that is possible, and follows them again where it has become
    /// necessary.
    pub fn rest_or_follow(&mut self, at: usize) {
        let now = self.now;
        let Some(current) = &mut self.masters[at].current else { return };
        let company = current.fleet.has_company();
        let session = current.session;
        let follower = &mut current.followers[TASKS];
        follower.watch.meet(company);
        match follower.state {
            FollowState::Following | FollowState::Dead if follower.watch.may_rest() => {
                let number = follower.next(FollowState::Resting);
                self.counters.rests += 1;
                let due = now + COMPARE_EVERY.as_nanos() as u64;
                self.follower_hears(due, at, session, TASKS, number, Word::CompareDue);
            }
            FollowState::Resting if company => {
                let number = follower.next(FollowState::Beginning);
                self.follower_hears(now, at, session, TASKS, number, Word::Again);
            }
            _ => {}
        }
    }

    /// The registry lacks something that the session knows, which ends the session.
    fn went_back(&mut self, at: usize) {
        self.counters.went_back += 1;
        self.flap(Peer::Master(at));
    }
}

fn task_seen(record: &Arc<TaskRecord>, at: Revision) -> fleet::Event {
    fleet::Event::TaskSeen(Box::new(TaskRecord::clone(record)), at)
}
