//! What is known of a fleet: the latest answers of masters, and what events said. Never what is done with it.

use super::{event_log::EventLog, now::Now};
use muster_protocol::{
    WorkerId,
    api::{GroupLoad, GroupLoads, TaskView, WorkerView},
};
use std::{collections::BTreeMap, time::Duration};

/// How long an answer may be overdue before what is shown counts as stale.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// Tasks of one state, newest first.
#[derive(Debug, Default)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// Whether there are more, which are older.
    pub is_cut: bool,
}

/// The answers to one round of questions.
#[derive(Debug)]
pub struct Reading {
    /// The workers, in the order of their names.
    pub workers: Vec<WorkerView>,
    /// Whether there are more workers.
    pub workers_cut: bool,
    /// The tasks that were given to workers; or why the masters do not show them.
    pub running: Result<TaskPage, String>,
    /// The tasks that wait; or why the masters do not show them.
    pub queued: Result<TaskPage, String>,
    /// The task that is open, if the masters still have it.
    pub opened: Option<TaskView>,
    /// The tasks and workers of the groups in figures; or why the masters do not tell.
    pub loads: Result<GroupLoads, String>,
    /// How long after this round the next one begins.
    pub next_in: Duration,
}

impl Default for Reading {
    /// Nothing, as long as nobody has answered.
    fn default() -> Self {
        Reading {
            workers: Vec::new(),
            workers_cut: false,
            running: Ok(TaskPage::default()),
            queued: Ok(TaskPage::default()),
            opened: None,
            loads: Ok(GroupLoads::default()),
            next_in: Duration::ZERO,
        }
    }
}

/// A group: its workers and its queue.
#[derive(Default)]
pub struct GroupFacts<'a> {
    /// Workers that take tasks.
    pub ready: usize,
    /// Workers that hold a lease.
    pub held: usize,
    /// Attempts that these workers hold.
    pub runs: usize,
    /// The attempts that they run at once.
    pub slots: u64,
    /// What the masters say of its tasks.
    pub load: Option<&'a GroupLoad>,
}

/// What is known.
pub struct Facts {
    /// The fleet's name.
    pub fleet: String,
    /// The latest answers.
    pub reading: Reading,
    /// When they came, since this command has started; absent before the first.
    read_at: Option<Duration>,
    /// Why the latest round brought no answer, if it did not.
    silence: Option<String>,
    /// What events said.
    pub log: EventLog,
}

impl Facts {
    /// Nothing is known.
    pub fn new(fleet: &str) -> Self {
        Facts {
            fleet: fleet.into(),
            reading: Reading::default(),
            read_at: None,
            silence: None,
            log: EventLog::default(),
        }
    }

    /// The masters have answered.
    pub fn read(&mut self, reading: Reading, now: Now) {
        (self.reading, self.read_at, self.silence) = (reading, Some(now.uptime), None);
    }

    /// The masters have not answered.
    pub fn silent(&mut self, why: String) {
        self.silence = Some(why);
    }

    /// Whether the masters have answered once.
    pub fn is_known(&self) -> bool {
        self.read_at.is_some()
    }

    /// Since when what is shown is stale, and why, if it is.
    pub fn stale(&self, now: Now) -> Option<(Duration, &str)> {
        let age = now.uptime.saturating_sub(self.read_at.unwrap_or_default());
        let is_overdue = age > self.reading.next_in + STALE_AFTER;
        match &self.silence {
            Some(why) => Some((age, why)),
            None => is_overdue.then_some((age, "no master answers")),
        }
    }

    /// The tasks that are listed and not over.
    pub fn open_tasks(&self) -> impl Iterator<Item = &TaskView> {
        let pages = [&self.reading.running, &self.reading.queued];
        pages.into_iter().flatten().flat_map(|page| &page.tasks)
    }

    /// How many tasks wait, if the masters tell.
    pub fn queued(&self) -> Option<u64> {
        let loads = self.reading.loads.as_ref().ok()?;
        let queued: u64 = loads.groups.iter().map(|load| load.queued).sum();
        Some(queued + loads.others_queued)
    }

    /// The groups that have a worker with a lease, tasks, or a task that ended meanwhile.
    pub fn groups(&self) -> BTreeMap<&str, GroupFacts<'_>> {
        let mut groups: BTreeMap<&str, GroupFacts<'_>> = BTreeMap::new();
        for view in self.reading.workers.iter().filter(|view| view.lease.state.is_held()) {
            let group = groups.entry(view.lease.offer.group.as_str()).or_default();
            group.held += 1;
            group.ready += usize::from(crate::worker::takes_tasks(view));
            group.runs += view.attempts.len();
            group.slots += u64::from(view.lease.offer.slots);
        }
        for load in self.reading.loads.iter().flat_map(|loads| &loads.groups) {
            groups.entry(load.group.as_str()).or_default().load = Some(load);
        }
        for group in self.log.groups() {
            groups.entry(group).or_default();
        }
        groups
    }

    /// The worker of this name.
    pub fn worker(&self, name: &WorkerId) -> Option<&WorkerView> {
        self.reading.workers.iter().find(|view| view.lease.worker == *name)
    }
}
