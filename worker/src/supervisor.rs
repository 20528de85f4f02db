//! The supervisor: a small process that starts the worker, and restarts it after a crash. It tries another program
//! when the worker was upgraded. Never runs a guest, never holds a lease, and never leaves the worker behind.
//!
//! It starts the next worker process only after it has waited for the last one. The lock of the state
//! directory is free then, which proves to the registry that the old runs have ended.

use crate::{config::Config, programs::Programs};
use muster_wire::{
    log,
    notify::{self, ALIVE, Notifier, PROVEN, WORD_MAX},
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
    sync::oneshot,
};

/// The exit code of a process that is to be started again: neither success nor [`NOT_BEGUN`].
pub(crate) const AGAIN: i32 = 1;

/// The exit code of a process that has left the program of an upgrade for its supervisor.
pub(crate) const UPGRADE: i32 = 3;

/// The first wait after a crash that soon follows another one. After a process lifetime of at least
/// [`GOOD_LIFE`], the restart is immediate.
const AGAIN_MIN: Duration = Duration::from_millis(100);

/// The longest wait: a shortage of the host is over within seconds, or lasts long.
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// The process lifetime that resets the waits: a worker that cannot run at all fails within one second.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// How long a worker whose program failed its trial may take to end.
const TRIAL_ENDS_WITHIN: Duration = Duration::from_secs(20);

/// How often the service manager hears during a trial that the supervisor lives.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// How long the last words of a worker that has ended may take.
const SAID_WITHIN: Duration = Duration::from_secs(1);

/// Starts the worker and restarts it until it ends in good order or is told to stop. Returns its exit
/// code.
pub(crate) fn supervise(config: &Config) -> ExitCode {
    log::begin();
    // One thread, the main one: the kernel kills the worker when the thread that started it ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(async { Supervisor::new(config)?.live().await });
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
    installed: PathBuf,
    /// Absent in a worker that takes no upgrades.
    programs: Option<Programs>,
    /// How long a program on trial may take to prove itself.
    trial: Duration,
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
    /// Try the program that the worker has left.
    Upgrade,
    /// Restart: the worker crashed, and this says how.
    Again(String),
}

/// A worker that was started.
struct Started {
    child: Child,
    /// Whether it has proven that its program works.
    proven: oneshot::Receiver<()>,
}

