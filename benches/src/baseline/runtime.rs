//! What wasmtime does alone: the same guests in a loop of this process, with WASI and with an
//! implementation of the SDK's world that does nothing. Never the sandbox of a worker, nor a worker's
//! engine: a bare engine with the same code generation settings, so that both run the same machine code.

use anyhow::Context as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, OptLevel,
    PoolingAllocationConfig, Store, UpdateDeadline, WasmBacktraceDetails, WasmFeatures,
    component::{self, Component, Val},
};
use wasmtime_wasi::{
    I32Exit, WasiCtx, WasiCtxView, WasiView,
    p1::{self, WasiP1Ctx},
    p2::{self, pipe::MemoryInputPipe, pipe::MemoryOutputPipe},
};

/// How long a worker lets a guest compute before it checks the guest's gate.
const TICK: Duration = Duration::from_millis(5);

/// The most output of a guest here, in bytes.
const OUTPUT_MAX: usize = 1024 * 1024;

/// The most runs at once.
const ROOM: u32 = 64;

/// How compiled code can be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// The code cannot be interrupted.
    None,
    /// As in a worker: the code checks an epoch, which a clock advances.
    Epochs,
    /// The code counts its instructions.
    Fuel,
}

struct WasiHost(WasiP1Ctx);

impl WasiView for WasiHost {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.0.ctx()
    }
}

/// An engine without a sandbox.
pub struct Bare {
    engine: Engine,
    interrupts: Interrupts,
    over: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

/// A guest that is compiled for a bare engine.
pub struct Program {
    entry: Entry,
    interrupts: Interrupts,
}

enum Entry {
    Command(InstancePre<WasiHost>),
    Task(component::InstancePre<WasiHost>),
}

impl Bare {
    /// Creates an engine whose code can be interrupted in this way. Instances come from a pool, as in a
    /// worker.
    ///
    /// # Errors
    ///
    /// The process does not get enough address space.
    pub fn new(interrupts: Interrupts) -> anyhow::Result<Self> {
        let mut config = Config::new();
        let features = muster_module::features();
        config.wasm_features(WasmFeatures::all().difference(features), false);
        config.wasm_features(features, true);
        config.cranelift_opt_level(OptLevel::Speed).concurrency_support(false);
        config.epoch_interruption(interrupts == Interrupts::Epochs);
        config.consume_fuel(interrupts == Interrupts::Fuel);
        config.memory_init_cow(true).memory_reservation(4 << 30);
        config.wasm_backtrace_details(WasmBacktraceDetails::Disable).native_unwind_info(false);
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(ROOM * 8).total_memories(ROOM).total_tables(ROOM * 8);
        pool.total_component_instances(ROOM).total_stacks(ROOM).max_memory_size(4 << 30);
        pool.table_elements(100_000);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).map_err(broken)?;
        let over = Arc::new(AtomicBool::new(false));
        let ticker = (interrupts == Interrupts::Epochs).then(|| {
            let (engine, over) = (engine.clone(), over.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    engine.increment_epoch();
                }
            })
        });
        Ok(Bare { engine, interrupts, over, ticker })
    }

    /// Compiles a guest: a WASI command, or a component of the SDK's world.
    ///
    /// # Errors
    ///
    /// The guest is neither of them.
    pub fn program(&self, wasm: &[u8]) -> anyhow::Result<Program> {
        let is_component = muster_module::inspect(wasm)?.kind != muster_module::Kind::Command;
        let entry = if is_component { self.task(wasm) } else { self.command(wasm) };
        Ok(Program { entry: entry.map_err(broken)?, interrupts: self.interrupts })
    }

    fn command(&self, wasm: &[u8]) -> wasmtime::Result<Entry> {
        let mut linker = Linker::new(&self.engine);
        p1::add_to_linker_sync(&mut linker, |host: &mut WasiHost| &mut host.0)?;
        Ok(Entry::Command(linker.instantiate_pre(&Module::new(&self.engine, wasm)?)?))
    }

    fn task(&self, wasm: &[u8]) -> wasmtime::Result<Entry> {
        let component = Component::new(&self.engine, wasm)?;
        Ok(Entry::Task(world(&self.engine)?.instantiate_pre(&component)?))
    }
}

