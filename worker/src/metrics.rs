//! What a worker counts and times for its metrics: its lease, its links and its runs. Never has a label that a client can
//! choose.

use crate::readiness::Readiness;
use muster_protocol::{
    Time,
    api::Transport,
    attempts::{Effect, Event, Kill},
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
    readiness: Readiness,
    shown: Shown,
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
    pub(crate) fn new(worker: &str, group: &str, slots: u32, readiness: Readiness) -> Self {
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
            readiness,
            shown,
        }))
    }

    /// The loop has an event, of which the readiness does not know yet.
    pub(crate) fn heard(&self, event: &Event) {
        match event {
            Event::SessionOver if self.0.readiness.is_in_session() => {
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
        if let Effect::Kill { key, why } = effect {
            self.asked().insert(*key, *why);
        }
    }

    /// So many runs are not over.
    pub(crate) fn running(&self, runs: usize) {
        self.0.attempts.set(i64::try_from(runs).unwrap_or(i64::MAX));
    }

    fn ended(&self, outcome: &Outcome) {
        if !outcome.is_of_run() {
            return;
        }
        let of = OfVerdict { verdict: outcome.verdict.word().into() };
        let took = Duration::from_micros(outcome.run_us);
        self.0.runs.get_or_create(&of).observe(took.as_secs_f64());
    }

    /// All metrics in the text format of OpenMetrics 1.0.
    pub(crate) fn text(&self, now: Time) -> Result<String, Error> {
        let Inner { shown, readiness, .. } = &*self.0;
        let age = readiness.lease_age(now);
        shown.leased.set(age.is_some().into());
        shown.lease_age.set(age.map_or(0.0, |age| age.as_secs_f64()));
        for carrier in Transport::ALL {
            let links = readiness.links.lock().expect("no holder of this lock panics");
            let count =
                links.values().filter(|link| link.connection.transport() == carrier).count();
            let of = OfTransport { transport: carrier.word() };
            shown.links.get_or_create(&of).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<AttemptKey, Kill>> {
        self.0.asked.lock().expect("no holder of this lock panics")
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
    use crate::links::Links;
    use muster_protocol::SessionId;

    #[test]
    fn the_end_of_a_session_is_counted_once() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let readiness = Readiness::new(Links::default());
        let metrics = Metrics::new("w1", "shops", 2, readiness.clone());
        metrics.running(1);
        let hear = |now: u64, event: Event| {
            metrics.heard(&event);
            readiness.heard(at(now), &event);
        };
        let has = |now: u64, line: &str| {
            let text = metrics.text(at(now)).expect("a text");
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        };
        has(1, "muster_worker_leased 0");
        has(1, "muster_worker_links{transport=\"quic\"} 0");
        hear(1, Event::SessionOver);
        hear(2, Event::LeaseHeld { session: SessionId(1), until: at(6) });
        has(4, "muster_worker_leased 1");
        has(4, "muster_worker_lease_age_seconds 2.0");
        has(4, "muster_worker_attempts 1");
        has(6, "muster_worker_leased 0");
        hear(6, Event::SessionOver);
        hear(7, Event::SessionOver);
        has(7, "muster_worker_sessions_over_total 1");
    }
}