impl Supervisor {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
        args.extend(["--supervised-by".into(), std::process::id().to_string().into()]);
        // Read at the start, because the file may be replaced while this process runs.
        let installed = std::env::current_exe()?;
        let manager = Notifier::to_manager();
        let programs = config.programs(installed.clone())?;
        if manager.tells() || programs.is_some() {
            args.push("--reports".into());
        }
        Ok(Supervisor {
            installed,
            programs,
            trial: config.trial(),
            args,
            asks: StopRequests::new(config.until_stdin_closes)?,
            waits: Waits::default(),
            manager: Arc::new(manager),
        })
    }

    async fn live(mut self) -> anyhow::Result<ExitCode> {
        loop {
            let born = Instant::now();
            let how = match self.start() {
                Ok(mut started) => {
                    let ended =
                        ended(self.programs.as_mut(), self.trial, &self.manager, &mut started);
                    let status = tokio::select! {
                        status = ended => status?,
                        ask = self.asks.next() => return Ok(self.stop(started.child, ask).await?),
                    };
                    // A program that failed its trial is followed by the one before it.
                    let Some(status) = status else { continue };
                    match next(status) {
                        Next::End(code) => return Ok(ExitCode::from(code)),
                        Next::Upgrade => match &mut self.programs {
                            Some(programs) => match programs.take() {
                                Ok(()) => continue,
                                Err(error) => format!("left no upgrade: {error:#}"),
                            },
                            None => format!("ended with exit code {UPGRADE}"),
                        },
                        Next::Again(how) => how,
                    }
                }
                Err(error) => {
                    let how = format!("could not be started: {error}");
                    if let Some(programs) = &mut self.programs {
                        programs.gives_up(&how);
                    }
                    how
                }
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

    fn start(&mut self) -> io::Result<Started> {
        let program = self.programs.as_mut().map_or_else(|| self.installed.clone(), Programs::path);
        // In the same process group, so that a signal to the group reaches both processes.
        let mut command = Command::new(program);
        command.args(&self.args).stdin(Stdio::null());
        if let Some(programs) = &self.programs {
            command.args(["--program", &programs.present().to_string()]);
        }
        let (proves, proven) = oneshot::channel();
        if !self.manager.tells() && self.programs.is_none() {
            return Ok(Started { child: command.spawn()?, proven });
        }
        command.env_remove(notify::SOCKET).env_remove(notify::WATCHED).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(words) = child.stdout.take() {
            tokio::spawn(pass_on(words, self.manager.clone(), proves));
        }
        Ok(Started { child, proven })
    }

    /// Passes the request to stop on to the worker, and waits for its end. A second signal ends both at
    /// once.
    async fn stop(mut self, mut child: Child, ask: StopRequest) -> io::Result<ExitCode> {
        tracing::info!(?ask, "the worker is told to stop; another signal ends it at once");
        if let Some(programs) = &mut self.programs {
            programs.breaks_off();
        }
        terminate(&child);
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

/// Waits until the worker has ended. If its program is on trial, it is ended unless it proves itself in time; `None`
/// means that it has failed.
async fn ended(
    programs: Option<&mut Programs>,
    trial: Duration,
    manager: &Notifier,
    started: &mut Started,
) -> io::Result<Option<ExitStatus>> {
    let Started { child, proven } = started;
    let Some(programs) = programs.filter(|programs| programs.is_trying()) else {
        return Ok(Some(child.wait().await?));
    };
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    let late = tokio::time::sleep(trial);
    tokio::pin!(late);
    // Whether it may still say something.
    let mut is_heard = true;
    loop {
        tokio::select! {
            said = &mut *proven, if is_heard => {
                is_heard = false;
                if said.is_ok() {
                    programs.proved();
                    return Ok(Some(child.wait().await?));
                }
            }
            // What it said before its end is heard first. A process that it left may keep the pipe open.
            status = ended_and_heard(child, is_heard) => {
                let how = match next(status?) {
                    Next::Again(how) => how,
                    Next::End(code) => format!("ended with exit code {code}"),
                    Next::Upgrade => format!("ended with exit code {UPGRADE}"),
                };
                programs.gives_up(&format!(
                    "it {how} before it had run a guest and had a lease and a link"
                ));
                return Ok(None);
            }
            // A program that hangs is given up here, and not by the service manager.
            _ = alive.tick() => manager.pass_on(ALIVE),
            () = &mut late => {
                programs.gives_up(&format!("it had not run a guest, or had no lease or link, within {trial:?}"));
                terminate(child);
                if tokio::time::timeout(TRIAL_ENDS_WITHIN, child.wait()).await.is_err() {
                    child.kill().await?;
                }
                return Ok(None);
            }
        }
    }
}

/// Waits for the end of a process, and for what it said before, as long as it may still be heard.
async fn ended_and_heard(child: &mut Child, is_heard: bool) -> io::Result<ExitStatus> {
    let status = child.wait().await?;
    if is_heard {
        tokio::time::sleep(SAID_WITHIN).await;
    }
    Ok(status)
}

fn terminate(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
        // The child was not waited for yet, so the id is still its own, even if it has ended.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Passes on what the worker says of itself, word by word. A word that is too long is dropped.
async fn pass_on(mut words: ChildStdout, manager: Arc<Notifier>, proves: oneshot::Sender<()>) {
    let mut proves = Some(proves);
    let (mut bytes, mut word) = ([0; WORD_MAX], Vec::new());
    while let Ok(count @ 1..) = words.read(&mut bytes).await {
        for &byte in &bytes[..count] {
            match byte {
                b'\n' => {
                    if word == PROVEN.as_bytes()
                        && let Some(proves) = proves.take()
                    {
                        let _ = proves.send(());
                    } else if let Ok(word) = std::str::from_utf8(&word) {
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
        (Some(UPGRADE), _) => Next::Upgrade,
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
    use crate::programs::tests::Host;
    use muster_protocol::upgrade::{ProgramReport, Wanted};

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

    /// The end of a trial of this shell script, and what the supervisor noted of it.
    fn tried(script: &str, trial: Duration) -> (Option<i32>, ProgramReport) {
        let host = Host::new();
        let mut programs = host.supervisor();
        let program = host.program(b"new");
        host.upgraded(&mut programs, 4, Wanted::Program(program), b"new");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let status = runtime.expect("a runtime").block_on(async {
            let mut command = Command::new("sh");
            let command = command.args(["-c", script]).stdout(Stdio::piped());
            let mut child = command.spawn().expect("a shell");
            let (proves, proven) = oneshot::channel();
            let words = child.stdout.take().expect("it was piped");
            tokio::spawn(pass_on(words, Arc::new(Notifier::to_nobody()), proves));
            let mut started = Started { child, proven };
            ended(Some(&mut programs), trial, &Notifier::to_nobody(), &mut started)
                .await
                .expect("it is waited for")
        });
        (status.map(|status| status.code().unwrap_or(-1)), host.supervisor().present().report)
    }

    #[test]
    fn a_program_on_trial_stays_only_if_it_proves_itself_in_time() {
        let long = Duration::from_secs(60);
        let (status, report) = tried("echo READY=1; echo PROVEN=1; exit 7", long);
        assert_eq!((status, report.number, report.failed), (Some(7), 4, None));
        let short = Duration::from_millis(200);
        for (script, trial, why) in [
            ("echo READY=1; exit 0", long, "it ended with exit code 0 before it had run"),
            ("kill -9 $$", long, "was ended by signal 9"),
            (
                "echo PROVEN=1x; exec sleep 60",
                short,
                "it had not run a guest, or had no lease or link, within 200ms",
            ),
            ("trap '' TERM; sleep 2; exit 1", short, "within 200ms"),
        ] {
            let (status, report) = tried(script, trial);
            assert_eq!((status, report.number, report.digest), (None, 4, None), "{script}");
            let failed = report.failed.expect(script);
            assert!(failed.contains(why), "{script}: {failed}");
        }
    }

    #[test]
    fn only_crashes_are_followed_by_another_process() {
        assert_eq!(next(ExitStatus::from_raw(0)), Next::End(0));
        assert_eq!(next(ExitStatus::from_raw(2 << 8)), Next::End(2));
        assert_eq!(next(ExitStatus::from_raw(UPGRADE << 8)), Next::Upgrade);
        for (raw, how) in [(101 << 8, "exit code 101"), (9, "signal 9"), (6, "signal 6")] {
            let Next::Again(said) = next(ExitStatus::from_raw(raw)) else { panic!("{how}") };
            assert!(said.contains(how), "{said}");
        }
    }
}
