//! The one Wasm engine of a worker, and programs made ready for it. Never runs a guest, and never takes
//! machine code from outside.

mod ahead;
mod revive;
mod ticker;

pub(crate) use ahead::{Unmade, compile_ahead};
pub use ticker::TICK;
pub(crate) use ticker::Ticking;

use crate::sandbox::{
    CORE_INSTANCES_MAX, MEMORIES_MAX, Sandbox, TABLE_ELEMENTS_MAX, TABLES_MAX,
    host::bindings::{Task, TaskPre},
};
use crate::{code::OwnCode, shortage};
use muster_module::{Kind, World};
use muster_protocol::Digest;
use rustix::io::Errno;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};
use ticker::Ticker;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, InstancePre, Linker, Module, OptLevel,
    PoolingAllocationConfig, Strategy, WasmBacktraceDetails, WasmFeatures,
    component::{self, Component, HasSelf},
};
use wasmtime_wasi::{I32Exit, p1, p2, p2::bindings::CommandPre};

/// The most runs at the same time. Each reserves 16 GiB of addresses (never memory) for its linear
/// memories, and a process on x86-64 has 128 TiB of addresses.
pub const SLOTS_MAX: u32 = 4_096;

/// Bytes of addresses of one linear memory: all that 32-bit Wasm can address, so that no access needs a
/// check.
const MEMORY_RESERVED: usize = 4 << 30;

/// The stack of a guest, in bytes. A native process has 8 MiB; here each run has a stack of its own.
pub const WASM_STACK_MAX: usize = 512 * 1024;

/// The whole stack of a run, in bytes: the guest's part, and what a host function needs on top of that.
const STACK_SIZE: usize = 2 * 1024 * 1024;

/// Bytes of the runtime's records of one core instance: its functions, types, globals and imports.
/// Python's largest library needs 300 KB.
const CORE_INSTANCE_SIZE_MAX: usize = 4 * 1024 * 1024;

/// The same for all instances of a component together, in bytes.
const COMPONENT_INSTANCE_SIZE_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a finished run's memory that are cleared by writing zeros, where the kernel can tell which
/// pages were touched (Linux 6.7). A short task then finds its pages mapped and takes half the time, 37
/// µs instead of 71 µs. On other kernels the runtime would have to write all of these bytes, and
/// returning them to the kernel is cheaper.
const MEMORY_KEPT: usize = 256 * 1024;

/// The same for tables, in bytes.
const TABLE_KEPT: usize = 16 * 1024;

/// Why there is no engine. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The number of slots is out of range.
    #[error("a worker has from 1 to {SLOTS_MAX} slots, not {0}")]
    Slots(u32),
    /// The runtime refused its configuration, or the machine does not have enough addresses.
    #[error("the Wasm engine could not be made: {0}")]
    Runtime(String),
    /// No thread could be started.
    #[error("the engine's clock thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<wasmtime::Error> for EngineError {
    fn from(error: wasmtime::Error) -> Self {
        EngineError::Runtime(format!("{error:#}"))
    }
}

/// Why compiled code could not be made a program. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum ReviveError {
    /// The host lacks something; a retry may help.
    #[error("{0}")]
    Host(String),
    /// The code does not fit this engine; the module has to be compiled again.
    #[error("{0}")]
    Unfit(String),
}

impl From<wasmtime::Error> for ReviveError {
    fn from(error: wasmtime::Error) -> Self {
        match shortage::behind(&error) {
            Some((_, why)) => ReviveError::Host(why),
            None => ReviveError::Unfit(not_here(&error)),
        }
    }
}

/// The first byte of compiled code: it says what is instantiated and called.
const COMMAND: u8 = 0;
const PROGRAM: u8 = 1;
const TASK: u8 = 2;

/// Compiles programs, and has slots for a number of runs at the same time. Clones are the same engine.
/// Dropping the last clone joins the engine's thread, which takes up to [`TICK`].
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasm: wasmtime::Engine,
    core: Linker<Sandbox>,
    components: component::Linker<Sandbox>,
    ticker: Ticker,
    slots: Semaphore,
}

/// A module made ready to run. Clones are the same program.
#[derive(Clone)]
pub struct Program(Arc<Ready>);

struct Ready {
    digest: Digest,
    code_size: usize,
    entry: Entry,
}

