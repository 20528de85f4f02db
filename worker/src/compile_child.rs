//! The child that compiles: it limits itself before it reads a byte, compiles one module, and ends.
//! Never runs what it made, never opens a file, and never outlives the worker.

use crate::{
    compile::{ARG, MEMORY_OR_HOST, NO_MEMORY, NOT_BEGUN, REJECTED, Terms},
    confine,
    engine::{Unmade, compile_ahead},
    supervisor,
};
use muster_protocol::limit;
use rustix::{
    process::{Resource, Rlimit, nice, setrlimit},
    thread::set_no_new_privs,
};
use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

/// How much less it gets of a processor than guests and leases, which have 0: a tenth, about.
const NICENESS: i32 = 10;

/// How long after its last second of processor time the kernel kills what the first signal did not.
const CPU_MARGIN_S: u64 = 1;

/// Where the numbers of open files end: it has its standard streams, and never another.
const FILES_MAX: u64 = 3;

/// What must still be had for an error to have had another cause than too little memory: the stack
/// of a thread.
const MEMORY_LEFT: usize = 4 * 1024 * 1024;

/// Compiles a module if that is what this process was started for; its exit code. To be called
/// before anything else.
pub fn child() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != ARG {
        return None;
    }
    Some(match begin(args) {
        Ok(()) => {
            crash_by_name();
            match start_threads() {
                Ok(()) => compile(),
                Err(code) => code,
            }
        }
        Err(error) => complain(NOT_BEGUN, &error.to_string()),
    })
}

fn begin(args: impl Iterator<Item = OsString>) -> io::Result<()> {
    let (parent, terms) = Terms::heard(args)
        .ok_or_else(|| io::Error::other("only a worker starts this, with its own arguments"))?;
    supervisor::tie(parent)?;
    keep_to(&terms)
}

/// Makes it impossible to take more. Nothing of the module has been seen yet.
fn keep_to(terms: &Terms) -> io::Result<()> {
    set_no_new_privs(true)?;
    nice(NICENESS)?;
    let addresses = addresses()?;
    confine::shut().map_err(io::Error::other)?;
    let limits = [
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
        // Counted from the program itself, so that the number is that of the compilation.
        (Resource::As, addresses.saturating_add(terms.memory), 0),
        // A host that allows less says so here, before it could be taken for the module's fault.
        (Resource::Data, addresses.saturating_add(terms.memory), 0),
        (Resource::Cpu, terms.within.as_secs().saturating_mul(terms.threads as u64), CPU_MARGIN_S),
        // Last, as a domain of Landlock begins as a file. Without files there are no sockets.
        (Resource::Nofile, FILES_MAX, 0),
    ];
    for (resource, limit, margin) in limits {
        let (current, maximum) = (Some(limit), Some(limit.saturating_add(margin)));
        setrlimit(resource, Rlimit { current, maximum })?;
    }
    Ok(())
}

/// Where the program panics because memory is short, the exit code says so.
fn crash_by_name() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_memory_short() {
            std::process::exit(NO_MEMORY.into());
        }
        print(panic);
    }));
}

/// Starts the compiler's threads before the module is read: where the host gives none, nothing is
/// known of the module.
fn start_threads() -> Result<(), ExitCode> {
    match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => Ok(()),
        Err(_) if is_memory_short() => Err(ExitCode::from(NO_MEMORY)),
        Err(error) => Err(complain(NOT_BEGUN, &format!("its threads did not start: {error}"))),
    }
}

fn is_memory_short() -> bool {
    Vec::<u8>::new().try_reserve_exact(MEMORY_LEFT).is_err()
}

fn compile() -> ExitCode {
    let mut wasm = Vec::new();
    // One byte more than there may be is found to be too much.
    let read = io::stdin().lock().take(limit::MODULE_SIZE_MAX + 1).read_to_end(&mut wasm);
    if let Err(error) = read {
        return complain(NOT_BEGUN, &format!("the module did not come: {error}"));
    }
    let code = match compile_ahead(&wasm) {
        Ok(code) => code,
        Err(Unmade::Memory) => return ExitCode::from(NO_MEMORY),
        Err(_) if is_memory_short() => return ExitCode::from(NO_MEMORY),
        Err(Unmade::MemoryOrHost(reason)) => return complain(MEMORY_OR_HOST, &reason),
        Err(Unmade::Host(reason)) => return complain(NOT_BEGUN, &reason),
        Err(Unmade::Rejected(reason)) => return complain(REJECTED, &reason),
    };
    let mut output = io::stdout().lock();
    match output.write_all(&code).and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody listens any more.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says one line, and how it ends.
fn complain(code: u8, why: &str) -> ExitCode {
    // Whoever does not listen any more does not want to know it.
    let _ = writeln!(io::stderr(), "{}", why.replace('\n', " "));
    ExitCode::from(code)
}

/// What this process has mapped by now: the program and its libraries, mostly.
fn addresses() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB"));
    let kib: Option<u64> = size.and_then(|size| size.trim().parse().ok());
    Ok(kib.ok_or_else(|| io::Error::other("/proc/self/status has no VmSize"))? * 1024)
}
