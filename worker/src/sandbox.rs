//! The environment of a guest: limits, streams and what was granted. Never gives a guest a file, a
//! socket, an environment variable or a stream of the worker's own.

pub(crate) mod host;
mod http;
mod limiter;
mod outbox;
mod scratch;
mod stdio;
mod time;
mod watch;

pub use host::{CHECKPOINT_EVERY, CHECKPOINT_RATE};
pub use http::{ATTEMPT_HEADER, HEADERS_SIZE_MAX, REQUESTS_MAX, STEP_MAX, TASK_HEADER};
pub use limiter::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
pub(crate) use outbox::Outbox;
pub use outbox::{GuestReport, PROGRESS_EVERY};
pub use scratch::{SCRATCH_DEPTH_MAX, SCRATCH_ENTRIES_MAX};
pub(crate) use scratch::{Scratch, sweep};
pub(crate) use stdio::Output;
pub(crate) use watch::{Stop, Watch};

use crate::{checkpoint::Checkpoints, journal::Journal, policy::Secrets};
use bytes::Bytes;
use limiter::Limiter;
use muster_protocol::{
    Time, WorkerId,
    grant::Grants,
    message::AttemptKey,
    task::{LimitName, Limits},
    trace::{TRACEPARENT, TraceContext},
};
use rand::{SeedableRng as _, rngs::SmallRng};
use std::sync::{Arc, atomic::AtomicBool};
use stdio::ErrorStream;
use tokio::sync::Semaphore;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{
    FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx,
    p2::pipe::MemoryInputPipe,
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Bytes that one host call may make the worker copy, beyond input and output: paths, lists of handles
/// and other arguments of WASI. Processing that much takes some tens of milliseconds.
pub const HOSTCALL_FUEL: u64 = 16 * 1024 * 1024;

/// Handles and host resources (files, streams, timers) of one run: the limit that Unix shells had for
/// long. Most guests need their three streams and a timer.
pub const HANDLES_MAX: usize = 256;

/// Random bytes that one call may request. Browsers have the same limit.
pub const RANDOM_SIZE_MAX: u64 = 64 * 1024;

/// What a run reports to while its guest runs. Only `checkpoints` differs between the runs of a worker.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The queue of the guests' reports. Reports are dropped while it is full.
    pub reports: tokio::sync::mpsc::Sender<GuestReport>,
    /// Whether the worker takes no new attempts; guests may ask.
    pub draining: Arc<AtomicBool>,
    /// The journal in which the run's start, effects and end are written.
    pub journal: Journal,
    /// The store of the task's checkpoints.
    pub checkpoints: Checkpoints,
}

/// How a guest receives its input and returns its output.
pub(crate) enum Streams {
    /// By standard input and standard output.
    Piped { input: Bytes, output: Output },
    /// As a parameter and a result; standard output goes to the log.
    Called,
}

/// What a guest may know about its attempt and its worker.
pub(crate) struct Identity {
    pub key: AttemptKey,
    pub number: u32,
    pub worker: WorkerId,
    pub args: Vec<String>,
    /// The trace of its task, below the span of its run.
    pub trace: Option<TraceContext>,
}

/// The grants of a run, ready for use.
pub(crate) struct Granted {
    pub grants: Arc<Grants>,
    /// The values of the granted secrets, by name.
    pub secrets: Secrets,
    pub scratch: Option<Scratch>,
}

/// The state of one run, inside its store.
pub(crate) struct Sandbox {
    pub(crate) wasi: WasiP1Ctx,
    limiter: Limiter,
    watch: Arc<Watch>,
    key: AttemptKey,
    number: u32,
    worker: WorkerId,
    draining: Arc<AtomicBool>,
    checkpoints: Checkpoints,
    /// The number of checkpoints so far, and when the next one may begin.
    saves: u64,
    save_next: Option<Time>,
    checkpoint_max: u64,
    http: WasiHttpCtx,
    hooks: http::Hooks,
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let table = self.wasi.ctx().table;
        WasiHttpCtxView { hooks: &mut self.hooks, table, ctx: &mut self.http }
    }
}

impl Sandbox {
    /// The first limit that the guest tried to exceed, with its maximum; `None` if there is none.
    pub fn refused(&self) -> Option<(LimitName, u64)> {
        self.limiter.refused()
    }
}

