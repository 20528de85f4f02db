//! The supervisor: a small process that starts itself again as the worker, and restarts the worker
//! after a crash. Never runs a guest, never holds a lease, and never leaves the worker behind.
//!
//! It starts the next worker process only after it has waited for the last one. The lock of the state
//! directory is free then, which proves to the registry that the old runs have ended.

use muster_wire::{
    log,
    notify::{self, Notifier, WORD_MAX},
    process::{NOT_BEGUN, StopRequest, StopRequests},
};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitCode, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdout, Command},
};

/// The first wait after a crash that soon follows another one. After a process lifetime of at least
/// [`GOOD_LIFE`], the restart is immediate.
const AGAIN_MIN: Duration = Duration::from_millis(100);

/// The longest wait: a shortage of the host is over within seconds, or lasts long.
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// The process lifetime that resets the waits: a worker that cannot run at all fails within one second.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// Starts the worker and restarts it until it ends in good order or is told to stop. Returns its exit
/// code.
pub(crate) fn supervise(until_stdin_closes: bool) -> ExitCode {
    log::begin();
    // One thread, the main one: the kernel kills the worker when the thread that started it ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(async {
            Supervisor::new(until_stdin_closes)?.live().await.map_err(anyhow::Error::from)
        });
        // A pending read of standard input would delay the end, so do not wait for it.
        runtime.shutdown_background();
        ended
    });
    log::flush();
    ended.unwrap_or_else(|error| {
        log::say(&format!("error: muster-worker cannot start itself: {error:#}"));
        ExitCode::from(NOT_BEGUN)
    })
}

/// Called in the worker: the kernel kills it when the supervisor ends. Fails if the supervisor has
/// ended already.
pub(crate) fn tie(supervisor: i32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // If the supervisor ended before the line above, that signal will never come.
    match getppid().map(|parent| parent.as_raw_nonzero().get()) == Some(supervisor) {
        true => Ok(()),
        false => Err(io::Error::other("the supervisor has ended already")),
    }
}

struct Supervisor {
    program: PathBuf,
    args: Vec<OsString>,
    asks: StopRequests,
    waits: Waits,
    manager: Arc<Notifier>,
}

/// What the supervisor does after the worker has ended.
#[derive(Debug, PartialEq)]
enum Next {
    /// End: the worker ended in good order, or for a reason that a restart would meet again.
    End(u8),
    /// Restart: the worker crashed, and this says how.
    Again(String),
}

impl Supervisor {
    fn new(until_stdin_closes: bool) -> io::Result<Self> {
        let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
        args.extend(["--supervised-by".into(), std::process::id().to_string().into()]);
        let manager = Notifier::to_manager();
        if manager.tells() {
            args.push("--reports".into());
        }
        Ok(Supervisor {
            // Read at the start, because the file may be replaced while this process runs.
            program: std::env::current_exe()?,
            args,
            asks: StopRequests::new(until_stdin_closes)?,
            waits: Waits::default(),
            manager: Arc::new(manager),
        })
    }

    async fn live(mut self) -> io::Result<ExitCode> {
        loop {
            let born = Instant::now();
            let how = match self.start() {
                Ok(mut child) => {
                    let status = tokio::select! {
                        status = child.wait() => status?,
                        ask = self.asks.next() => return self.stop(child, ask).await,
                    };
                    match next(status) {
                        Next::End(code) => return Ok(ExitCode::from(code)),
                        Next::Again(how) => how,
                    }
                }
                Err(error) => format!("could not be started: {error}"),
            };
            let lived = born.elapsed();
            let wait = self.waits.next(lived);
            tracing::error!(?lived, again_in = ?wait, "the worker {how}; it is started again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.asks.next() => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        // In the same process group, so that a signal to the group reaches both processes.
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        if !self.manager.tells() {
            return command.spawn();
        }
        command.env_remove(notify::SOCKET).env_remove(notify::WATCHED).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(words) = child.stdout.take() {
            tokio::spawn(pass_on(words, self.manager.clone()));
        }
        Ok(child)
    }

    /// Passes the request to stop on to the worker, and waits for its end. A second signal ends both at
    /// once.
    async fn stop(mut self, mut child: Child, ask: StopRequest) -> io::Result<ExitCode> {
        tracing::info!(?ask, "the worker is told to stop; another signal ends it at once");
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            // The child was not waited for yet, so the id is still its own, even if it has ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        let code = loop {
            tokio::select! {
                status = child.wait() => break status?.code().unwrap_or(1),
                again = self.asks.next() => if let Some(code) = again.exit_code() {
                    child.kill().await?;
                    break code.into();
                },
            }
        };
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}

/// Passes on what the worker says of itself, word by word. A word that is too long is dropped.
async fn pass_on(mut words: ChildStdout, manager: Arc<Notifier>) {
    let (mut bytes, mut word) = ([0; WORD_MAX], Vec::new());
    while let Ok(count @ 1..) = words.read(&mut bytes).await {
        for &byte in &bytes[..count] {
            match byte {
                b'\n' => {
                    if let Ok(word) = std::str::from_utf8(&word) {
                        manager.pass_on(word);
                    }
                    word.clear();
                }
                // One byte more than the longest one shows that it is too long.
                byte if word.len() <= WORD_MAX => word.push(byte),
                _ => {}
            }
        }
    }
}

fn next(status: ExitStatus) -> Next {
    match (status.code(), status.signal()) {
        (Some(0), _) => Next::End(0),
        (Some(code), _) if code == i32::from(NOT_BEGUN) => Next::End(NOT_BEGUN),
        (Some(code), _) => Next::Again(format!("ended with exit code {code}")),
        (None, Some(signal)) => Next::Again(format!("was ended by signal {signal}")),
        (None, None) => Next::Again("ended".into()),
    }
}

/// The waits before restarts: none at first, then growing.
#[derive(Debug, Default)]
struct Waits {
    last: Option<Duration>,
}

impl Waits {
    fn next(&mut self, lived: Duration) -> Duration {
        if lived >= GOOD_LIFE {
            self.last = None;
        }
        let wait = match self.last {
            None => Duration::ZERO,
            Some(last) => (last * 2).clamp(AGAIN_MIN, AGAIN_MAX),
        };
        self.last = Some(wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_until_a_process_ran_long_enough() {
        let mut waits = Waits::default();
        let soon = Duration::from_millis(10);
        let first: Vec<u128> = (0..5).map(|_| waits.next(soon).as_millis()).collect();
        assert_eq!(first, [0, 100, 200, 400, 800]);
        for _ in 0..10 {
            assert!(waits.next(soon) <= AGAIN_MAX);
        }
        assert_eq!(waits.next(GOOD_LIFE), Duration::ZERO);
        assert_eq!(waits.next(soon), AGAIN_MIN);
    }

    #[test]
    fn only_crashes_are_followed_by_another_process() {
        assert_eq!(next(ExitStatus::from_raw(0)), Next::End(0));
        assert_eq!(next(ExitStatus::from_raw(2 << 8)), Next::End(2));
        for (raw, how) in [(101 << 8, "exit code 101"), (9, "signal 9"), (6, "signal 6")] {
            let Next::Again(said) = next(ExitStatus::from_raw(raw)) else { panic!("{how}") };
            assert!(said.contains(how), "{said}");
        }
    }
}
