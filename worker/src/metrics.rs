//! What a worker counts and times for its metrics: its lease, its links and its runs. Never has a label that a client can
//! choose.

use crate::links::Links;
use muster_protocol::{
    Time,
    api::Transport,
    attempts::{Effect, Event, Kill},
    lease::LeaseState,
    message::AttemptKey,
    task::Outcome,
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
    collections::HashMap,
    fmt::Error,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
    time::Duration,
};

/// How long the loop may be without a pass before the process counts as not healthy. It passes every
/// [`LOOK_EVERY`](crate::LOOK_EVERY) at least.
const LOOP_WITHIN: Duration = Duration::from_secs(15);

/// Upper bounds of times from a tenth of a millisecond to over an hour, each four times the one before.
fn of_runs() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 14))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    verdict: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKill {
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTransport {
    transport: &'static str,
}

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    runs: Family<OfVerdict, Histogram, fn() -> Histogram>,
    kills: Family<OfKill, Counter>,
    /// The runs that are to be killed and are not over.
    asked: Mutex<HashMap<AttemptKey, Kill>>,
    sessions_over: Counter,
    attempts: Gauge,
    seen: Mutex<Seen>,
    shown: Shown,
    linked: Links,
}

/// What the loop has seen.
struct Seen {
    /// When the loop last passed.
    passed: Time,
    /// When the lease was last renewed, and when it ends. `None` without a lease.
    held: Option<(Time, Time)>,
    /// The state that the lease is to say.
    standing: LeaseState,
}