/// Makes the store for one run. Never use it for a second run.
pub(crate) fn store(
    engine: &wasmtime::Engine,
    identity: Identity,
    limits: &Limits,
    granted: Granted,
    streams: Streams,
    watch: Arc<Watch>,
    surroundings: &Surroundings,
) -> wasmtime::Result<Store<Sandbox>> {
    let Identity { key, number, worker, args, trace } = identity;
    // A guest may return its output as one value, or write it with one call. A guest that reads into a
    // buffer of doubling size asks for twice the input.
    let input = if let Streams::Piped { input, .. } = &streams { input.len() as u64 } else { 0 };
    let hostcall_fuel =
        HOSTCALL_FUEL + limits.output_bytes.max(limits.checkpoint_bytes).max(2 * input);
    let Granted { grants, secrets, mut scratch } = granted;
    let mut wasi = WasiCtx::builder();
    if let Some(trace) = trace.filter(|_| !grants.env.contains_key(TRACEPARENT)) {
        wasi.env(TRACEPARENT, trace.to_string());
    }
    grant(&mut wasi, &grants, &secrets, scratch.as_ref(), key)?;
    let mut wasi = with_streams(wasi, &args, streams, &watch);
    wasi.ctx().table.set_max_capacity(HANDLES_MAX);
    let limiter = Limiter::new(limits.memory_bytes);
    let watched = watch.clone();
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(http::HEADERS_SIZE_MAX);
    let places = Arc::new(Semaphore::new(http::REQUESTS_MAX));
    let lookups = Arc::new(Semaphore::new(http::LOOKUPS_MAX));
    let hooks = http::Hooks { places, lookups, allowed: grants, key, watch: watch.clone() };
    let sandbox = Sandbox {
        wasi,
        limiter,
        watch,
        key,
        number,
        worker,
        draining: surroundings.draining.clone(),
        checkpoints: surroundings.checkpoints.clone(),
        saves: 0,
        save_next: None,
        checkpoint_max: limits.checkpoint_bytes,
        http,
        hooks,
    };
    let mut store = Store::new(engine, sandbox);
    store.limiter(|sandbox| &mut sandbox.limiter);
    store.set_hostcall_fuel(usize::try_from(hostcall_fuel).unwrap_or(usize::MAX));
    store.set_max_component_handles(HANDLES_MAX);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if let Some(scratch) = &mut scratch
            && let Some((limit, max)) = scratch.over()
        {
            watched.end(Stop::Over { limit, max });
        }
        Ok(match watched.tick(crate::clock::boottime()) {
            Some(_) => UpdateDeadline::Interrupt,
            // Tokio's own yield lets timers and sockets be polled in between. If the task woke itself
            // at once, it would run 61 times before the next timer fires.
            None => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
        })
    });
    Ok(store)
}

/// The path of the scratch directory in the guest: the root, as the guest has no other directory.
const SCRATCH_PLACE: &str = "/";

/// Configures what was granted, and the replacement for what was not.
fn grant(
    wasi: &mut WasiCtxBuilder,
    grants: &Grants,
    secrets: &Secrets,
    scratch: Option<&Scratch>,
    key: AttemptKey,
) -> wasmtime::Result<()> {
    for (name, value) in grants.env.iter().chain(&secrets.0) {
        wasi.env(name, value);
    }
    let clock = time::Grained::new(grants.clock_ns);
    wasi.wall_clock(clock).monotonic_clock(clock);
    wasi.max_random_size(RANDOM_SIZE_MAX);
    if !grants.random {
        // Programs need some random numbers to start, e.g. for hash tables; each attempt of a task gets
        // the same.
        let seed = key.task.0 as u64 ^ (key.task.0 >> 64) as u64;
        wasi.secure_random(SmallRng::seed_from_u64(seed));
        wasi.insecure_random(SmallRng::seed_from_u64(!seed));
        wasi.insecure_random_seed(key.task.0);
    }
    if let Some(scratch) = scratch {
        wasi.preopened_dir(scratch.path(), SCRATCH_PLACE, FsPerms::ReadWrite)?;
    }
    Ok(())
}

fn with_streams(
    mut wasi: WasiCtxBuilder,
    args: &[String],
    streams: Streams,
    watch: &Arc<Watch>,
) -> WasiP1Ctx {
    wasi.arg("task").args(args);
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    wasi.stderr(ErrorStream(watch.clone()));
    match streams {
        Streams::Piped { input, output } => {
            wasi.stdin(MemoryInputPipe::new(input)).stdout(output);
        }
        Streams::Called => {
            wasi.stdout(ErrorStream(watch.clone()));
        }
    }
    wasi.build_p1()
}
