//! The child that compiles: it limits itself before it reads a byte, compiles one module, and ends.
//! Never runs the code that it made, never opens a file, and never outlives the worker.

use crate::{
    compile::{self, ARG, MEMORY_OR_HOST, NO_MEMORY, NOT_BEGUN, REJECTED, Terms},
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

/// The niceness of the child: it gets about a tenth of the processor time of a thread with niceness 0,
/// such as those of links and of the lease.
const NICENESS: i32 = 10;

/// Seconds from the limit of processor time, at which the kernel sends SIGXCPU, until it sends SIGKILL.
const CPU_MARGIN_S: u64 = 1;

/// The limit of file descriptors: the child has its three standard streams, and never another file.
const FILES_MAX: u64 = 3;

/// An error counts as lack of memory if not even this much can be allocated, in bytes: enough for the
/// stack of a thread.
const MEMORY_LEFT: usize = 4 * 1024 * 1024;

/// Compiles a module if this process was started for that, and returns its exit code. Call this before
/// anything else in `main`.
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

/// Enforces the limits on this process. It has read nothing of the module yet.
fn keep_to(terms: &Terms) -> io::Result<()> {
    set_no_new_privs(true)?;
    nice(NICENESS)?;
    let addresses = terms.addresses.map_or_else(compile::addresses, Ok)?;
    confine::shut().map_err(io::Error::other)?;
    let limits = [
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
        // On top of what the program itself has mapped, so that the limit applies to the
        // compilation alone.
        (Resource::As, addresses.saturating_add(terms.memory), 0),
        // A host that allows less makes this fail here, so that the module is not blamed later.
        (Resource::Data, addresses.saturating_add(terms.memory), 0),
        (Resource::Cpu, terms.within.as_secs().saturating_mul(terms.threads as u64), CPU_MARGIN_S),
        // Last, because entering a Landlock domain needs a file descriptor. Without new files there
        // are no sockets.
        (Resource::Nofile, FILES_MAX, 0),
    ];
    for (resource, limit, margin) in limits {
        let (current, maximum) = (Some(limit), Some(limit.saturating_add(margin)));
        setrlimit(resource, Rlimit { current, maximum })?;
    }
    Ok(())
}

/// Makes a panic that is due to a lack of memory end the process with its own exit code.
fn crash_by_name() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_memory_short() {
            std::process::exit(NO_MEMORY.into());
        }
        print(panic);
    }));
}

/// Starts the compiler's threads before the module is read: if the host gives no threads, nothing is
/// known about the module.
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
    // Reading one byte more than the limit shows that a module is too large.
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
        // The worker no longer reads.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Writes one line to standard error, and returns the exit code.
fn complain(code: u8, why: &str) -> ExitCode {
    // An error means that the worker no longer reads, and does not need the line.
    let _ = writeln!(io::stderr(), "{}", why.replace('\n', " "));
    ExitCode::from(code)
}
