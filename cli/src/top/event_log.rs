//! What the events of a fleet say: how many tasks end a second, which workers were lost, and the latest events. Holds a
//! bounded number of them. Never asks for one.

use super::now::Now;
use crate::events::{self, Body, Sentence, Tokens};
use bytes::Bytes;
use muster_protocol::{
    advisory::{TaskEvent, WorkerEvent},
    api::PageMessage,
    time::WallMillis,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

/// Events of each kind that are kept: routine ones, and others. More do not fit any screen.
const KEPT_MAX: usize = 256;

/// The most bytes of a body that is kept. One with 64 tasks has some 10 KB.
const BODY_MAX: usize = 64 * 1024;

/// Failovers that are kept, to recognise them when they are read again.
const FAILOVERS_MAX: usize = 256;

/// Groups whose rates are counted. The ends of tasks of further ones count for the fleet alone.
const GROUPS_MAX: usize = 1_024;

/// The seconds over which a rate is shown.
pub const RATE_SECONDS: u64 = 10;

/// How often something happens, in a ring of seconds.
#[derive(Clone, Default)]
pub struct Rate {
    counts: [u32; RATE_SECONDS as usize + 1],
    newest: u64,
}

impl Rate {
    fn add(&mut self, second: u64, count: u32) {
        self.forget_until(second);
        let at = self.at(second);
        self.counts[at] = self.counts[at].saturating_add(count);
    }

    /// Clears the seconds between the last one and this one.
    fn forget_until(&mut self, second: u64) {
        let oldest = second.saturating_sub(RATE_SECONDS).max(self.newest + 1);
        for passed in oldest..=second {
            let at = self.at(passed);
            self.counts[at] = 0;
        }
        self.newest = self.newest.max(second);
    }

    fn at(&self, second: u64) -> usize {
        (second % self.counts.len() as u64) as usize
    }

    /// How many a second, over the last [`RATE_SECONDS`] whole seconds, or over those since the start.
    pub fn per_second(&self, now: Now) -> f64 {
        let second = now.uptime.as_secs();
        let mut seen = self.clone();
        seen.forget_until(second);
        let over = second.min(RATE_SECONDS);
        let total: u32 = (second - over..second).map(|passed| seen.counts[seen.at(passed)]).sum();
        if over == 0 { 0.0 } else { f64::from(total) / over as f64 }
    }
}

/// A worker that was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    id: String,
    /// When.
    pub at: Option<WallMillis>,
    /// The worker.
    pub worker: String,
    /// Why, as a sentence.
    pub reason: String,
}

/// An event that is kept.
struct Kept {
    number: u64,
    id: String,
    subject: String,
    body: Bytes,
}

/// What was heard of events.
#[derive(Default)]
pub struct EventLog {
    routine: VecDeque<Kept>,
    noteworthy: VecDeque<Kept>,
    failovers: VecDeque<Failover>,
    /// How many workers were lost.
    pub failover_count: u64,
    /// How many tasks were dispatched again after that.
    pub again_count: u64,
    /// Since when events are known without a gap, as far as this command can tell.
    pub since: Option<WallMillis>,
    /// How many tasks end in the whole fleet.
    pub ended: Rate,
    groups: BTreeMap<String, Rate>,
    number: u64,
}

impl EventLog {
    /// Takes an event that happens now.
    pub fn heard(&mut self, subject: &str, body: &Bytes, now: Now) {
        self.take(subject, body, Some(now));
    }

    /// Takes an event from the stream of events, unless it was heard before. It does not count for rates.
    pub fn read(&mut self, subject: &str, body: &Bytes) {
        self.take(subject, body, None);
    }

    fn take(&mut self, subject: &str, body: &Bytes, now: Option<Now>) {
        let Some(Tokens { group, about, what, .. }) = Tokens::of(subject) else { return };
        let fields: Body = serde_json::from_slice(body).unwrap_or_default();
        let task = |event: TaskEvent| about == "task" && what == event.word();
        let is_routine = task(TaskEvent::Dispatched) || task(TaskEvent::Completed);
        let kept = if is_routine { &self.routine } else { &self.noteworthy };
        let is_known = |kept: &Kept| !fields.id.is_empty() && kept.id == fields.id;
        // What is heard is new; what is read may have been heard.
        if now.is_none() && kept.iter().any(is_known) {
            return;
        }
        let is_end = TaskEvent::ALL.into_iter().filter(|event| event.is_end()).any(task);
        if let Some(now) = now
            && is_end
        {
            self.count_ends(group, fields.tasks.len(), now);
        }
        if task(TaskEvent::Redispatched) {
            self.again_count += fields.tasks.len() as u64;
        }
        if about == "worker" && what == WorkerEvent::Lost.word() {
            self.lost(&fields);
        }
        self.keep(is_routine, fields.id, subject, body);
    }

