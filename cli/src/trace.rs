//! The trace of a command: the context that its tasks get, and the span of the command itself. Never fails a command
//! because of its trace.

use clap::Args;
use muster_protocol::trace::{Span, TRACEPARENT, TraceContext};
use muster_wire::{
    clock::wall_ns,
    otlp::{self, Collector, Exporter, Origin},
    process,
};
use std::{env, process::ExitCode, time::Duration};

/// How long a command waits for the collector at its end.
const SENT_WITHIN: Duration = Duration::from_secs(2);

/// Options of a trace.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// Continue this trace, as in the header `traceparent`: masters and workers send spans of the tasks, and guests get
    /// the variable TRACEPARENT [default: the variable TRACEPARENT]
    #[arg(long, value_name = "CONTEXT")]
    traceparent: Option<TraceContext>,
    /// Send a span of this command to a collector, http://HOST:PORT, by OTLP over HTTP; begins a trace if there is none
    #[arg(long, value_name = "URL", env = otlp::ENDPOINT)]
    otlp: Option<Collector>,
}

/// The trace of a command that runs.
pub struct Trace {
    /// What the tasks of the command get.
    pub context: Option<TraceContext>,
    own: Option<(Exporter, Span)>,
}

impl TraceArgs {
    /// The command of this name begins.
    pub fn begin(&self, name: &'static str, fleet: &str) -> anyhow::Result<Trace> {
        // What is no context in a variable is ignored, as the standard wants it.
        let of_caller = || env::var(TRACEPARENT).ok()?.parse().ok();
        let caller: Option<TraceContext> = self.traceparent.or_else(of_caller);
        let Some(collector) = self.otlp.clone() else {
            return Ok(Trace { context: caller, own: None });
        };
        let random = || process::random().map(|number| number.max(1));
        let trace = match caller {
            Some(caller) => caller.trace,
            None => u128::from(random()?) << 64 | u128::from(random()?),
        };
        let id = random()?;
        let sampled = caller.is_none_or(|caller| caller.sampled);
        let context = Some(TraceContext { trace, parent: id, sampled });
        if !sampled {
            return Ok(Trace { context: caller, own: None });
        }
        let origin = Origin { service: "muster", instance: String::new(), fleet: fleet.into() };
        let exporter = Exporter::start(collector, origin)?;
        let times_ns = (wall_ns(), 0);
        let parent = caller.map(|caller| caller.parent);
        let (failed, attributes) = (None, Vec::new());
        let span = Span { trace, id, parent, name, times_ns, failed, attributes };
        Ok(Trace { context, own: Some((exporter, span)) })
    }
}

impl Trace {
    /// The command has ended.
    pub async fn end(self, ended: &anyhow::Result<ExitCode>) {
        let Some((exporter, mut span)) = self.own else { return };
        span.times_ns.1 = wall_ns().max(span.times_ns.0);
        span.failed = match ended {
            Ok(code) if *code == ExitCode::SUCCESS => None,
            Ok(_) => Some("it ended with another exit code than 0".into()),
            Err(error) => Some(format!("{error:#}")),
        };
        exporter.send(span);
        exporter.flush(SENT_WITHIN).await;
    }
}
