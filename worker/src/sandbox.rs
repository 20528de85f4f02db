//! What a guest finds around itself: limits, streams and nothing else. Never grants a file, a
//! socket, an environment variable or a stream of the worker's own.

pub(crate) mod host;
mod limiter;
mod outbox;
mod stdio;
mod watch;

pub use limiter::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
pub(crate) use outbox::Outbox;
pub use outbox::{LOG_BURST, LOG_CHUNK_MAX, LOG_RATE, PROGRESS_EVERY, Report};
pub(crate) use stdio::Output;
pub(crate) use watch::{Stop, Watch};

use crate::journal::Journal;
use bytes::Bytes;
use limiter::Limiter;
use muster_protocol::{WorkerId, message::AttemptKey, task::Limits};
use std::sync::{Arc, atomic::AtomicBool};
use stdio::ErrorStream;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx, p2::pipe::MemoryInputPipe,
};

/// Bytes one host call may make the worker copy, beyond input and output: paths, lists of handles
/// and what else WASI takes. Working through so much takes some tens of milliseconds.
const HOSTCALL_FUEL: u64 = 16 * 1024 * 1024;

/// Handles and host resources (streams, pollables) of one run. Without files and sockets a guest
/// needs its three streams and a timer for each thing it waits for.
const HANDLES_MAX: usize = 256;

/// Random bytes of one call. Browsers have the same limit.
const RANDOM_SIZE_MAX: u64 = 64 * 1024;

/// What is said to whom while guests run; the same for all runs of a worker.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Takes what guests say. Reports are dropped while it is full.
    pub reports: tokio::sync::mpsc::Sender<Report>,
    /// Whether the worker takes no new attempts: guests may ask.
    pub draining: Arc<AtomicBool>,
    /// Where it is written down what they did.
    pub journal: Journal,
}

/// How a guest gets its input and gives its output.
pub(crate) enum Streams {
    /// From standard input to standard output.
    Piped { input: Bytes, output: Output },
    /// As a parameter and a result; what it prints goes to the log.
    Called,
}

/// Who runs, as the guest may know it.
pub(crate) struct Identity {
    pub key: AttemptKey,
    pub number: u32,
    pub worker: WorkerId,
    pub args: Vec<String>,
}

/// The state of one run inside its store.
pub(crate) struct Sandbox {
    pub(crate) wasi: WasiP1Ctx,
    limiter: Limiter,
    watch: Arc<Watch>,
    key: AttemptKey,
    number: u32,
    worker: WorkerId,
    draining: Arc<AtomicBool>,
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl Sandbox {
    /// Whether the guest was ever refused memory that it asked for.
    pub fn memory_refused(&self) -> bool {
        self.limiter.memory_refused()
    }
}

/// A store for one run: never used for a second one.
pub(crate) fn store(
    engine: &wasmtime::Engine,
    identity: Identity,
    limits: &Limits,
    streams: Streams,
    watch: Arc<Watch>,
    draining: Arc<AtomicBool>,
) -> Store<Sandbox> {
    let Identity { key, number, worker, args } = identity;
    // A guest may return its output in one piece, or write it with one call; and one that reads
    // into a buffer that it doubles asks for twice the input.
    let input = if let Streams::Piped { input, .. } = &streams { input.len() as u64 } else { 0 };
    let hostcall_fuel = HOSTCALL_FUEL + limits.output_bytes.max(2 * input);
    let mut wasi = wasi(&args, streams, &watch);
    wasi.ctx().table.set_max_capacity(HANDLES_MAX);
    let limiter = Limiter::new(limits.memory_bytes);
    let watched = watch.clone();
    let sandbox = Sandbox { wasi, limiter, watch, key, number, worker, draining };
    let mut store = Store::new(engine, sandbox);
    store.limiter(|sandbox| &mut sandbox.limiter);
    store.set_hostcall_fuel(usize::try_from(hostcall_fuel).unwrap_or(usize::MAX));
    store.set_max_component_handles(HANDLES_MAX);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        Ok(match watched.check(crate::clock::boottime()) {
            Some(_) => UpdateDeadline::Interrupt,
            // Tokio's own yield lets timers and sockets be looked at in between; waking at once
            // would run 61 ticks of loops before the next timer fires.
            None => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
        })
    });
    store
}

fn wasi(args: &[String], streams: Streams, watch: &Arc<Watch>) -> WasiP1Ctx {
    let mut wasi: WasiCtxBuilder = WasiCtx::builder();
    wasi.arg("task").args(args).max_random_size(RANDOM_SIZE_MAX);
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