    fn count_ends(&mut self, group: &str, tasks: usize, now: Now) {
        let (second, count) = (now.uptime.as_secs(), tasks as u32);
        self.ended.add(second, count);
        if !self.groups.contains_key(group) && self.groups.len() < GROUPS_MAX {
            self.groups.insert(group.into(), Rate::default());
        }
        if let Some(rate) = self.groups.get_mut(group) {
            rate.add(second, count);
        }
    }

    fn lost(&mut self, fields: &Body) {
        if self.failovers.iter().any(|known| !known.id.is_empty() && known.id == fields.id) {
            return;
        }
        self.failover_count += 1;
        self.failovers.push_back(Failover {
            id: fields.id.clone(),
            at: events::wall_of(&fields.timestamp),
            worker: fields.about.worker.clone(),
            reason: fields.about.reason.clone(),
        });
        if self.failovers.len() > FAILOVERS_MAX {
            self.failovers.pop_front();
        }
    }

    fn keep(&mut self, is_routine: bool, id: String, subject: &str, body: &Bytes) {
        self.number += 1;
        let kept = if is_routine { &mut self.routine } else { &mut self.noteworthy };
        let body = if body.len() <= BODY_MAX { body.clone() } else { Bytes::new() };
        kept.push_back(Kept { number: self.number, id, subject: subject.into(), body });
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// The failover that happened last.
    pub fn latest_failover(&self) -> Option<&Failover> {
        self.failovers.iter().max_by_key(|failover| failover.at.map(|at| at.0))
    }

    /// The rate of a group.
    pub fn ended_in(&self, group: &str) -> Option<&Rate> {
        self.groups.get(group)
    }

    /// The groups of which the end of a task was heard.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// The kept events with their numbers, the one that was taken last first.
    pub fn sentences(&self) -> Vec<(u64, Sentence)> {
        let mut kept: Vec<&Kept> = self.routine.iter().chain(&self.noteworthy).collect();
        kept.sort_unstable_by_key(|kept| Reverse(kept.number));
        let lines = |kept: &Kept| {
            let sentences = events::sentences(&kept.subject, &kept.body);
            let number = kept.number;
            sentences.into_iter().map(move |sentence| (number, sentence))
        };
        kept.into_iter().flat_map(lines).take(2 * KEPT_MAX).collect()
    }
}

/// When an event happened, on the wall clock of the master that published it.
pub fn stamp_of(message: &PageMessage) -> Option<WallMillis> {
    let fields: Body = serde_json::from_slice(&message.body).ok()?;
    events::wall_of(&fields.timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Now {
        Now { wall: WallMillis(0), uptime: Duration::from_secs(seconds) }
    }

    fn body(id: &str, rest: &str) -> Bytes {
        format!(r#"{{"id":"{id}","timestamp":"2026-01-01T00:00:00Z"{rest}}}"#).into()
    }

    #[test]
    fn ends_are_counted_over_the_last_whole_seconds() {
        let mut log = EventLog::default();
        let three = r#","tasks":[{},{},{}]"#;
        for second in 0..20 {
            log.heard("muster.f.event.g.task.completed.b", &body("", three), at(second));
            log.heard("muster.f.event.g.task.dispatched.b", &body("", three), at(second));
        }
        log.heard("muster.f.event.h.task.failed.b", &body("", three), at(19));
        assert_eq!(log.ended.per_second(at(20)), 3.3);
        assert_eq!(log.ended_in("g").map(|rate| rate.per_second(at(20))), Some(3.0));
        assert_eq!(log.ended_in("g").map(|rate| rate.per_second(at(25))), Some(1.5));
        assert_eq!(log.ended.per_second(at(500)), 0.0);
        assert_eq!(EventLog::default().ended.per_second(at(0)), 0.0);
    }

    #[test]
    fn a_failover_counts_once_though_it_is_heard_and_read() {
        let mut log = EventLog::default();
        let (subject, lost) =
            ("muster.f.event.g.worker.lost.w1", r#","worker":"w1","reason":"its lease lapsed""#);
        log.heard(subject, &body("a", lost), at(1));
        log.read(subject, &body("a", lost));
        log.read(subject, &body("b", lost));
        let tasks = r#","tasks":[{},{}]"#;
        log.heard("muster.f.event.g.task.redispatched.b", &body("c", tasks), at(1));
        assert_eq!((log.failover_count, log.again_count, log.noteworthy.len()), (2, 2, 3));
        let latest = log.latest_failover().expect("there are two");
        assert_eq!(
            (latest.worker.as_str(), latest.at),
            ("w1", Some(WallMillis(1_767_225_600_000)))
        );
    }

    #[test]
    fn routine_events_do_not_push_others_out() {
        let mut log = EventLog::default();
        log.heard("muster.f.event.all.master.started.m1", &body("", ""), at(0));
        for _ in 0..10 * KEPT_MAX {
            log.heard("muster.f.event.g.task.completed.b", &body("", r#","tasks":[{}]"#), at(0));
        }
        assert_eq!(log.routine.len(), KEPT_MAX);
        let last = log.sentences().pop().expect("there are some");
        assert_eq!((last.0, last.1.what.as_str()), (1, "master.started"));
    }
}
