//! One run: an attempt's guest from its start to its outcome. Never starts a guest while the gate is
//! closed, never uses a store twice, and reports every failure as an outcome.

mod end;
mod verdict;

pub use end::RunEnd;

use crate::{
    clock::boottime,
    engine::{Engine, Entry, Program},
    gate::RunGate,
    mask::Masks,
    policy::Secrets,
    sandbox::{
        self, Granted, Identity, Outbox, Output, Sandbox, Scratch, Stop, Streams, Surroundings,
        Watch,
    },
    shortage,
};
use bytes::Bytes;
use muster_protocol::{
    Time, WorkerId,
    attempts::waited,
    checkpoint::Stale,
    grant::Grants,
    lease::Permit,
    message::AttemptKey,
    task::{Data, LimitName, Limits, Outcome, Verdict, run_span},
    trace::TraceContext,
};
use std::{path::PathBuf, pin::pin, sync::Arc, task::Poll, time::Duration};
use verdict::{Returned, judge, over};
use wasmtime::Store;

/// Everything that one run needs.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The attempt that is run.
    pub key: AttemptKey,
    /// The number of the attempt; 1 for the task's first attempt.
    pub number: u32,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// The input: standard input, or the parameter of a guest that uses the SDK.
    pub input: Bytes,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The limits of the run.
    pub limits: Limits,
    /// The grants of the task.
    pub grants: Arc<Grants>,
    /// The values of the granted secrets, by name.
    pub secrets: Secrets,
    /// The directory in which the run's scratch directory is made; `None` where a worker has none.
    pub scratch: Option<PathBuf>,
    /// The trace of the task.
    pub trace: Option<TraceContext>,
}

/// Runs a program to its end. The caller polls this future on a runtime for guests, with timers
/// enabled. The future yields every [`crate::engine::TICK`], so that guests that compute do not keep
/// other guests from running. Only a single bulk instruction or host call over much memory takes
/// longer: about a tenth of a second per gigabyte. Dropping the future ends the run as well.
pub async fn run(
    engine: &Engine,
    program: &Program,
    order: RunSpec,
    gate: RunGate,
    surroundings: Surroundings,
) -> RunEnd {
    // Taken first, so that it is dropped last: the slot is free only when the store is gone.
    let _slot = tokio::select! {
        biased;
        slot = engine.slot() => slot,
        reason = gate.closed() => return RunEnd::killed(reason),
        () = gate.recalled() => return match gate.pass(boottime()) {
            Ok(permit) => RunEnd::outcome(permit, waited()),
            Err(reason) => RunEnd::killed(reason),
        },
    };
    let started = boottime();
    if let Err(reason) = gate.pass(started) {
        return RunEnd::killed(reason);
    }
    let _ticking = engine.ticking();
    let RunSpec { key, number, worker, input, args, limits, grants, secrets, scratch, trace } =
        order;
    let deadline = started + Duration::from_millis(limits.timeout_ms);
    let masks = Masks::of(&secrets);
    let outbox = Outbox::new(key, surroundings.reports.clone(), limits.log_bytes, started);
    let outbox = outbox.masked(&masks);
    let journal = surroundings.journal.clone();
    let watch = Arc::new(Watch::new(gate, deadline, limits.cpu_ms, outbox, journal.clone()));
    let output = Output::new(limits.output_bytes);
    let (streams, parameter) = match program.entry() {
        Entry::Task(_) => (Streams::Called, input),
        _ => (Streams::Piped { input, output: output.clone() }, Bytes::new()),
    };
    let trace = trace.map(|trace| trace.below(run_span(trace, key.attempt)));
    let identity = Identity { key, number, worker, args, trace };
    // Declared before the store, so that it is dropped after the store.
    let mut begun = None;
    let scratch = match make_scratch(scratch, key, grants.dir_bytes) {
        Ok(scratch) => scratch,
        Err(verdict) => return not_begun(&watch, verdict),
    };
    let granted = Granted { grants, secrets, scratch };
    let (wasm, watched) = (engine.wasm(), watch.clone());
    let store = sandbox::store(wasm, identity, &limits, granted, streams, watched, &surroundings);
    let mut store = match store {
        Ok(store) => store,
        Err(error) => return not_begun(&watch, not_granted(&error)),
    };
    let returned = {
        // Checked again because the preparation may have taken too long.
        let guest = match watch.pass(boottime()) {
            Ok(permit) => Some(enter(permit, program, &mut store, &parameter)),
            Err(_) => None,
        };
        if let Some(guest) = guest {
            begun = Some(journal.started(key));
            let mut guest = pin!(watch.computing(guest));
            // Most runs end before they wait and within one tick, so the first poll needs no timer: a
            // timer would cost as much as such a run.
            match futures::poll!(guest.as_mut()) {
                Poll::Ready(returned) => Some(returned),
                Poll::Pending => tokio::select! {
                    biased;
                    // A guest that waits in a host call is dropped together with the call; the store is not
                    // used again.
                    _ = watch.stopped() => None,
                    returned = guest => Some(returned),
                },
            }
        } else {
            None
        }
    };
    let ended = boottime();
    // Checked before the store is dropped: what the guest's requests meet while they are dropped must
    // not count.
    let stop = watch.check(ended);
    let refused = store.data().refused();
    let finished = Finished { returned, stop, output, refused, limits, started, ended };
    let end = finished.into_end(&watch);
    drop(store);
    watch.quiet().await;
    drop(begun);
    end.masked(masks).await
}

/// The end of a run whose guest did not begin.
fn not_begun(watch: &Watch, verdict: Verdict) -> RunEnd {
    match watch.permit_report(boottime()) {
        Ok(permit) => RunEnd::outcome(permit, Outcome::bare(verdict)),
        Err(reason) => RunEnd::killed(reason),
    }
}

