//! The tables: which columns and rows they have, in which order. Rows are a function of the facts, the order and the
//! filter. Never asks for anything, and never draws.

use super::{
    event_log::{RATE_SECONDS, Rate},
    facts::Facts,
    now::Now,
};
use crate::{output, quantity, task, terminal, worker};
use muster_protocol::{
    TaskId, WorkerId,
    api::{GroupLoad, ListPlace, TaskView, WorkerView},
    time::WallMillis,
};
use std::cmp::Reverse;

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// Workers with a lease.
    Workers,
    /// Tasks that are not over.
    Tasks,
    /// Groups and their queues.
    Groups,
    /// What happened.
    Events,
}

impl Tab {
    /// In the order in which they are shown.
    pub const ALL: [Tab; 4] = [Tab::Workers, Tab::Tasks, Tab::Groups, Tab::Events];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Tab::Workers => "Workers",
            Tab::Tasks => "Tasks",
            Tab::Groups => "Groups",
            Tab::Events => "Events",
        }
    }

    /// The orders that its rows may have, the first by default.
    pub fn orders(self) -> &'static [&'static str] {
        match self {
            Tab::Workers => &["name", "load", "group", "lease"],
            Tab::Tasks => &["newest", "oldest", "worker", "group", "state"],
            Tab::Groups => &["name", "queued", "ended"],
            Tab::Events => &["newest"],
        }
    }

    fn columns(self) -> &'static [Column] {
        const fn column(head: &'static str, less: u8) -> Column {
            Column { head, less }
        }
        const WORKERS: [Column; 9] = [
            column("name", 0),
            column("state", 0),
            column("group", 0),
            column("slots", 0),
            column("load", 0),
            column("lease", 0),
            column("link", 2),
            column("version", 1),
            column("labels", 3),
        ];
        const TASKS: [Column; 8] = [
            column("id", 0),
            column("state", 0),
            column("age", 0),
            column("worker", 1),
            column("group", 2),
            column("module", 3),
            column("tries", 4),
            column("why", 0),
        ];
        const GROUPS: [Column; 7] = [
            column("name", 0),
            column("workers", 0),
            column("runs", 0),
            column("ended/s", 0),
            column("queued", 0),
            column("oldest", 0),
            column("it waits because", 0),
        ];
        const EVENTS: [Column; 3] = [column("when", 0), column("event", 0), column("about", 0)];
        match self {
            Tab::Workers => &WORKERS,
            Tab::Tasks => &TASKS,
            Tab::Groups => &GROUPS,
            Tab::Events => &EVENTS,
        }
    }
}

/// A column.
#[derive(Clone, Copy)]
pub struct Column {
    /// Its header.
    pub head: &'static str,
    /// Which columns are left out first on a narrow screen: those with the highest number. Never those with 0.
    pub less: u8,
}

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A worker.
    Worker(WorkerId),
    /// A task.
    Task(TaskId),
    /// A group.
    Group(String),
    /// An event, by its number; and which line of it.
    Event(u64, usize),
}

/// How a cell looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As text.
    Plain,
    /// In the colour of the state that it names.
    State,
    /// In the style of an event.
    Event(anstyle::Style),
}

/// A cell. Its text has no control characters.
pub struct Cell {
    /// The text.
    pub text: String,
    /// How it looks.
    pub look: Look,
}

impl Cell {
    fn new(text: impl ToString) -> Self {
        Cell { text: terminal::escaped(&text.to_string()), look: Look::Plain }
    }

    fn state(word: &str) -> Self {
        Cell { look: Look::State, ..Cell::new(word) }
    }
}

/// A row.
pub struct Row {
    /// What it is about.
    pub key: Key,
    /// One for each column.
    pub cells: Vec<Cell>,
}

/// A table as it would be on an endless screen.
pub struct Table {
    /// The columns.
    pub columns: &'static [Column],
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Whether there is more that masters did not list.
    pub is_cut: bool,
    /// Why the rows are not known, if they are not.
    pub refusal: Option<String>,
}

/// The table of a tab: the rows that contain `filter`, whatever the case of its letters, in an order of the tab.
pub fn table(facts: &Facts, tab: Tab, order: &str, filter: &str, now: Now) -> Table {
    let mut rows = match tab {
        Tab::Workers => workers(facts, order, now),
        Tab::Tasks => tasks(facts, order, now),
        Tab::Groups => groups(facts, order, now),
        Tab::Events => happened(facts),
    };
    let filter = filter.to_lowercase();
    let has = |cell: &Cell| cell.text.to_lowercase().contains(&filter);
    rows.retain(|row| row.cells.iter().any(has));
    let reading = &facts.reading;
    let pages = [&reading.running, &reading.queued];
    let is_cut = match tab {
        Tab::Workers => reading.workers_cut,
        Tab::Tasks => pages.iter().any(|page| page.as_ref().is_ok_and(|page| page.is_cut)),
        Tab::Groups | Tab::Events => false,
    };
    let refusal = match tab {
        Tab::Tasks => pages.iter().find_map(|page| page.as_ref().err()).cloned(),
        Tab::Groups => reading.loads.as_ref().err().cloned(),
        Tab::Workers | Tab::Events => None,
    };
    Table { columns: tab.columns(), rows, is_cut, refusal }
}

