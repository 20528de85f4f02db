//! What a master counts and times for its metrics. Never has a label that a client can choose without end: the id of a
//! task is none, and of the groups only the first ones are.

use muster_protocol::{
    TaskId,
    advisory::Advisory,
    fleet::Overview,
    task::{Outcome, TaskTimes},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Error,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
    time::{Duration, Instant},
};

/// Groups that are labels, of those that have had a worker. All others share the label [`OTHER`].
const GROUPS_MAX: usize = 200;

/// Groups without workers that are read. The tasks of all others are counted together.
pub(crate) const GROUPS_READ_MAX: usize = 1_000;

/// The label of all other groups.
const OTHER: &str = "other";

/// Upper bounds of times from a millisecond to over an hour, each four times the one before.
fn of_tasks() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 12))
}

/// Upper bounds of times from half a millisecond to over eight seconds, each twice the one before.
fn of_writes() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 15))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroup {
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: String,
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    verdict: String,
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEvent {
    about: String,
    event: String,
}

type Times<L> = Family<L, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

/// The state of a master when its metrics are read.
pub(crate) struct Seen {
    pub overview: Overview,
    pub is_up: bool,
}

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    /// The groups that are labels.
    groups: Mutex<BTreeSet<String>>,
    run: Times<OfVerdict>,
    queued: Times<OfGroup>,
    failover: Times<OfGroup>,
    written: Histogram,
    /// The writes under way, of which a task has one at a time.
    under_way: Mutex<HashMap<TaskId, Instant>>,
    events: Family<OfEvent, Counter>,
    shown: Mutex<Shown>,
}

