//! The fleet as pages show it, and how it differs from what they were told before. Pure: never reads a clock.

use super::TASKS_SHOWN;
use crate::{
    changes::{Ended, Point, TaskRow},
    http::{
        Identity,
        view::{GroupRow, Seen, WorkerRow},
    },
};
use muster_protocol::{GroupName, TaskId, WorkerId};
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

/// Points of the chart: ten minutes.
const POINTS_MAX: usize = 600;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Model {
    groups: BTreeMap<GroupName, GroupRow>,
    workers: BTreeMap<WorkerId, WorkerRow>,
    /// The newest tasks, newest first.
    tasks: BTreeMap<(Reverse<u64>, TaskId), TaskRow>,
    open: Open,
    ended: Ended,
    points: VecDeque<Point>,
}

/// Tasks that have not ended.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Open {
    queued: usize,
    running: usize,
}

#[derive(Serialize)]
struct Snapshot<'a> {
    #[serde(flatten)]
    identity: &'a Identity,
    now_ms: u64,
    groups: Vec<&'a GroupRow>,
    workers: Vec<&'a WorkerRow>,
    open: Open,
    ended: Ended,
    series: &'a VecDeque<Point>,
    tasks: Vec<&'a TaskRow>,
}

/// What differs. What is empty is left out.
#[derive(Default, PartialEq, Serialize)]
struct Change {
    now_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups_gone: Vec<GroupName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    workers: Vec<WorkerRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    workers_gone: Vec<WorkerId>,
    /// Workers of which nothing else has changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    renewed: Vec<(WorkerId, u64)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<TaskRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks_gone: Vec<TaskId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    series: Vec<Point>,
}

impl Model {
    /// Nothing is known but these tasks.
    pub(super) fn new(tasks: Vec<TaskRow>) -> Self {
        let mut model = Model::default();
        model.add_tasks(tasks);
        model
    }

    /// The end of the last second of the chart that is known, in milliseconds since 1970.
    pub(super) fn points_end(&self) -> u64 {
        self.points.back().map_or(0, |point| point.0 + 1_000)
    }

    /// Takes in what was seen. Returns what differs, as JSON; `None` if nothing does.
    pub(super) fn take(&mut self, now_ms: u64, seen: Seen) -> Option<String> {
        let mut change = Change::default();
        if seen.is_up {
            let open = Open { queued: seen.open.queued, running: seen.open.dispatched };
            change.open = replaced(&mut self.open, open);
            change.ended = replaced(&mut self.ended, seen.ended);
            self.take_groups(seen.groups, &mut change);
        }
        self.take_workers(seen.workers, seen.is_up, &mut change);
        if !seen.gone.is_empty() {
            let gone: BTreeSet<&TaskId> = seen.gone.iter().collect();
            self.tasks.retain(|(_, id), _| !gone.contains(id));
        }
        self.add_tasks(seen.tasks.clone());
        self.points.extend(&seen.points);
        self.points.drain(..self.points.len().saturating_sub(POINTS_MAX));
        (change.tasks, change.tasks_gone, change.series) = (seen.tasks, seen.gone, seen.points);
        (change != Change::default()).then(|| json(&Change { now_ms, ..change }))
    }

    fn take_groups(&mut self, rows: Vec<GroupRow>, change: &mut Change) {
        let rows = rows.into_iter().map(|row| (row.group.clone(), row));
        let old = std::mem::replace(&mut self.groups, rows.collect());
        let is_news = |row: &&GroupRow| old.get(&row.group) != Some(row);
        change.groups = self.groups.values().filter(is_news).cloned().collect();
        let is_gone = |name: &GroupName| !self.groups.contains_key(name);
        change.groups_gone = old.into_keys().filter(is_gone).collect();
    }

    /// Before the registry is loaded, a part of the workers would look like all of them: then only renewals count.
    fn take_workers(&mut self, rows: Vec<WorkerRow>, is_up: bool, change: &mut Change) {
        let mut seen = BTreeSet::new();
        for row in rows {
            if is_up {
                seen.insert(row.worker.clone());
            }
            let known = self.workers.get_mut(&row.worker);
            let renewed = known.filter(|known| {
                **known == WorkerRow { renewed_at: known.renewed_at, ..row.clone() }
            });
            match renewed {
                Some(known) if known.renewed_at == row.renewed_at => {}
                Some(known) => {
                    known.renewed_at = row.renewed_at;
                    change.renewed.push((row.worker, row.renewed_at));
                }
                None if is_up => {
                    self.workers.insert(row.worker.clone(), row.clone());
                    change.workers.push(row);
                }
                None => {}
            }
        }
        if is_up {
            let gone = self.workers.keys().filter(|name| !seen.contains(*name));
            change.workers_gone = gone.cloned().collect();
            self.workers.retain(|name, _| seen.contains(name));
        }
    }

    fn add_tasks(&mut self, rows: Vec<TaskRow>) {
        for row in rows {
            self.tasks.insert((Reverse(row.submitted_at), row.id), row);
        }
        while self.tasks.len() > TASKS_SHOWN {
            self.tasks.pop_last();
        }
    }

    /// The whole, as JSON.
    pub(super) fn snapshot(&self, identity: &Identity, now_ms: u64) -> String {
        json(&Snapshot {
            identity,
            now_ms,
            groups: self.groups.values().collect(),
            workers: self.workers.values().collect(),
            open: self.open,
            ended: self.ended,
            series: &self.points,
            tasks: self.tasks.values().collect(),
        })
    }
}

/// Replaces a value. Returns the new one if it differs.
fn replaced<T: Copy + PartialEq>(old: &mut T, new: T) -> Option<T> {
    (std::mem::replace(old, new) != new).then_some(new)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .expect("these types have names as keys, and no number that JSON lacks")
}

#[cfg(test)]
mod tests;