/// The entry point of a program, by the kind of its module.
pub(crate) enum Entry {
    Command(InstancePre<Sandbox>),
    Program(CommandPre<Sandbox>),
    Task(TaskPre<Sandbox>),
}

impl Engine {
    /// An engine for `slots` runs at the same time, from 1 to [`SLOTS_MAX`].
    pub fn new(slots: u32) -> Result<Self, EngineError> {
        if slots == 0 || slots > SLOTS_MAX {
            return Err(EngineError::Slots(slots));
        }
        let wasm = match wasmtime::Engine::new(&config(slots)) {
            Err(error) if matches!(shortage::behind(&error), Some((Errno::NOMEM, _))) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    error,
                    "the kernel gives too few addresses for {slots} slots (39 bits of addresses, or `ulimit -v`), so each \
                     run maps its own memory: runs start more slowly, and some may be returned"
                );
                wasmtime::Engine::new(&code_config())?
            }
            made => made?,
        };
        Ok(Engine(Arc::new(Inner {
            core: core_linker(&wasm)?,
            components: component_linker(&wasm)?,
            ticker: Ticker::start(wasm.clone())?,
            slots: Semaphore::new(slots as usize),
            wasm,
        })))
    }

    /// Makes a module ready to run in this very process; an error says why that is not possible. This
    /// takes from a millisecond to half a minute on all processors, and nothing limits it: a worker
    /// uses a child for it (see [`crate::compile`]). The module is inspected again, even if it was
    /// inspected before, because this is the last place that can refuse it.
    pub fn compile(&self, wasm: &[u8]) -> Result<Program, String> {
        let (digest, shape) = inspect(wasm)?;
        let inner = &*self.0;
        let failed = |error: wasmtime::Error| not_here(&error);
        let (entry, code_size) = match shape {
            Shape::Core => {
                inner.command(&Module::new(&inner.wasm, wasm).map_err(failed)?).map_err(failed)?
            }
            Shape::Component(world) => {
                let component = Component::new(&inner.wasm, wasm).map_err(failed)?;
                inner.component(&component, world).map_err(failed)?
            }
        };
        Ok(Program(Arc::new(Ready { digest, code_size, entry })))
    }

    /// A hash of everything that compiled code must fit: the runtime's version and settings, and this
    /// machine.
    pub fn compatibility(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.wasm.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    /// Makes a program from code that [`Program::code`] returned. This takes a millisecond where
    /// compiling takes a hundred.
    pub fn revive(&self, digest: Digest, code: &OwnCode) -> Result<Program, ReviveError> {
        let inner = &*self.0;
        let (entry, code_size) = match code.bytes().first() {
            Some(&COMMAND) => inner.command(&revive::module(&inner.wasm, code)?)?,
            Some(&kind @ (PROGRAM | TASK)) => {
                let world = if kind == TASK { World::Task } else { World::CommandRun };
                let component = revive::component(&inner.wasm, code)?;
                inner.component(&component, world)?
            }
            kind => {
                let why = format!("the kind of its code is unknown: {kind:?}");
                return Err(ReviveError::Unfit(why));
            }
        };
        Ok(Program(Arc::new(Ready { digest, code_size, entry })))
    }

    /// The runtime's own engine, for stores.
    pub(crate) fn wasm(&self) -> &wasmtime::Engine {
        &self.0.wasm
    }

    /// A guard to hold while a guest runs: guests are interrupted at each [`TICK`] only while one is
    /// held.
    pub(crate) fn ticking(&self) -> Ticking {
        self.0.ticker.ticking()
    }

    /// A slot for one run; hold it until the run's store is gone. The few very short runs that a worker
    /// begins beyond its slots wait here.
    pub(crate) async fn slot(&self) -> SemaphorePermit<'_> {
        self.0.slots.acquire().await.expect("the semaphore is never closed")
    }
}

impl Inner {
    fn command(&self, module: &Module) -> wasmtime::Result<(Entry, usize)> {
        let pre = self.core.instantiate_pre(module)?;
        Ok((Entry::Command(pre), range_size(module.image_range())))
    }

    fn component(&self, component: &Component, world: World) -> wasmtime::Result<(Entry, usize)> {
        let pre = self.components.instantiate_pre(component)?;
        let entry = match world {
            World::CommandRun => Entry::Program(CommandPre::new(pre)?),
            World::Task => Entry::Task(TaskPre::new(pre)?),
        };
        Ok((entry, range_size(component.image_range())))
    }
}

