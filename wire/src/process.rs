//! How a daemon begins and ends: threads, signals, files. Never kills a process that it did not start.

use crate::log;
use rustix::rand::GetRandomFlags;
use std::{
    future::Future,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
};

/// The exit code of a daemon that could not begin. Somebody must change its options or environment.
pub const NOT_BEGUN: u8 = 2;

/// The exit code of a daemon that did not stop within its limit.
const NOT_ENDED: i32 = 1;

/// What tells a daemon to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSource {
    /// SIGTERM and SIGINT (Ctrl-C). A second signal ends the process at once.
    BySignals,
    /// As `BySignals`, and the end of standard input.
    BySignalsOrInput,
    /// A supervising process, which can also end the daemon at once. A repeated signal has no further
    /// effect, because a signal may go to both processes.
    BySupervisor,
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRequest {
    /// SIGTERM.
    Terminate,
    /// SIGINT, as by Ctrl-C.
    Interrupt,
    /// Standard input has ended.
    InputEnded,
}

impl StopRequest {
    /// The exit code when this signal ends the process at once: 128 plus the signal's number, as shells
    /// use it.
    pub fn exit_code(self) -> Option<u8> {
        match self {
            StopRequest::Terminate => Some(128 + 15),
            StopRequest::Interrupt => Some(128 + 2),
            StopRequest::InputEnded => None,
        }
    }
}

/// A stream of requests to stop this process.
pub struct StopRequests {
    terminate: Signal,
    interrupt: Signal,
    input: Option<oneshot::Receiver<()>>,
}

