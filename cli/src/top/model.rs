//! What the user looks at: the tab, the order, the filter, what is selected and open, and what is asked of the user.
//! Never does anything outside of itself.

use super::{
    facts::Facts,
    now::Now,
    order::Order,
    rows::{self, Key, Row, Tab, Table},
};
use crate::task::Progress;
use muster_protocol::{TaskId, WorkerId, api::TaskView};
use std::{collections::VecDeque, time::Duration};

/// How long a notice is shown.
const NOTICE_FOR: Duration = Duration::from_secs(15);

/// Lines of a log that are kept.
pub const LOG_LINES_MAX: usize = 2_000;

/// Characters of a line of a log that are kept.
const LOG_LINE_MAX: usize = 4_096;

/// What is selected in a tab.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// What the selected row is about: the selection stays there when rows move.
    key: Option<Key>,
    /// Its index among the rows, in case that row goes away.
    at: usize,
    /// The first row on the screen.
    pub top: usize,
}

/// The log of a task, from its beginning, as long as it fits.
#[derive(Debug, Default)]
pub struct LogText {
    /// Its lines. The last one may go on.
    pub lines: VecDeque<String>,
}

/// A task that is open.
pub struct OpenTask {
    /// The task, as masters or the list had it last.
    pub view: TaskView,
    /// What its run has reported last.
    pub progress: Option<Progress>,
    /// Its log, if that is shown.
    pub log: Option<LogText>,
}

/// What fills the screen.
pub enum Pane {
    /// The table of the tab.
    Table,
    /// A task.
    Task(Box<OpenTask>),
    /// A worker.
    Worker(WorkerId),
    /// The keys.
    Help,
}

/// What the keys are for at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Commands.
    None,
    /// The text of the filter.
    Filter,
    /// `y` or `n`.
    Confirm(Order),
}

/// A sentence about what was done, or why not.
pub struct Notice {
    /// The sentence.
    pub text: String,
    /// Whether it is about something that failed.
    pub is_failure: bool,
    until: Duration,
}

/// What the user looks at.
pub struct Model {
    /// What is known.
    pub facts: Facts,
    /// The tab.
    pub tab: Tab,
    /// What the rows must contain.
    pub filter: String,
    /// What fills the screen.
    pub pane: Pane,
    /// How far the pane is scrolled, if it is no table. For a log, from its end.
    pub scroll: usize,
    /// What the keys are for.
    pub prompt: Prompt,
    /// How many rows fit the screen, as of the last frame.
    pub fits: usize,
    cursors: [Cursor; Tab::ALL.len()],
    orders: [usize; Tab::ALL.len()],
    notice: Option<Notice>,
}

impl Model {
    /// Nothing is known of this fleet.
    pub fn new(fleet: &str) -> Self {
        Model {
            facts: Facts::new(fleet),
            tab: Tab::Workers,
            filter: String::new(),
            pane: Pane::Table,
            scroll: 0,
            prompt: Prompt::None,
            fits: 1,
            cursors: Default::default(),
            orders: Default::default(),
            notice: None,
        }
    }

