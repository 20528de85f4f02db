//! The trace of a command: the context that its tasks get, and the span of the command itself. Never fails a command
//! because of its trace.

use clap::Args;
use muster_protocol::trace::{Span, TRACEPARENT, TraceContext};
use muster_wire::{
    clock::wall_ns,
    otlp::{Collector, Exporter, Origin},
    process,
};
use std::{env, io, process::ExitCode, time::Duration};

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
    /// [default: where OTEL_EXPORTER_OTLP_ENDPOINT says, or not at all]
    #[arg(long, value_name = "URL")]
    otlp: Option<Collector>,
}

/// The trace of a command that runs.
struct Trace {
    /// What the tasks of the command get.
    context: Option<TraceContext>,
    own: Option<(Exporter, Span)>,
}

impl TraceArgs {
    /// Runs the command of this name within its trace. Its tasks get the context.
    pub async fn around(
        self,
        name: &'static str,
        fleet: &str,
        command: impl AsyncFnOnce(Option<TraceContext>) -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        let trace = self.begin(name, fleet);
        let ended = command(trace.context).await;
        trace.end(&ended).await;
        ended
    }

    fn begin(&self, name: &'static str, fleet: &str) -> Trace {
        // What is no context in a variable is ignored, as the standard wants it.
        let of_caller = || env::var(TRACEPARENT).ok()?.parse().ok();
        let caller: Option<TraceContext> = self.traceparent.or_else(of_caller);
        let own = Collector::chosen(self.otlp.as_ref())
            .filter(|_| caller.is_none_or(|caller| caller.sampled))
            .and_then(|collector| own(name, fleet, caller, collector).ok());
        let context = match &own {
            Some((_, span)) => {
                Some(TraceContext { trace: span.trace, parent: span.id, sampled: true })
            }
            None => caller,
        };
        Trace { context, own }
    }
}

/// The span of the command, below that of its caller.
fn own(
    name: &'static str,
    fleet: &str,
    caller: Option<TraceContext>,
    collector: Collector,
) -> io::Result<(Exporter, Span)> {
    let random = || process::random().map(|number| number.max(1));
    let trace = match caller {
        Some(caller) => caller.trace,
        None => u128::from(random()?) << 64 | u128::from(random()?),
    };
    let origin = Origin { service: "muster", instance: String::new(), fleet: fleet.into() };
    let (id, parent) = (random()?, caller.map(|caller| caller.parent));
    let (times_ns, failed, attributes) = ((wall_ns(), 0), None, Vec::new());
    let span = Span { trace, id, parent, name, times_ns, failed, attributes };
    Ok((Exporter::start(collector, origin)?, span))
}

impl Trace {
    /// The command has ended.
    async fn end(self, ended: &anyhow::Result<ExitCode>) {
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