/// What is set anew each time that the metrics are read.
#[derive(Default)]
struct Shown {
    leased: Gauge,
    lease_age: Gauge<f64, AtomicU64>,
    links: Family<OfTransport, Gauge>,
}

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new(worker: &str, group: &str, slots: u32, links: Links) -> Self {
        let mut registry = Registry::with_prefix("muster");
        let info = [("worker", worker), ("group", group), ("version", env!("CARGO_PKG_VERSION"))];
        let info = info.map(|(name, value)| (name, value.to_owned()));
        registry.register(
            "build",
            "The worker, its group and its version",
            Info::new(Vec::from(info)),
        );
        let all_slots = <Gauge>::default();
        all_slots.set(slots.into());
        registry.register("worker_slots", "Attempts that this worker runs at once", all_slots);
        let attempts = Gauge::default();
        let help =
            "Attempts that were started here and are not over, also those that wait for a slot";
        registry.register("worker_attempts", help, attempts.clone());
        let runs = Family::new_with_constructor(of_runs as fn() -> Histogram);
        let help = "From the start to the end of a run that ended by itself or at a limit";
        registry.register_with_unit("worker_run_duration", help, Unit::Seconds, runs.clone());
        let kills = Family::<OfKill, Counter>::default();
        // An alert on an increase does not see a series that begins with 1.
        for why in [Kill::Fenced, Kill::Revoked, Kill::Preempted, Kill::Drained, Kill::Stopping] {
            drop(kills.get_or_create(&OfKill { why: word(why) }));
        }
        registry.register("worker_kills", "Runs that were killed", kills.clone());
        let sessions_over = Counter::default();
        let help = "Sessions that ended because their lease lapsed or another session had it";
        registry.register("worker_sessions_over", help, sessions_over.clone());
        let shown = Shown::default();
        let help = "Whether this worker holds a lease (1) or not (0)";
        registry.register("worker_leased", help, shown.leased.clone());
        let help = "The time since the last renewal of the lease that it holds";
        registry.register_with_unit(
            "worker_lease_age",
            help,
            Unit::Seconds,
            shown.lease_age.clone(),
        );
        registry.register("worker_links", "Links to masters", shown.links.clone());
        Metrics(Arc::new(Inner {
            registry,
            runs,
            kills,
            asked: Mutex::default(),
            sessions_over,
            attempts,
            seen: Mutex::new(Seen { passed: Time::ZERO, held: None, standing: LeaseState::Live }),
            shown,
            linked: links,
        }))
    }

    /// The loop has an event.
    pub(crate) fn heard(&self, now: Time, event: &Event) {
        match event {
            Event::LeaseHeld { until, .. } => self.seen().held = Some((now, *until)),
            Event::SessionOver if self.seen().held.take().is_some() => {
                self.0.sessions_over.inc();
            }
            Event::Ended { key, outcome } => {
                self.asked().remove(key);
                self.ended(outcome);
            }
            // The gate stops a run whose lease has lapsed, without an `Effect::Kill`.
            Event::Stopped(key) => {
                let why = self.asked().remove(key).unwrap_or(Kill::Fenced);
                self.0.kills.get_or_create(&OfKill { why: word(why) }).inc();
            }
            _ => {}
        }
    }

    /// The loop has decided this.
    pub(crate) fn decided(&self, effect: &Effect) {
        match effect {
            Effect::Kill { key, why } => _ = self.asked().insert(*key, *why),
            Effect::SetLeaseState(standing) => self.seen().standing = *standing,
            _ => {}
        }
    }

    /// The worker stops.
    pub(crate) fn stopping(&self) {
        self.seen().standing = LeaseState::Draining;
    }

    /// The loop has passed, and so many runs are not over.
    pub(crate) fn passed(&self, now: Time, running: usize) {
        self.0.attempts.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.seen().passed = now;
    }

    fn ended(&self, outcome: &Outcome) {
        // It did not run.
        if outcome.run_us == 0 {
            return;
        }
        let of = OfVerdict { verdict: outcome.verdict.word().into() };
        let took = Duration::from_micros(outcome.run_us);
        self.0.runs.get_or_create(&of).observe(took.as_secs_f64());
    }

    /// Whether the loop passes.
    pub(crate) fn is_well(&self, now: Time) -> bool {
        now.since(self.seen().passed) < LOOP_WITHIN
    }

    /// Why this worker takes no tasks, if it does not.
    pub(crate) fn lacks(&self, now: Time) -> Option<&'static str> {
        let (held, standing) = {
            let seen = self.seen();
            (seen.held, seen.standing)
        };
        let has_lease = held.is_some_and(|(_, until)| now < until);
        let is_linked = !self.0.linked.lock().expect("no holder of this lock panics").is_empty();
        match standing {
            _ if !has_lease => Some("it holds no lease"),
            _ if !is_linked => Some("it has no link to a master"),
            LeaseState::Cordoned => Some("it is cordoned"),
            LeaseState::Draining => Some("it drains"),
            _ => None,
        }
    }

    /// All metrics in the text format of OpenMetrics 1.0.
    pub(crate) fn text(&self, now: Time) -> Result<String, Error> {
        let shown = &self.0.shown;
        let held = self.seen().held.filter(|(_, until)| now < *until);
        shown.leased.set(held.is_some().into());
        shown.lease_age.set(held.map_or(0.0, |(renewed, _)| now.since(renewed).as_secs_f64()));
        for transport in Transport::ALL {
            shown.links.get_or_create(&OfTransport { transport: transport.word() }).set(0);
        }
        for link in self.0.linked.lock().expect("no holder of this lock panics").values() {
            let transport = link.connection.transport().word();
            shown.links.get_or_create(&OfTransport { transport }).inc();
        }
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<AttemptKey, Kill>> {
        self.0.asked.lock().expect("no holder of this lock panics")
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().expect("no holder of this lock panics")
    }
}

fn word(why: Kill) -> &'static str {
    match why {
        Kill::Fenced => "fenced",
        Kill::Revoked => "revoked",
        Kill::Preempted => "preempted",
        Kill::Drained => "drained",
        Kill::Stopping => "stopping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::SessionId;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_is_held_until_it_lapses_and_its_loss_is_counted_once() {
        let metrics = Metrics::new("w1", "shops", 2, Links::default());
        metrics.passed(at(1), 1);
        let has = |now: u64, line: &str| {
            let text = metrics.text(at(now)).expect("a text");
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        };
        has(1, "muster_worker_leased 0");
        assert_eq!(metrics.lacks(at(1)), Some("it holds no lease"));
        metrics.heard(at(1), &Event::SessionOver);
        metrics.heard(at(2), &Event::LeaseHeld { session: SessionId(1), until: at(6) });
        has(4, "muster_worker_leased 1");
        has(4, "muster_worker_lease_age_seconds 2.0");
        has(4, "muster_worker_attempts 1");
        assert_eq!(metrics.lacks(at(4)), Some("it has no link to a master"));
        has(6, "muster_worker_leased 0");
        metrics.heard(at(6), &Event::SessionOver);
        metrics.heard(at(7), &Event::SessionOver);
        has(7, "muster_worker_sessions_over_total 1");
        assert!(metrics.is_well(at(15)) && !metrics.is_well(at(16)));
    }
}