/// How old a stamp is, in its largest unit.
fn age(now: Now, stamp: WallMillis) -> String {
    output::age(now.wall, stamp).map_or("now".into(), quantity::show_duration)
}

fn workers(facts: &Facts, order: &str, now: Now) -> Vec<Row> {
    let mut views: Vec<&WorkerView> = facts.reading.workers.iter().collect();
    match order {
        "load" => views.sort_by_key(|view| Reverse(load(view.attempts.len(), slots(view)))),
        "group" => views.sort_by(|a, b| a.lease.offer.group.cmp(&b.lease.offer.group)),
        "lease" => views.sort_by_key(|view| view.lease.renewed_at.0),
        _ => {}
    }
    let row = |view: &WorkerView| {
        let (runs, slots, offer) = (view.attempts.len(), slots(view), &view.lease.offer);
        let cells = vec![
            Cell::new(&view.lease.worker),
            Cell::state(worker::state(view)),
            Cell::new(&offer.group),
            Cell::new(format!("{runs}/{slots}")),
            Cell::new(format!("{}%", load(runs, slots))),
            Cell::new(age(now, view.lease.renewed_at)),
            Cell::new(worker::linked(view).unwrap_or("no")),
            Cell::new(&offer.version),
            Cell::new(worker::labels(view)),
        ];
        Row { key: Key::Worker(view.lease.worker.clone()), cells }
    };
    views.into_iter().map(row).collect()
}

fn slots(view: &WorkerView) -> u64 {
    u64::from(view.lease.offer.slots)
}

/// How full the slots are, in percent. More than 100 if attempts wait at the worker for a slot.
fn load(runs: usize, slots: u64) -> u64 {
    runs as u64 * 100 / slots.max(1)
}

fn tasks(facts: &Facts, order: &str, now: Now) -> Vec<Row> {
    let mut views: Vec<&TaskView> = facts.open_tasks().collect();
    views.sort_by_key(|view| Reverse(ListPlace::of(&view.record)));
    let on =
        |view: &TaskView| view.record.state.last_attempt().map(|attempt| attempt.worker.clone());
    match order {
        "oldest" => views.reverse(),
        "worker" => views.sort_by_key(|view| on(view).map_or((true, None), |on| (false, Some(on)))),
        "group" => views.sort_by(|a, b| a.record.spec.group.cmp(&b.record.spec.group)),
        "state" => views.sort_by_key(|view| view.record.state.word()),
        _ => {}
    }
    let row = |view: &TaskView| {
        let record = &view.record;
        let cells = vec![
            Cell::new(record.id),
            Cell::state(record.state.word()),
            Cell::new(age(now, record.submitted_at)),
            Cell::new(on(view).map_or("-".into(), |worker| worker.to_string())),
            Cell::new(&record.spec.group),
            Cell::new(task::module_name(&record.spec)),
            Cell::new(record.attempts),
            Cell::new(&view.why),
        ];
        Row { key: Key::Task(record.id), cells }
    };
    views.into_iter().map(row).collect()
}

fn groups(facts: &Facts, order: &str, now: Now) -> Vec<Row> {
    let rate =
        |name: &str| facts.log.ended_in(name).map_or(0.0, |rate: &Rate| rate.per_second(now));
    let mut groups: Vec<_> = facts.groups().into_iter().collect();
    match order {
        "queued" => groups.sort_by_key(|(_, group)| Reverse(group.load.map(|load| load.queued))),
        "ended" => groups.sort_by(|(a, _), (b, _)| rate(b).total_cmp(&rate(a))),
        _ => {}
    }
    let row = |(name, group): (&str, super::facts::GroupFacts<'_>)| {
        let waited = group.load.and_then(GroupLoad::waited);
        let next = group.load.and_then(|load| load.next.as_ref());
        let cells = vec![
            Cell::new(name),
            Cell::new(format!("{}/{}", group.ready, group.held)),
            Cell::new(format!("{}/{}", group.runs, group.slots)),
            Cell::new(format!("{:.1}", rate(name))),
            Cell::new(group.load.map_or(String::new(), |load| load.queued.to_string())),
            Cell::new(waited.map_or(String::new(), quantity::show_duration)),
            Cell::new(next.map_or("", |next| &next.why)),
        ];
        Row { key: Key::Group(name.into()), cells }
    };
    groups.into_iter().map(row).collect()
}

fn happened(facts: &Facts) -> Vec<Row> {
    let (mut last, mut line) = (0, 0);
    let row = |(number, sentence): (u64, crate::events::Sentence)| {
        line = if number == last { line + 1 } else { 0 };
        last = number;
        let cells = vec![
            Cell::new(sentence.when.trim_end()),
            Cell { look: Look::Event(sentence.style), ..Cell::new(&sentence.what) },
            Cell::new(sentence.more.trim_start()),
        ];
        Row { key: Key::Event(number, line), cells }
    };
    facts.log.sentences().into_iter().map(row).collect()
}

/// What the help says of the columns.
pub fn legend() -> [String; 6] {
    [
        "slots    attempts that the worker holds / attempts that it runs at once".into(),
        "lease    how long ago it was renewed, by the two machines' clocks".into(),
        "link     what links the worker to the master that answered".into(),
        "workers  those that take tasks / those that hold a lease".into(),
        format!("ended/s  tasks that ended, a second, over {RATE_SECONDS} s"),
        "N+       there are more: masters list only the newest tasks".into(),
    ]
}
