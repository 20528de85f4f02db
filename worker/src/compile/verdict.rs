//! What the end of a compiling child says about the module. Never guesses in favour of a module: a
//! compiler that crashed once on a module would crash again, on one worker after another. A child that
//! was killed has not crashed, and a module is not to blame for a shortage of the host.

use super::{CODE_MAX, CompileError, Compiled};
use crate::shortage;
use nix::sys::signal::Signal;
use rustix::io::Errno;
use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

/// The exit code of a child that has refused the module; its complaint is the reason.
pub(crate) const REJECTED: u8 = 3;

/// The exit code of a child that ran into its memory limit.
pub(crate) const NO_MEMORY: u8 = 4;

/// The exit code of a child that could not begin: nothing is known about the module.
pub(crate) const NOT_BEGUN: u8 = 5;

/// The exit code of a child whose allocation failed although it could still allocate some memory.
pub(crate) const MEMORY_OR_HOST: u8 = 6;

const HUP: i32 = Signal::SIGHUP as i32;
const INT: i32 = Signal::SIGINT as i32;
const KILL: i32 = Signal::SIGKILL as i32;
const ABRT: i32 = Signal::SIGABRT as i32;
const TERM: i32 = Signal::SIGTERM as i32;
const XCPU: i32 = Signal::SIGXCPU as i32;
const BUS: i32 = Signal::SIGBUS as i32;

/// The exit code of a Rust program that panics and unwinds.
const PANICKED: i32 = 101;

/// How a child ended.
pub(super) enum End {
    /// It ended by itself, or by a signal that this process did not send.
    Exit { status: ExitStatus, code: Vec<u8>, complaint: String },
    /// This process killed it at the timeout.
    OutOfTime,
    /// It wrote more code than [`CODE_MAX`]; the rest was not read.
    TooMuchCode,
}

pub(super) fn of(end: End, within: Duration, memory: u64) -> Result<Compiled, CompileError> {
    let out_of_time = || format!("took over {} s to compile", within.as_secs());
    let out_of_memory = || format!("took over {} MiB of memory to compile", memory >> 20);
    let (status, code, complaint) = match end {
        End::OutOfTime => return Err(CompileError::Rejected(out_of_time())),
        End::TooMuchCode => {
            let reason = format!("its compiled code is over {} MiB", CODE_MAX >> 20);
            return Err(CompileError::Rejected(reason));
        }
        End::Exit { status, code, complaint } => (status, code, complaint),
    };
    let complaint = complaint.trim();
    let rejected = match (status.code(), status.signal()) {
        (Some(0), _) => return Ok(Compiled { code }),
        (Some(exit), _) if exit == i32::from(NOT_BEGUN) => {
            let told = with_remedy(format!("its compiler could not begin: {complaint}"));
            return Err(CompileError::NotTried(told));
        }
        (Some(exit), _) if exit == i32::from(REJECTED) => complaint.into(),
        (Some(exit), _) if exit == i32::from(NO_MEMORY) => out_of_memory(),
        // The child used up its processor time before this process noticed the timeout: this process
        // was stopped.
        (_, Some(XCPU)) => out_of_time(),
        // A signal to the process group, to which this process belongs: the worker stops as well.
        (_, Some(signal @ (HUP | INT | TERM))) => {
            let told = format!("its compilation was told to stop (signal {signal})");
            return Err(CompileError::NotTried(told));
        }
        // Not this process: it kills only children whose end it no longer waits for.
        (_, Some(KILL)) => {
            tracing::warn!("a compilation was killed; is the machine short of memory?");
            let told =
                format!("its compilation was killed (signal {KILL}), maybe for lack of memory");
            return Err(CompileError::Killed(told));
        }
        // The cause may be the module or the host: retried like a child that was killed.
        (Some(exit), _) if exit == i32::from(MEMORY_OR_HOST) => {
            return Err(CompileError::Killed(with_remedy(format!("its compiler: {complaint}"))));
        }
        // SIGBUS: the kernel could not read a mapped file, such as the program.
        (_, Some(BUS)) => {
            let told = format!("its compilation was ended (signal {BUS}), maybe by a broken disk");
            return Err(CompileError::Killed(told));
        }
        // SIGABRT with this text: the allocator of the standard library ended the process.
        (_, Some(ABRT)) if complaint.contains("memory allocation of") => out_of_memory(),
        (Some(PANICKED), _) if let Some((errno, remedy)) = shortage::told(complaint) => {
            let told = format!("its compiler ended: {complaint}; {remedy}");
            return Err(match errno {
                Errno::NOMEM => CompileError::Killed(told),
                _ => CompileError::NotTried(told),
            });
        }
        (Some(PANICKED), _) => {
            tracing::warn!(complaint, "a compilation crashed");
            format!("its compilation crashed (exit code {PANICKED})")
        }
        (_, Some(signal)) => {
            tracing::warn!(signal, complaint, "a compilation crashed");
            format!("its compilation crashed (signal {signal})")
        }
        // Not an exit code of this program: it did not reach its first line.
        (exit, None) => {
            let exit = exit.unwrap_or(-1);
            let told = format!("its compiler ended with exit code {exit}: {complaint}");
            return Err(CompileError::NotTried(told));
        }
    };
    Err(CompileError::Rejected(rejected))
}