impl Program {
    /// The compiled form, for [`Engine::revive`] in a later process of this worker, and for no other
    /// use.
    pub fn code(&self) -> Result<Vec<u8>, String> {
        let (shape, code) = match self.entry() {
            Entry::Command(pre) => (Shape::Core, pre.module().serialize()),
            Entry::Program(pre) => {
                (Shape::Component(World::CommandRun), pre.instance_pre().component().serialize())
            }
            Entry::Task(pre) => {
                (Shape::Component(World::Task), pre.instance_pre().component().serialize())
            }
        };
        let code = code.map_err(|error| format!("{error:#}"))?;
        Ok([&[shape.first_byte()][..], &code].concat())
    }

    /// The digest of the module.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Bytes of the compiled form in memory.
    pub fn code_size(&self) -> usize {
        self.0.code_size
    }

    /// Whether there is another clone of this program, for a run or in the cache.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.0.entry
    }
}

/// The form of a module for the compiler.
#[derive(Clone, Copy)]
enum Shape {
    Core,
    Component(World),
}

impl Shape {
    fn first_byte(self) -> u8 {
        match self {
            Shape::Core => COMMAND,
            Shape::Component(World::CommandRun) => PROGRAM,
            Shape::Component(World::Task) => TASK,
        }
    }
}

/// The digest and the form of a module; an error says why it cannot be run anywhere.
fn inspect(wasm: &[u8]) -> Result<(Digest, Shape), String> {
    let info = muster_module::inspect(wasm).map_err(|refusal| refusal.to_string())?;
    let shape = match info.kind {
        Kind::Command => Shape::Core,
        Kind::Component { world } => Shape::Component(world),
        Kind::SdkCore => {
            return Err("the module was built for the SDK and must be made a component first: \
                        push it again with `muster module push`"
                .into());
        }
    };
    Ok((info.digest, shape))
}

fn not_here(error: &wasmtime::Error) -> String {
    format!("the module cannot be run here: {error:#}")
}

fn range_size(range: std::ops::Range<*const u8>) -> usize {
    range.end as usize - range.start as usize
}

fn config(slots: u32) -> Config {
    let mut config = code_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
    config
}

/// All settings that decide which code is made and where it fits. An engine with these settings
/// reserves no addresses.
fn code_config() -> Config {
    let mut config = Config::new();
    config.wasm_features(WasmFeatures::all().difference(muster_module::features()), false);
    config.wasm_features(muster_module::features(), true);
    config.strategy(Strategy::Cranelift).cranelift_opt_level(OptLevel::Speed);
    config.epoch_interruption(true).concurrency_support(false);
    config.max_wasm_stack(WASM_STACK_MAX).async_stack_size(STACK_SIZE);
    config.memory_init_cow(true).memory_reservation(MEMORY_RESERVED as u64);
    // Function names come from the name section; line tables would stay in memory for every program.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable).native_unwind_info(false);
    config
}

/// A pool for `slots` runs of the largest kind: whatever mix of runs is admitted, each one finds its
/// instances, memories, tables and stack.
fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(MEMORY_KEPT)
            .table_keep_resident(TABLE_KEPT);
    }
    pool.total_component_instances(slots)
        .max_component_instance_size(COMPONENT_INSTANCE_SIZE_MAX)
        .total_core_instances(slots * CORE_INSTANCES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_core_instance_size(CORE_INSTANCE_SIZE_MAX)
        .total_memories(slots * MEMORIES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(1)
        .max_memory_size(MEMORY_RESERVED)
        .total_tables(slots * TABLES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .total_stacks(slots)
        .max_unused_warm_slots(slots);
    pool
}

fn core_linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |sandbox: &mut Sandbox| &mut sandbox.wasi)?;
    // The runtime's own function refuses codes over 125, which shells reserve but programs use.
    linker.allow_shadowing(true);
    linker.func_wrap(
        muster_module::PREVIEW1_MODULE,
        "proc_exit",
        |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) },
    )?;
    Ok(linker)
}

fn component_linker(engine: &wasmtime::Engine) -> wasmtime::Result<component::Linker<Sandbox>> {
    let mut linker = component::Linker::new(engine);
    p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Task::add_to_linker::<Sandbox, HasSelf<Sandbox>>(&mut linker, |sandbox| sandbox)?;
    Ok(linker)
}

#[cfg(test)]
mod tests;