/// Converts an error of the runtime, with all its causes.
fn broken(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            // The thread only counts and sleeps, so it does not panic.
            let _ = ticker.join();
        }
    }
}

/// WASI, and an implementation of the SDK's host interface that does nothing.
fn world(engine: &Engine) -> wasmtime::Result<component::Linker<WasiHost>> {
    let mut linker = component::Linker::new(engine);
    p2::add_to_linker_sync(&mut linker)?;
    let mut host = linker.instance("muster:task/host@0.1.0")?;
    for said in ["progress", "log", "checkpoint"] {
        host.func_new(said, |_, _, _, _| Ok(()))?;
    }
    host.func_new("resume", |_, _, _, results| {
        results[0] = Val::Option(None);
        Ok(())
    })?;
    host.func_new("context", |_, _, _, _| Err(wasmtime::Error::msg("there is no attempt")))?;
    Ok(linker)
}

impl Program {
    /// Instantiates the guest in its own store, and runs it to its end.
    ///
    /// # Errors
    ///
    /// The guest trapped, or failed.
    pub fn run(&self, input: &[u8]) -> anyhow::Result<()> {
        let mut wasi = WasiCtx::builder();
        wasi.arg("task").stdin(MemoryInputPipe::new(input.to_vec()));
        wasi.stdout(MemoryOutputPipe::new(OUTPUT_MAX));
        let engine = match &self.entry {
            Entry::Command(pre) => pre.module().engine(),
            Entry::Task(pre) => pre.component().engine(),
        };
        let mut store = Store::new(engine, WasiHost(wasi.build_p1()));
        match self.interrupts {
            Interrupts::None => {}
            Interrupts::Epochs => {
                store.set_epoch_deadline(1);
                store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
            }
            Interrupts::Fuel => store.set_fuel(u64::MAX).map_err(broken)?,
        }
        let ended = self.enter(&mut store, input).map_err(broken)?;
        ended.map_err(anyhow::Error::msg)
    }

    fn enter(
        &self,
        store: &mut Store<WasiHost>,
        input: &[u8],
    ) -> wasmtime::Result<Result<(), String>> {
        match &self.entry {
            Entry::Command(pre) => {
                let instance = pre.instantiate(&mut *store)?;
                let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
                match start.call(&mut *store, ()) {
                    Err(error) if matches!(error.downcast_ref(), Some(I32Exit(0))) => Ok(Ok(())),
                    ended => Ok(Ok(ended?)),
                }
            }
            Entry::Task(pre) => {
                type Ended = (Result<Vec<u8>, String>,);
                let instance = pre.instantiate(&mut *store)?;
                let run = instance.get_typed_func::<(&[u8],), Ended>(&mut *store, "run")?;
                let (ended,) = run.call(&mut *store, (input,))?;
                Ok(ended.map(drop))
            }
        }
    }

    /// Runs the guest `count` times, on `threads` threads. Returns how long that took.
    ///
    /// # Errors
    ///
    /// A run failed.
    pub fn run_all(&self, input: &[u8], count: usize, threads: usize) -> anyhow::Result<Duration> {
        let left = AtomicUsize::new(count);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let one = || {
                let next = || {
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        left.checked_sub(1)
                    })
                };
                while next().is_ok() {
                    self.run(input)?;
                }
                anyhow::Ok(())
            };
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            for thread in all {
                thread.join().ok().context("a thread panicked")??;
            }
            anyhow::Ok(())
        })?;
        Ok(began.elapsed())
    }
}

/// The number of processors that this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
