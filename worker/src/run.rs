//! One run: an attempt's guest from its start to its outcome. Never begins with a closed gate,
//! never uses a store twice, and fails in no way but with an outcome.

mod verdict;

use crate::{
    clock::boottime,
    engine::{Engine, Entry, Program},
    gate::{Gate, KillReason},
    sandbox::{self, Identity, Outbox, Output, Sandbox, Stop, Streams, Surroundings, Watch},
};
use bytes::Bytes;
use muster_protocol::{
    Time, WorkerId,
    message::AttemptKey,
    task::{Data, Limits, Outcome, Verdict},
};
use std::{sync::Arc, time::Duration};
use verdict::{Returned, judge, over_output};
use wasmtime::Store;

/// What to run it with.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whose run it is.
    pub key: AttemptKey,
    /// 1 for the task's first attempt.
    pub number: u32,
    /// Who runs it.
    pub worker: WorkerId,
    /// The input: standard input, or the parameter of a guest of the SDK.
    pub input: Bytes,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// What it may use.
    pub limits: Limits,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an outcome. Its output is inline whatever its size: who reports it must first store
    /// one that is larger than [`muster_protocol::limit::INLINE_SIZE_MAX`]. Guests that did not
    /// complete or fail by themselves have none.
    Outcome(Outcome),
    /// By its worker; what the guest did by then counts for nothing.
    Killed(KillReason),
}

/// Runs a program to its end. The caller polls it on a runtime for guests, with timers enabled;
/// it gives way every [`crate::engine::TICK`], so that guests that compute do not keep others
/// from running. Only a single bulk instruction or host call over much memory takes longer: about
/// a tenth of a second per gigabyte. Dropping the future ends the run as well.
pub async fn run(
    engine: &Engine,
    program: &Program,
    order: Order,
    gate: Gate,
    surroundings: Surroundings,
) -> Ended {
    let started = boottime();
    if let Err(reason) = gate.check(started) {
        return Ended::Killed(reason);
    }
    let _ticking = engine.ticking();
    let Order { key, number, worker, input, args, limits } = order;
    let Surroundings { reports, draining, journal } = surroundings;
    let deadline = started + Duration::from_millis(limits.timeout_ms);
    let outbox = Outbox::new(key, reports, started);
    let watch = Arc::new(Watch::new(gate, deadline, outbox, journal.clone()));
    let output = Output::new(limits.output_bytes);
    let (streams, parameter) = match program.entry() {
        Entry::Task(_) => (Streams::Called, input),
        _ => (Streams::Piped { input, output: output.clone() }, Bytes::new()),
    };
    let identity = Identity { key, number, worker, args };
    // Before the store, so that they are dropped after it: only then it is gone and its place free.
    let (mut slot, mut begun) = (None, None);
    let mut store =
        sandbox::store(engine.wasm(), identity, &limits, streams, watch.clone(), draining);
    let returned = tokio::select! {
        biased;
        // A guest that waits in a host call is dropped with it; the store is not used again.
        _ = watch.stopped() => None,
        returned = async {
            slot = Some(engine.slot().await);
            begun = Some(journal.started(key));
            enter(program, &mut store, &parameter).await
        } => Some(returned),
    };
    let ended = boottime();
    let memory_refused = store.data().memory_refused();
    drop(store);
    drop(begun);
    let finished = Finished { returned, output, memory_refused, limits, started, ended };
    finished.conclude(&watch)
}

/// What is known once a guest is gone.
struct Finished {
    /// Absent if it was dropped while it waited.
    returned: Option<wasmtime::Result<Returned>>,
    output: Output,
    memory_refused: bool,
    limits: Limits,
    started: Time,
    ended: Time,
}

impl Finished {
    fn conclude(self, watch: &Watch) -> Ended {
        let Finished { returned, output, memory_refused, limits, started, ended } = self;
        let stop = watch.check(ended);
        if let Some(Stop::Killed(reason)) = stop {
            return Ended::Killed(reason);
        }
        let stderr = {
            let mut outbox = watch.outbox();
            outbox.finish(ended);
            outbox.stderr_tail()
        };
        let (written, over) = output.take();
        let verdict = match (stop, &returned) {
            (Some(_), _) | (_, None) => Verdict::TimedOut { limit_ms: limits.timeout_ms },
            _ if over => over_output(&limits),
            (None, Some(returned)) => judge(returned, &limits, memory_refused, &stderr),
        };
        let output = match (&verdict, returned) {
            (Verdict::Completed, Some(Ok(Returned::Output(output)))) => output.into(),
            (Verdict::Completed | Verdict::Failed { .. }, _) => written,
            _ => Bytes::new(),
        };
        let run_us = u64::try_from(ended.since(started).as_micros()).unwrap_or(u64::MAX);
        Ended::Outcome(Outcome { verdict, output: Data::Inline(output), stderr, run_us })
    }
}

/// Instantiates and calls. An error is a trap, an exit or a failed instantiation.
async fn enter(
    program: &Program,
    store: &mut Store<Sandbox>,
    parameter: &[u8],
) -> wasmtime::Result<Returned> {
    match program.entry() {
        Entry::Command(pre) => {
            let instance = pre.instantiate_async(&mut *store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
            start.call_async(&mut *store, ()).await?;
            Ok(Returned::Done)
        }
        Entry::Program(pre) => {
            let program = pre.instantiate_async(&mut *store).await?;
            let result = program.wasi_cli_run().call_run(&mut *store).await?;
            Ok(if result.is_ok() { Returned::Done } else { Returned::Failed })
        }
        Entry::Task(pre) => {
            let task = pre.instantiate_async(&mut *store).await?;
            Ok(match task.call_run(&mut *store, parameter).await? {
                Ok(output) => Returned::Output(output),
                Err(message) => Returned::Message(message),
            })
        }
    }
}
