//! What a page shows of the fleet: rows of groups and workers, and how they are read on the master's loop. Never asks
//! the registry.

use crate::changes::{Changed, Changes, Ended, Point, TaskRow};
use muster_protocol::{
    GroupName, TaskId, Time, WorkerId,
    api::Transport,
    fleet::{Fleet, GROUPS_MAX, GroupView, TaskCounts, WorkerGlance},
    task::TaskRecord,
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Workers that a page shows, the first ones by name.
const WORKERS_MAX: usize = 5_000;

/// Tasks of one look whose rows are made. Pages forget the others, and load them when somebody asks for them.
const ROWS_MAX: usize = 1_000;

/// Queued tasks of one look for which the loop finds out why they wait: that costs the most.
const EXPLAINED_MAX: usize = 100;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct GroupRow {
    pub group: GroupName,
    queued: usize,
    running: usize,
    /// How many of its workers hold a lease.
    workers: usize,
    /// When its oldest queued task was submitted, of those that are next in their kind.
    oldest_ms: Option<u64>,
    /// Why the first of its queued tasks waits.
    why: Option<String>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct WorkerRow {
    pub worker: WorkerId,
    pub group: GroupName,
    pub standing: &'static str,
    pub linked: bool,
    pub transport: Option<Transport>,
    pub slots: u32,
    pub running: usize,
    pub memory_total: Option<u64>,
    pub version: String,
    pub labels: BTreeMap<String, String>,
    /// When this master saw the renewal, on its own clock.
    pub renewed_at: u64,
    pub lease_ms: u64,
    pub unwell: Option<String>,
}

/// What one look at the loop's state has found.
pub(super) struct Seen {
    /// Whether the registry is loaded and answers. If not, only the renewals are right.
    pub is_up: bool,
    pub groups: Vec<GroupRow>,
    pub workers: Vec<WorkerRow>,
    pub open: TaskCounts,
    pub ended: Ended,
    pub points: Vec<Point>,
    pub tasks: Vec<TaskRow>,
    /// Tasks that have changed and have no row here.
    pub gone: Vec<TaskId>,
    /// Whether more has changed than this says.
    pub is_cut: bool,
}

/// How this master's boot clock and wall clock stood to each other when its pages were begun.
#[derive(Clone, Copy)]
pub(super) struct Clocks {
    pub boot: Time,
    pub wall_ms: u64,
}

impl Clocks {
    /// A time of the boot clock, in milliseconds since 1970.
    pub(super) fn wall_ms(&self, at: Time) -> u64 {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let before = self.boot.since(at);
        (self.wall_ms + millis(at.since(self.boot))).saturating_sub(millis(before))
    }
}

impl Seen {
    /// Looks at the fleet. Runs on the loop.
    pub(super) fn of(
        fleet: &Fleet,
        changes: &Changes,
        now: Time,
        clocks: Clocks,
        points_since_ms: u64,
    ) -> Self {
        let overview = fleet.overview(now, GROUPS_MAX);
        let mut open = overview.others;
        for view in &overview.groups {
            open.queued += view.tasks.queued;
            open.dispatched += view.tasks.dispatched;
        }
        let group = |view: GroupView| {
            let why = view.next.map(|record| fleet.explain(now, &record));
            let held = view.leases.iter().filter(|(state, _)| state.is_held());
            GroupRow {
                group: view.group,
                queued: view.tasks.queued,
                running: view.tasks.dispatched,
                workers: held.map(|(_, count)| count).sum(),
                oldest_ms: view.oldest.map(|oldest| oldest.0),
                why,
            }
        };
        let workers = fleet.glances().take(WORKERS_MAX).map(|seen| WorkerRow::of(&seen, clocks));
        let changed = changes.take();
        let is_cut = changed.is_cut;
        let (tasks, gone) = rows(fleet, now, changed);
        let (ended, points) = changes.throughput(points_since_ms);
        Seen {
            is_up: fleet.is_up(),
            groups: overview.groups.into_iter().map(group).collect(),
            workers: workers.collect(),
            open,
            ended,
            points,
            tasks,
            gone,
            is_cut,
        }
    }
}

impl WorkerRow {
    fn of(seen: &WorkerGlance<'_>, clocks: Clocks) -> Self {
        let (lease, offer) = (seen.lease, &seen.lease.offer);
        WorkerRow {
            worker: lease.worker.clone(),
            group: offer.group.clone(),
            standing: lease.state.word(),
            linked: seen.linked,
            transport: seen.transport,
            slots: offer.slots,
            running: seen.running,
            memory_total: offer.memory_total,
            version: offer.version.clone(),
            labels: offer.labels.clone(),
            renewed_at: clocks.wall_ms(seen.renewed),
            lease_ms: u64::try_from(seen.lasts.as_millis()).unwrap_or(u64::MAX),
            unwell: lease.lacks().map(ToString::to_string),
        }
    }
}

/// The rows of tasks that have changed, and the tasks that get none.
fn rows(fleet: &Fleet, now: Time, mut changed: Changed) -> (Vec<TaskRow>, Vec<TaskId>) {
    let (mut rows, mut gone, mut explained) = (Vec::new(), Vec::new(), 0);
    for id in changed.tasks {
        let row = match (fleet.open_task(id), changed.ended.remove(&id)) {
            _ if rows.len() >= ROWS_MAX => None,
            (Some(record), _) => Some(open_row(fleet, now, record, &mut explained)),
            (None, ended) => ended,
        };
        match row {
            Some(row) => rows.push(row),
            None => gone.push(id),
        }
    }
    (rows, gone)
}

fn open_row(fleet: &Fleet, now: Time, record: &TaskRecord, explained: &mut usize) -> TaskRow {
    let is_queued = record.attempt().is_none();
    let why = match is_queued && *explained >= EXPLAINED_MAX {
        true => format!("waits in the queue of the group {}", record.spec.group),
        false => fleet.explain(now, record),
    };
    *explained += usize::from(is_queued);
    TaskRow::of(record, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{
        SessionId,
        fleet::{Config, Event},
        lease::{Lease, LeaseTiming},
    };
    use std::time::Instant;

    /// A look each 250 ms must not be felt. This is far more than it takes, even on a busy machine.
    const LOOK_WITHIN: Duration = Duration::from_millis(20);

    #[test]
    fn a_look_at_a_thousand_workers_is_short() {
        let me = "m1".parse().expect("a name");
        let mut fleet = Fleet::new(Config::new(me, SessionId(1), LeaseTiming::STANDARD));
        for number in 0..1_000_u64 {
            let name = format!("w{number}").parse().expect("a name");
            let mut lease = Lease::new(name, SessionId(number)).timed(LeaseTiming::STANDARD);
            lease.offer.group = format!("g{}", number % 100).parse().expect("a name");
            lease.offer.labels = [("zone".into(), format!("z{}", number % 7))].into();
            fleet.observe(Time::ZERO, Event::LeaseSeen(lease, number + 1));
        }
        let (changes, clocks) = (Changes::default(), Clocks { boot: Time::ZERO, wall_ms: 10_000 });
        let mut took = Duration::MAX;
        for _ in 0..20 {
            let began = Instant::now();
            let seen = Seen::of(&fleet, &changes, Time::ZERO, clocks, 0);
            took = took.min(began.elapsed());
            assert_eq!((seen.workers.len(), seen.groups.len()), (1_000, 100));
            let worker = &seen.workers[0];
            assert_eq!((worker.renewed_at, worker.lease_ms), (10_000, 4_000));
        }
        println!("a look took {took:?}");
        assert!(took < LOOK_WITHIN, "{took:?}");
    }
}