/// Makes the scratch directory of a run that is granted `bytes`; `None` where that is zero.
fn make_scratch(
    place: Option<PathBuf>,
    key: AttemptKey,
    bytes: u64,
) -> Result<Option<Scratch>, Verdict> {
    if bytes == 0 {
        return Ok(None);
    }
    let message = "there is no folder for its scratch directory".into();
    let place = place.ok_or(Verdict::Rejected { message })?;
    Scratch::new(&place, &key.attempt.to_string(), bytes).map(Some).map_err(|error| {
        let why = shortage::explain(&error);
        Verdict::Returned { reason: format!("it could not be given a scratch directory: {why}") }
    })
}

/// The verdict on a run for which the worker could not provide what was granted.
fn not_granted(error: &wasmtime::Error) -> Verdict {
    let told = |why: &str| format!("it could not be given what it was granted: {why}");
    match shortage::behind(error) {
        Some((_, why)) => Verdict::Returned { reason: told(&why) },
        None => Verdict::Rejected { message: told(&format!("{error:#}")) },
    }
}

/// The facts about a run whose guest has ended.
struct Finished {
    /// `None` if the guest was dropped while it waited.
    returned: Option<wasmtime::Result<Returned>>,
    /// Why the run had to end, if it was stopped.
    stop: Option<Stop>,
    output: Output,
    refused: Option<(LimitName, u64)>,
    limits: Limits,
    started: Time,
    ended: Time,
}

impl Finished {
    fn into_end(self, watch: &Watch) -> RunEnd {
        let Finished { returned, stop, output, refused, limits, started, ended } = self;
        let permit = match watch.permit_report(ended) {
            Ok(permit) => permit,
            Err(reason) => return RunEnd::killed(reason),
        };
        let (stderr, log_dropped) = {
            let mut outbox = watch.outbox();
            outbox.finish(&permit);
            (outbox.stderr_tail(), outbox.dropped())
        };
        let (written, over_output) = output.take();
        let verdict = match (stop, &returned) {
            (Some(Stop::Over { limit, max }), _) => over(limit, max),
            (Some(Stop::Stale), _) => Stale.verdict(),
            (Some(_), _) | (_, None) => Verdict::TimedOut { limit_ms: limits.timeout_ms },
            // The host did not give memory or files for the guest: that is no trap of the guest.
            (None, Some(Err(error))) if let Some((_, why)) = shortage::behind(error) => {
                Verdict::Returned { reason: format!("its worker could not run it: {why}") }
            }
            _ if over_output => over(LimitName::OutputBytes, limits.output_bytes),
            (None, Some(returned)) => judge(returned, &limits, refused, &stderr),
        };
        let output = match (&verdict, returned) {
            (Verdict::Completed, Some(Ok(Returned::Output(output)))) => output.into(),
            (Verdict::Completed | Verdict::Failed { .. }, _) => written,
            _ => Bytes::new(),
        };
        let run_us = u64::try_from(ended.since(started).as_micros()).unwrap_or(u64::MAX);
        let (output, cpu_us) = (Data::Inline(output), watch.cpu() / 1_000);
        let outcome = Outcome { verdict, output, stderr, run_us, cpu_us, log_dropped };
        RunEnd::outcome(permit, outcome)
    }
}

/// Instantiates the program and calls its entry. An error is a trap, an exit or a failed instantiation.
fn enter<'a>(
    _: Permit<'_>,
    program: &'a Program,
    store: &'a mut Store<Sandbox>,
    parameter: &'a [u8],
) -> impl Future<Output = wasmtime::Result<Returned>> + use<'a> {
    async move {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{AttemptId, TaskId, lease::LeaseEnd};

    /// The verdict on a guest that returned `returned` or was stopped by `stop`.
    fn verdict(returned: Option<wasmtime::Result<Returned>>, stop: Option<Stop>) -> Verdict {
        let key = AttemptKey { task: TaskId(1), attempt: AttemptId(1) };
        let (reports, _heard) = tokio::sync::mpsc::channel(1);
        let outbox = Outbox::new(key, reports, u64::MAX, Time::ZERO);
        let gate = RunGate::new(LeaseEnd::never());
        let never = Time::from_nanos(u64::MAX);
        let watch = Watch::new(gate, never, u64::MAX, outbox, Default::default());
        let (limits, output) = (Limits::default(), Output::new(1));
        let (started, ended) = (Time::ZERO, Time::ZERO);
        let finished = Finished { returned, stop, output, refused: None, limits, started, ended };
        finished.into_end(&watch).into_result().expect("its gate is open").verdict
    }

    #[test]
    fn what_the_host_lacks_is_no_trap() {
        let lack = wasmtime::Error::from(rustix::io::Errno::NOMEM).context("no memory for it");
        let returned = verdict(Some(Err(lack)), None);
        let Verdict::Returned { reason } = &returned else { panic!("{returned:?}") };
        assert!(reason.contains("no memory for it"), "{reason}");
        let trapped = verdict(Some(Err(wasmtime::Trap::UnreachableCodeReached.into())), None);
        assert!(matches!(trapped, Verdict::Trapped { .. }), "{trapped:?}");
    }

    #[test]
    fn a_run_whose_checkpoint_is_refused_never_ends_its_task() {
        let trap = || Err(wasmtime::Error::msg("the run has ended"));
        for returned in [None, Some(Ok(Returned::Done)), Some(trap())] {
            let verdict = verdict(returned, Some(Stop::Stale));
            assert_eq!(verdict, Stale.verdict());
        }
    }
}