/// A sentence and, if it names a shortage of the host, what to do about it.
fn with_remedy(told: String) -> String {
    match shortage::told(&told) {
        Some((_, remedy)) if !told.contains(remedy) => format!("{told}; {remedy}"),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(raw: i32, complaint: &str) -> Result<Vec<u8>, CompileError> {
        let end = End::Exit {
            status: ExitStatus::from_raw(raw),
            code: b"code".to_vec(),
            complaint: complaint.into(),
        };
        of(end, Duration::from_secs(7), 9 << 20).map(Compiled::into_bytes)
    }

    #[test]
    fn each_end_has_its_sentence() {
        let rejected = |raw: i32, complaint: &str, reason: &str| {
            assert_eq!(verdict(raw, complaint), Err(CompileError::Rejected(reason.into())));
        };
        assert_eq!(verdict(0, ""), Ok(b"code".to_vec()));
        rejected(i32::from(REJECTED) << 8, "not a Wasm file\n", "not a Wasm file");
        rejected(i32::from(NO_MEMORY) << 8, "", "took over 9 MiB of memory to compile");
        let alloc = "memory allocation of 77 bytes failed\n";
        rejected(6, alloc, "took over 9 MiB of memory to compile");
        rejected(6, "stack overflow", "its compilation crashed (signal 6)");
        rejected(11, "", "its compilation crashed (signal 11)");
        rejected(101 << 8, "panicked", "its compilation crashed (exit code 101)");
        rejected(24, "", "took over 7 s to compile");
        let within = Duration::from_secs(7);
        let late = of(End::OutOfTime, within, 1).err();
        assert_eq!(late, Some(CompileError::Rejected("took over 7 s to compile".into())));
        let much = of(End::TooMuchCode, within, 1).err();
        assert_eq!(much, Some(CompileError::Rejected("its compiled code is over 256 MiB".into())));
    }

    #[test]
    fn a_child_that_others_killed_has_not_crashed() {
        let killed = verdict(KILL, "").err();
        let told = "its compilation was killed (signal 9), maybe for lack of memory";
        assert_eq!(killed, Some(CompileError::Killed(told.into())));
    }

    #[test]
    fn what_the_host_does_not_give_is_no_fault_of_the_module() {
        let panicked = |errno: Errno| {
            let complaint = format!("thread 'main' panicked: no pool: IOError({errno:?})");
            verdict(101 << 8, &complaint).err()
        };
        for errno in [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOSPC, Errno::IO] {
            let error = panicked(errno);
            assert!(matches!(error, Some(CompileError::NotTried(_))), "{error:?}");
        }
        let memory = panicked(Errno::NOMEM);
        assert!(matches!(memory, Some(CompileError::Killed(_))), "{memory:?}");
        for raw in [i32::from(MEMORY_OR_HOST) << 8, BUS] {
            let error = verdict(raw, "why").err();
            assert!(matches!(error, Some(CompileError::Killed(_))), "{error:?}");
        }
    }

    #[test]
    fn what_says_nothing_about_the_module_is_not_for_good() {
        for raw in [i32::from(NOT_BEGUN) << 8, 1 << 8, 127 << 8, 1, 2, 15] {
            let verdict = verdict(raw, "why");
            assert!(matches!(verdict, Err(CompileError::NotTried(_))), "{raw}: {verdict:?}");
        }
    }
}
