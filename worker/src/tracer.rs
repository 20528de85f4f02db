//! The spans of this worker's runs, for traces. Never has one of a run whose task has no trace.

use muster_protocol::{
    attempts::{Event, Kill},
    message::{AttemptKey, Dispatch},
    task::span_of_run,
    trace::TraceContext,
};
use muster_wire::{clock::wall_ns, otlp::Exporter};
use std::collections::HashMap;

/// Times runs for their spans. Without an exporter it keeps nothing.
#[derive(Default)]
pub(crate) struct Tracer {
    exporter: Option<Exporter>,
    /// The runs that are not over, when they were started, and why they are killed if they are.
    runs: HashMap<AttemptKey, Run>,
}

struct Run {
    context: TraceContext,
    began_ns: u64,
    killed: Option<Kill>,
}

impl Tracer {
    /// Sends spans to this exporter.
    pub(crate) fn new(exporter: Option<Exporter>) -> Self {
        Tracer { exporter, runs: HashMap::new() }
    }

    /// A run is started.
    pub(crate) fn started(&mut self, dispatch: &Dispatch) {
        let context = dispatch.trace.filter(|trace| trace.sampled && self.exporter.is_some());
        if let Some(context) = context {
            let run = Run { context, began_ns: wall_ns(), killed: None };
            self.runs.insert(dispatch.key, run);
        }
    }

    /// A run is to be killed.
    pub(crate) fn killed(&mut self, key: AttemptKey, why: Kill) {
        if let Some(run) = self.runs.get_mut(&key) {
            run.killed = Some(why);
        }
    }

    /// The loop has an event.
    pub(crate) fn heard(&mut self, event: &Event) {
        let (key, outcome) = match event {
            Event::Ended { key, outcome } => (key, Some(outcome)),
            Event::Stopped(key) => (key, None),
            _ => return,
        };
        let Some((run, exporter)) = self.runs.remove(key).zip(self.exporter.as_ref()) else {
            return;
        };
        let why = run.killed.unwrap_or(Kill::Fenced).why();
        let ended = outcome.map(|outcome| &outcome.verdict).ok_or(why);
        let times = (run.began_ns, wall_ns().max(run.began_ns));
        exporter.send(span_of_run(run.context, key.attempt, times, ended));
    }
}
