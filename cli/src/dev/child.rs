//! A process that `muster dev` started, in a process group of its own. Never outlives `muster dev`: its
//! standard input is a pipe that closes then.

use crate::exit::Failure;
use anyhow::Context as _;
use futures::{FutureExt as _, future::select_all};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    fs::{self, File},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};
use tokio::{process, time};

/// How often to look for a file that a child writes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How many bytes of the end of a log an error shows.
const TAIL: usize = 2_000;

/// A running process.
pub struct Child {
    name: String,
    log: PathBuf,
    pid: u32,
    process: process::Child,
    /// Open for as long as the child may run.
    _stdin: Option<process::ChildStdin>,
    ended: Option<ExitStatus>,
}

impl Child {
    /// Starts `command` with its output in the file `log`.
    ///
    /// To be called on the main thread, which ends last: see `muster tether`.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone().context("cannot share the log")?;
        // A process group of its own. So Ctrl-C in the terminal reaches only this command, which stops
        // the others in order; and a child can be killed together with all that it started.
        command.process_group(0).stdin(Stdio::piped()).stdout(out).stderr(err);
        let program = command.get_program().to_owned();
        let command = std::mem::replace(command, Command::new(&program));
        let mut process = process::Command::from(command)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = process.id().context("a new process has an id")?;
        Ok(Child {
            name: name.into(),
            log: log.into(),
            pid,
            // Keep the pipe: `wait` would close it.
            _stdin: process.stdin.take(),
            process,
            ended: None,
        })
    }

    /// The name of the child.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The child's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until the child has written `file`, and reads it.
    pub async fn await_file(&mut self, file: &Path, within: Duration) -> anyhow::Result<String> {
        let until = time::Instant::now() + within;
        loop {
            if let Ok(text) = fs::read_to_string(file)
                && !text.is_empty()
            {
                return Ok(text);
            }
            if time::timeout(LOOK_EVERY, self.end()).await.is_ok() {
                let text = format!("{} {} before it was ready", self.name, self.how_it_ended());
                return Err(self.failure(text));
            }
            if time::Instant::now() > until {
                let text = format!("{} was not ready within {} s", self.name, within.as_secs());
                return Err(self.failure(text));
            }
        }
    }

    fn failure(&self, text: String) -> anyhow::Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(TAIL)..]).into_owned();
        let text = if tail.is_empty() {
            text
        } else {
            format!("{text}; its output:\n{}", tail.trim_end())
        };
        Failure::new(text).hint(format!("see {}", self.log.display())).into()
    }

    /// Sends the child SIGTERM.
    pub fn terminate(&self) {
        if let Some(pid) = self.living() {
            // The process may just have ended, which is as good.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Kills the child and every process that it started.
    pub async fn kill(&mut self) {
        if let Some(pid) = self.living() {
            let _ = kill_process_group(pid, Signal::KILL);
            self.end().await;
        }
    }

    /// Its process id, for as long as the id cannot belong to another process: until its end was waited
    /// for.
    fn living(&self) -> Option<Pid> {
        if self.ended.is_some() {
            return None;
        }
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }

    /// Waits for the child's end. May be dropped and called again.
    async fn end(&mut self) {
        if self.ended.is_none() {
            self.ended = Some(self.process.wait().await.unwrap_or_default());
        }
    }

    /// How the child ended, as the end of a sentence about it.
    pub fn how_it_ended(&self) -> String {
        match self.ended.map(|status| (status.code(), status.signal())) {
            Some((_, Some(signal))) => format!("was ended by signal {signal}"),
            Some((Some(code), _)) => format!("ended with exit code {code}"),
            _ => "ended".into(),
        }
    }
}

/// Waits until one of the children ends, and returns which; for ever if there are none.
pub async fn first_to_end(children: &mut [Child]) -> usize {
    if children.is_empty() {
        return futures::future::pending().await;
    }
    let ends = children.iter_mut().map(|child| child.end().boxed_local());
    select_all(ends).await.1
}