impl StopRequests {
    /// Listens from now on, and to the end of standard input if `input`. Needs a Tokio runtime.
    pub fn new(input: bool) -> io::Result<Self> {
        let input = input.then(|| {
            let (ended, end) = oneshot::channel();
            std::thread::spawn(move || {
                // Read to the end and discard the bytes.
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                let _ = ended.send(());
            });
            end
        });
        let (terminate, interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(StopRequests { terminate, interrupt, input })
    }

    /// Waits for the next request. Cancel-safe.
    pub async fn next(&mut self) -> StopRequest {
        let input = async {
            match &mut self.input {
                Some(input) => input.await,
                None => std::future::pending().await,
            }
        };
        let ask = tokio::select! {
            _ = self.terminate.recv() => StopRequest::Terminate,
            _ = self.interrupt.recv() => StopRequest::Interrupt,
            _ = input => StopRequest::InputEnded,
        };
        if ask == StopRequest::InputEnded {
            self.input = None;
        }
        ask
    }
}

/// Runs a daemon until it ends or is told to stop, with `threads` threads for its loops. An error of
/// `daemon` means that it could not begin, with exit code 2.
///
/// Use few threads: with two, one wakes the other for every message, and that takes longer than handling
/// most messages. More than one is for a daemon whose work exceeds one thread.
pub fn run<F, R>(name: &str, told: StopSource, threads: usize, daemon: F) -> ExitCode
where
    F: FnOnce(watch::Receiver<bool>) -> R,
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    log::begin();
    let (stop, stopped) = watch::channel(false);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).enable_all().build();
    let runtime = match runtime.and_then(|runtime| listen(told, stop).map(|()| runtime)) {
        Ok(runtime) => runtime,
        Err(error) => {
            log::say(&format!("error: {name} cannot start its threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // As a loop among the others, not on this thread: the runtime would have to wake this thread for
    // each input.
    let daemon = runtime.block_on(async { tokio::spawn(daemon(stopped)).await });
    let result = daemon.expect("a panic ends the process, and nothing aborts this loop");
    runtime.shutdown_background();
    match result {
        Ok(()) => {
            log::flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::say(&format!("error: {name} cannot begin: {error:#}"));
            ExitCode::from(NOT_BEGUN)
        }
    }
}

/// Ends this process after `limit`, even if its loops hang. For a daemon that is stopping.
pub fn end_after(limit: Duration) {
    let ending = move || {
        std::thread::sleep(limit);
        log::say("error: it did not stop in time; it is ended now");
        std::process::exit(NOT_ENDED);
    };
    if let Err(error) = std::thread::Builder::new().name("end".into()).spawn(ending) {
        tracing::warn!(%error, "nothing will end this process if it hangs");
    }
}

/// Listens for requests to stop on a thread of its own, so that a daemon that hangs cannot block it.
fn listen(told: StopSource, stop: watch::Sender<bool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut asks = {
        let _within = runtime.enter();
        StopRequests::new(told == StopSource::BySignalsOrInput)?
    };
    let listening = async move {
        let mut signals = 0;
        loop {
            let ask = asks.next().await;
            stop.send_replace(true);
            signals += u32::from(ask.exit_code().is_some());
            if let Some(code) = ask.exit_code()
                && signals > 1
                && told != StopSource::BySupervisor
            {
                log::say("error: stopped by a second signal; unfinished work is lost");
                std::process::exit(code.into());
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(listening))?;
    Ok(())
}

/// 64 random bits from the operating system, for unique names.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // The kernel returns up to 256 bytes at once. No file is opened, so a lack of file descriptors does
    // not matter.
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Writes a small file atomically: a reader sees the old content or all of the new one.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    write_whole_as(path, text, 0o666)
}

/// The same for a file that has this mode from its first byte on, less what the process masks.
pub fn write_whole_as(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    // Two threads may write the same file at once, so each writes a draft of its own.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let mut draft = path.as_os_str().to_owned();
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    draft.push(format!(".{}.{number}", std::process::id()));
    // A draft of an earlier process would keep its own mode.
    let _ = std::fs::remove_file(&draft);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process};
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::ExitStatusExt as _,
        process::{Child, Command, Stdio},
        time::Instant,
    };

    /// Makes this test program behave as a daemon that hangs when it is told to stop.
    const MODE: &str = "MUSTER_TEST_HANGS";

    const LIMIT: Duration = Duration::from_millis(300);

    /// Makes it behave as a daemon of which a loop, or a thread, panics while the others go on.
    const PANICS: &str = "MUSTER_TEST_PANICS";

    #[test]
    #[ignore = "the process that another test looks at"]
    fn panics() {
        let Some(how) = std::env::var_os(PANICS) else { return };
        let ended = run("test", StopSource::BySignals, 1, |_| async move {
            let broken = || panic!("it is broken");
            if how == "a loop" {
                tokio::spawn(async move { broken() });
            } else {
                std::thread::spawn(broken);
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(())
        });
        assert_eq!(ended, ExitCode::SUCCESS);
    }

    #[test]
    fn a_panic_in_any_loop_or_thread_ends_the_process_and_is_told() {
        for how in ["a loop", "a thread"] {
            let output = Command::new(std::env::current_exe().expect("a test is a file"))
                .args(["process::tests::panics", "--exact", "--ignored", "--nocapture"])
                .env(PANICS, how)
                .output()
                .expect("it starts");
            assert_eq!(output.status.signal(), Some(6), "{how}: it goes on without a part of it");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(told.contains("it is broken") && told.contains("process.rs"), "{told}");
        }
    }

    #[test]
    fn a_file_may_be_written_by_two_threads_at_once() {
        let dir = std::env::temp_dir().join(format!("muster-drafts-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a folder");
        let path = dir.join("file");
        let write = || (0..50).try_for_each(|_| write_whole(&path, "whole"));
        std::thread::scope(|scope| {
            let writers = [scope.spawn(write), scope.spawn(write)];
            for writer in writers {
                writer.join().expect("no panic").expect("each has a draft of its own");
            }
        });
        assert_eq!(std::fs::read_dir(&dir).expect("a folder").count(), 1);
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }

    #[test]
    #[ignore = "the process that other tests end"]
    fn hangs() {
        if std::env::var_os(MODE).is_none() {
            return;
        }
        run("test", StopSource::BySignals, 1, |mut stop| async move {
            println!("\nready");
            let _ = stop.wait_for(|stop| *stop).await;
            end_after(LIMIT);
            println!("\nstopping");
            loop {
                std::thread::park();
            }
        });
    }

    fn told_once() -> Child {
        let mut child = Command::new(std::env::current_exe().expect("a test is a file"))
            .args(["process::tests::hangs", "--exact", "--ignored", "--nocapture"])
            .env(MODE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let mut await_line = |word| {
            assert!(lines.any(|line| line.expect("UTF-8") == word), "it says {word}");
        };
        await_line("ready");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        await_line("stopping");
        child
    }

    #[test]
    fn what_hangs_ends_with_its_process() {
        let mut child = told_once();
        assert_eq!(child.wait().expect("a child").code(), Some(NOT_ENDED));
    }

    #[test]
    fn a_second_signal_ends_at_once_what_hangs() {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            let mut child = told_once();
            let told = Instant::now();
            kill_process(Pid::from_child(&child), signal).expect("it runs");
            assert_eq!(child.wait().expect("a child").code(), Some(code));
            assert!(told.elapsed() < LIMIT, "{:?}", told.elapsed());
        }
    }
}