    /// Which order the rows have.
    pub fn order(&self) -> &'static str {
        let orders = self.tab.orders();
        orders[self.orders[self.tab as usize] % orders.len()]
    }

    /// Takes the next order of the tab.
    pub fn next_order(&mut self) {
        self.orders[self.tab as usize] += 1;
    }

    /// The table of the tab.
    pub fn table(&self, now: Now) -> Table {
        rows::table(&self.facts, self.tab, self.order(), &self.filter, now)
    }

    /// Finds the selected row among these rows, and scrolls until it is among the rows that fit. Returns the first row
    /// on the screen and the selected one.
    pub fn settle(&mut self, rows: &[Row], fits: usize) -> (usize, usize) {
        self.fits = fits.max(1);
        let cursor = &mut self.cursors[self.tab as usize];
        let found = cursor.key.as_ref().and_then(|key| rows.iter().position(|row| row.key == *key));
        cursor.at = found.unwrap_or(cursor.at).min(rows.len().saturating_sub(1));
        let last_top = rows.len().saturating_sub(self.fits);
        let earliest = (cursor.at + 1).saturating_sub(self.fits);
        cursor.top = cursor.top.clamp(earliest, cursor.at.max(earliest)).min(last_top);
        (cursor.top, cursor.at)
    }

    /// Moves the selection by so many rows, to the first or to the last at most.
    pub fn step(&mut self, by: isize, now: Now) {
        let rows = self.table(now).rows;
        let (_, at) = self.settle(&rows, self.fits);
        let at = at.saturating_add_signed(by).min(rows.len().saturating_sub(1));
        let key = rows.into_iter().nth(at).map(|row| row.key);
        let cursor = &mut self.cursors[self.tab as usize];
        (cursor.at, cursor.key) = (at, key);
    }

    /// What the selected row is about.
    pub fn selected(&mut self, now: Now) -> Option<Key> {
        let rows = self.table(now).rows;
        let (_, at) = self.settle(&rows, self.fits);
        rows.into_iter().nth(at).map(|row| row.key)
    }

    /// The task that is open, if one is.
    pub fn opened(&self) -> Option<TaskId> {
        match &self.pane {
            Pane::Task(open) => Some(open.view.record.id),
            Pane::Table | Pane::Worker(_) | Pane::Help => None,
        }
    }

    /// The task whose log is shown, if one is.
    pub fn followed(&self) -> Option<TaskId> {
        match &self.pane {
            Pane::Task(open) => open.log.is_some().then_some(open.view.record.id),
            Pane::Table | Pane::Worker(_) | Pane::Help => None,
        }
    }

    /// Brings the open task up to date with the latest answers.
    pub fn refresh(&mut self) {
        let Pane::Task(open) = &mut self.pane else { return };
        if let Some(view) = &self.facts.reading.opened
            && view.record.id == open.view.record.id
        {
            open.view.clone_from(view);
        }
    }

    /// The run of a task reports its progress.
    pub fn progress(&mut self, of: TaskId, progress: Progress) {
        if let Pane::Task(open) = &mut self.pane
            && open.view.record.id == of
        {
            open.progress = Some(progress);
        }
    }

    /// More of the log of a task.
    pub fn log(&mut self, of: TaskId, text: &str) {
        if let Pane::Task(open) = &mut self.pane
            && open.view.record.id == of
            && let Some(log) = &mut open.log
        {
            log.append(text);
        }
    }

    /// Tells the user something.
    pub fn tell(&mut self, text: impl Into<String>, is_failure: bool, now: Now) {
        let until = now.uptime + NOTICE_FOR;
        self.notice = Some(Notice { text: text.into(), is_failure, until });
    }

    /// What the user was told last, unless that is long ago.
    pub fn notice(&self, now: Now) -> Option<&Notice> {
        self.notice.as_ref().filter(|notice| now.uptime < notice.until)
    }
}

impl LogText {
    fn append(&mut self, text: &str) {
        for (number, part) in text.split('\n').enumerate() {
            if number > 0 || self.lines.is_empty() {
                self.lines.push_back(String::new());
            }
            if let Some(line) = self.lines.back_mut() {
                let room = LOG_LINE_MAX.saturating_sub(line.chars().count());
                line.extend(part.trim_end_matches('\r').chars().take(room));
            }
        }
        let surplus = self.lines.len().saturating_sub(LOG_LINES_MAX);
        self.lines.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_selection_stays_with_its_row() {
        let mut model = sample::model();
        let now = sample::now();
        model.tab = Tab::Tasks;
        let third = {
            model.step(2, now);
            model.selected(now)
        };
        model.next_order();
        assert_eq!(model.selected(now), third, "the order is another one");
        model.step(isize::MAX, now);
        model.step(1, now);
        let last = model.table(now).rows.pop().map(|row| row.key);
        assert_eq!(model.selected(now), last);
        model.filter = "no row has this".into();
        assert_eq!(model.selected(now), None);
        model.filter.clear();
        assert!(model.selected(now).is_some());
    }

    #[test]
    fn the_selected_row_is_on_the_screen() {
        let mut model = sample::model();
        let now = sample::now();
        model.tab = Tab::Tasks;
        let rows = model.table(now).rows;
        assert_eq!(rows.len(), 4);
        for (step, fits, shown) in [
            (0, 2, (0, 0)),
            (1, 2, (0, 1)),
            (1, 2, (1, 2)),
            (-2, 2, (0, 0)),
            (3, 3, (1, 3)),
            (0, 99, (0, 3)),
        ] {
            model.step(step, now);
            assert_eq!(model.settle(&rows, fits), shown, "{step} of {fits}");
        }
    }

    #[test]
    fn a_log_is_made_of_lines_and_bounded() {
        let mut log = LogText::default();
        log.append("one\r\ntw");
        log.append("o\nthree\n");
        assert_eq!(log.lines, ["one", "two", "three", ""]);
        log.append(&"x".repeat(2 * LOG_LINE_MAX));
        log.append(&"y\n".repeat(2 * LOG_LINES_MAX));
        assert_eq!(log.lines.len(), LOG_LINES_MAX);
        assert!(log.lines.iter().all(|line| line.len() <= LOG_LINE_MAX));
    }
}