/// What is set anew each time that the metrics are read.
#[derive(Default)]
struct Shown {
    up: Gauge,
    tasks: Family<OfState, Gauge>,
    workers: Family<OfState, Gauge>,
    linked: Family<OfGroup, Gauge>,
    unwell: Family<OfGroup, Gauge>,
    lease_age: Family<OfGroup, Seconds>,
}

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new(master: &str) -> Self {
        let mut registry = Registry::with_prefix("muster");
        let info = [("master", master.to_string()), ("version", env!("CARGO_PKG_VERSION").into())];
        registry.register("build", "The master and its version", Info::new(Vec::from(info)));
        let run = Times::new_with_constructor(of_tasks as fn() -> Histogram);
        let help = "From the start to the end of the last run of a task that has ended";
        registry.register_with_unit("task_duration", help, Unit::Seconds, run.clone());
        let queued = Times::new_with_constructor(of_tasks as fn() -> Histogram);
        let help = "From the submission of a task that has ended to its first dispatch";
        registry.register_with_unit("task_queue", help, Unit::Seconds, queued.clone());
        let failover = Times::new_with_constructor(of_tasks as fn() -> Histogram);
        let help = "From the loss of an attempt with its worker to the next dispatch of its task, which has ended";
        registry.register_with_unit("failover", help, Unit::Seconds, failover.clone());
        let written = of_writes();
        let help = "From the write of a task's record to the answer of the registry";
        registry.register_with_unit("registry_write", help, Unit::Seconds, written.clone());
        let events = Family::default();
        let help = "Events that this master has published; of tasks, one for each task";
        registry.register("events", help, events.clone());
        let shown = Shown::default();
        let help = "Whether this master has loaded the registry and serves (1) or not (0)";
        registry.register("up", help, shown.up.clone());
        registry.register("tasks", "Tasks that have not ended", shown.tasks.clone());
        registry.register("workers", "Workers by the state of their lease", shown.workers.clone());
        registry.register("workers_linked", "Workers with a link here", shown.linked.clone());
        let help = "Workers whose host lacks something";
        registry.register("workers_unwell", help, shown.unwell.clone());
        let help = "The greatest time since this master saw a renewal of a held lease";
        registry.register_with_unit("lease_age", help, Unit::Seconds, shown.lease_age.clone());
        let (groups, shown) = (Mutex::default(), Mutex::new(shown));
        let under_way = Mutex::default();
        let inner =
            Inner { registry, groups, run, queued, failover, written, under_way, events, shown };
        Metrics(Arc::new(inner))
    }

    /// A task has ended.
    pub(crate) fn ended(&self, group: &str, outcome: &Outcome, times: &TaskTimes) {
        if times.queued.is_some() {
            self.has_workers(group);
        }
        let group = self.label(group);
        let verdict = outcome.verdict.word().to_string();
        if outcome.run_us > 0 {
            let of = OfVerdict { verdict, group: group.clone() };
            let run = Duration::from_micros(outcome.run_us);
            self.0.run.get_or_create(&of).observe(run.as_secs_f64());
        }
        let of = OfGroup { group };
        if let Some(queued) = times.queued {
            self.0.queued.get_or_create(&of).observe(queued.as_secs_f64());
        }
        for failover in &times.failovers {
            self.0.failover.get_or_create(&of).observe(failover.as_secs_f64());
        }
    }

    /// An event is published.
    pub(crate) fn event(&self, advisory: &Advisory) {
        let (about, event) = advisory.words();
        let count = match advisory {
            Advisory::Tasks { tasks, .. } => tasks.len() as u64,
            _ => 1,
        };
        let of = OfEvent { about: about.into(), event: event.into() };
        self.0.events.get_or_create(&of).inc_by(count);
    }

    /// The record of a task is written.
    pub(crate) fn writing(&self, task: TaskId) {
        self.under_way().insert(task, Instant::now());
    }

    /// The registry has answered that write, or has not in time.
    pub(crate) fn written(&self, task: TaskId) {
        if let Some(began) = self.under_way().remove(&task) {
            self.0.written.observe(began.elapsed().as_secs_f64());
        }
    }

    /// The writes of the session before are not answered any more.
    pub(crate) fn begin_session(&self) {
        self.under_way().clear();
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<TaskId, Instant>> {
        self.0.under_way.lock().expect("no holder of this lock panics")
    }

    /// All metrics in the text format of OpenMetrics 1.0.
    pub(crate) fn text(&self, seen: &Seen) -> Result<String, Error> {
        let shown = self.0.shown.lock().expect("no holder of this lock panics");
        self.show(&shown, seen);
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    fn show(&self, shown: &Shown, seen: &Seen) {
        shown.up.set(seen.is_up.into());
        for family in [&shown.tasks, &shown.workers] {
            family.clear();
        }
        shown.linked.clear();
        shown.unwell.clear();
        shown.lease_age.clear();
        let Overview { groups, others } = &seen.overview;
        for view in groups.iter().filter(|view| !view.leases.is_empty()) {
            self.has_workers(view.group.as_str());
        }
        let tasks = groups.iter().map(|view| (self.label(view.group.as_str()), view.tasks));
        for (group, tasks) in tasks.chain([(OTHER.to_string(), *others)]) {
            for (state, count) in [("queued", tasks.queued), ("dispatched", tasks.dispatched)] {
                let of = OfState { state: state.into(), group: group.clone() };
                shown.tasks.get_or_create(&of).inc_by(count as i64);
            }
        }
        for view in groups.iter().filter(|view| !view.leases.is_empty()) {
            let group = self.label(view.group.as_str());
            for (state, count) in &view.leases {
                let of = OfState { state: state.word().into(), group: group.clone() };
                shown.workers.get_or_create(&of).inc_by(*count as i64);
            }
            let of = OfGroup { group };
            shown.linked.get_or_create(&of).inc_by(view.linked as i64);
            shown.unwell.get_or_create(&of).inc_by(view.unwell as i64);
            if let Some(age) = view.lease_age {
                let age = age.as_secs_f64();
                let most = shown.lease_age.get_or_create(&of);
                most.set(most.get().max(age));
            }
        }
    }

    /// The group is a label from now on, as far as there may be more. Clients name groups, but only workers with
    /// certificates make this of them.
    fn has_workers(&self, group: &str) {
        let mut known = self.0.groups.lock().expect("no holder of this lock panics");
        if known.len() < GROUPS_MAX && !known.contains(group) {
            known.insert(group.into());
        }
    }

    /// The label of a group.
    fn label(&self, group: &str) -> String {
        let known = self.0.groups.lock().expect("no holder of this lock panics");
        if known.contains(group) { group.into() } else { OTHER.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{
        SessionId, Time,
        fleet::{Config, Event, Fleet},
        lease::{Lease, LeaseTiming},
        task::Verdict,
    };

    /// A scrape once a second must not be felt. This is far more than it takes, even on a busy machine.
    const SCRAPE_WITHIN: Duration = Duration::from_millis(50);

    #[test]
    fn a_scrape_of_a_thousand_workers_in_a_hundred_groups_is_cheap() {
        let me = "m1".parse().expect("a name");
        let mut fleet = Fleet::new(Config::new(me, SessionId(1), LeaseTiming::STANDARD));
        for number in 0..1_000_u64 {
            let name = format!("w{number}").parse().expect("a name");
            let mut lease = Lease::new(name, SessionId(number));
            lease.offer.group = format!("g{}", number % 100).parse().expect("a name");
            fleet.observe(Time::ZERO, Event::LeaseSeen(lease, number + 1));
        }
        let metrics = Metrics::new("m1");
        for group in 0..100 {
            let times = TaskTimes { queued: Some(Duration::ZERO), failovers: vec![Duration::ZERO] };
            for verdict in [Verdict::Completed, Verdict::TimedOut { limit_ms: 1 }] {
                let outcome = Outcome { run_us: 1, ..Outcome::bare(verdict) };
                metrics.ended(&format!("g{group}"), &outcome, &times);
            }
        }
        let now = Time::ZERO + Duration::from_secs(3);
        let (mut looked, mut wrote, mut bytes) = (Duration::MAX, Duration::MAX, 0);
        for _ in 0..20 {
            let began = Instant::now();
            let overview = fleet.overview(now, GROUPS_READ_MAX);
            looked = looked.min(began.elapsed());
            let began = Instant::now();
            let text = metrics.text(&Seen { overview, is_up: true }).expect("a text");
            wrote = wrote.min(began.elapsed());
            bytes = text.len();
            assert!(text.contains("muster_workers{state=\"live\",group=\"g7\"} 10\n"), "{text}");
            assert!(text.contains("muster_lease_age_seconds{group=\"g7\"} 3.0\n"), "{text}");
        }
        println!("on the loop {looked:?}, beside it {wrote:?}, {bytes} bytes");
        assert!(looked + wrote < SCRAPE_WITHIN, "{looked:?} and {wrote:?}");
    }
}
