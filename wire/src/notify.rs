//! Tells a service manager how this process is, by the protocol of `sd_notify(3)`. Never waits, and never reads from the
//! manager.
//!
//! A worker does not have the manager's socket: code that broke out of its runtime could send to any other socket with it.
//! It writes its words into a pipe, and its supervisor passes on those that it knows.

use muster_protocol::Time;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::{
    env,
    ffi::OsStr,
    fs::File,
    io::{self, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// The variable that names the manager's socket: a path, or an abstract name after `@`.
pub const SOCKET: &str = "NOTIFY_SOCKET";

/// The variable that says which process the manager watches.
pub const WATCHED: &str = "WATCHDOG_PID";

/// The variable that says after how many microseconds without a word the manager restarts the process.
const WATCHDOG: &str = "WATCHDOG_USEC";

/// The longest word that a supervisor passes on, in bytes.
pub const WORD_MAX: usize = 128;

/// What a worker says to its supervisor, and to nobody else, when its program has proven itself.
pub const PROVEN: &str = "PROVEN=1";

const READY: &str = "READY=1";
const STOPPING: &str = "STOPPING=1";
/// The process lives.
pub const ALIVE: &str = "WATCHDOG=1";
const STATUS: &str = "STATUS=";

/// How this process reports to its service manager, if it has one.
#[derive(Debug)]
pub struct Notifier {
    to: Option<Receiver>,
    /// How often to say that the process is alive: a third of what the manager waits.
    alive_every: Option<Duration>,
    /// When it was said last, on the boot clock.
    said_at: Option<Time>,
    status: String,
}

/// Who is told.
#[derive(Debug)]
enum Receiver {
    /// The manager.
    Manager(UnixDatagram),
    /// The supervisor, by a line in a pipe that it reads.
    Supervisor(File),
}

impl Notifier {
    /// Connects to the service manager that started this process, if one did. A manager that is gone is not told
    /// anything.
    pub fn to_manager() -> Self {
        let Some(name) = env::var_os(SOCKET).filter(|name| !name.is_empty()) else {
            return Notifier::new(None, None);
        };
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let is_watched = number(WATCHED).is_none_or(|pid| pid == u64::from(std::process::id()));
        match connect(&name) {
            Ok(socket) => {
                Notifier::new(Some(Receiver::Manager(socket)), waits().filter(|_| is_watched))
            }
            Err(error) => {
                tracing::warn!(%error, socket = ?name, "the service manager of {SOCKET} cannot be told anything");
                Notifier::new(None, None)
            }
        }
    }

    /// Tells the supervisor of this process, which reads its standard output. That has to be a pipe of this process alone.
    pub fn to_supervisor() -> io::Result<Self> {
        let pipe = File::from(rustix::io::dup(io::stdout())?);
        let flags = fcntl_getfl(&pipe)?;
        fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?;
        Ok(Notifier::new(Some(Receiver::Supervisor(pipe)), waits()))
    }

    /// Tells nobody.
    pub fn to_nobody() -> Self {
        Notifier::new(None, None)
    }

    fn new(to: Option<Receiver>, waits: Option<Duration>) -> Self {
        Notifier {
            to,
            alive_every: waits.map(|waits| waits / 3),
            said_at: None,
            status: String::new(),
        }
    }

    /// Whether anybody is told.
    pub fn tells(&self) -> bool {
        self.to.is_some()
    }

    /// Passes on what a supervised process says, if it is a word of this protocol.
    pub fn pass_on(&self, word: &str) {
        let is_text = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let is_status = word.strip_prefix(STATUS).is_some_and(is_text);
        if word.len() <= WORD_MAX && (is_status || [READY, STOPPING, ALIVE].contains(&word)) {
            self.send(word);
        }
    }

    /// The process has begun its work.
    pub fn ready(&self) {
        self.send(READY);
    }

    /// The program has proven itself. Only a supervisor is told.
    pub fn proven(&self) {
        if matches!(self.to, Some(Receiver::Supervisor(_))) {
            self.send(PROVEN);
        }
    }

    /// The process stops.
    pub fn stopping(&self) {
        self.send(STOPPING);
    }

    /// What the process does, in a few words. Sent only if it changes.
    pub fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.send(&format!("{STATUS}{status}"));
        }
    }

    /// The process works at this time of the boot clock. Call it at each pass of its loop.
    pub fn alive(&mut self, now: Time) {
        let Some(every) = self.alive_every else { return };
        if self.said_at.is_none_or(|said| now.since(said) >= every) {
            self.said_at = Some(now);
            self.send(ALIVE);
        }
    }

    /// Who does not read is not waited for.
    fn send(&self, word: &str) {
        let _ = match &self.to {
            None => Ok(()),
            Some(Receiver::Manager(socket)) => socket.send(word.as_bytes()).map(drop),
            // One write: a pipe takes so few bytes as a whole or not at all.
            Some(Receiver::Supervisor(pipe)) => (&*pipe).write_all(format!("{word}\n").as_bytes()),
        };
    }
}

/// After which time without a word the manager restarts a process.
fn waits() -> Option<Duration> {
    env::var(WATCHDOG).ok()?.parse().ok().map(Duration::from_micros)
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_each_change_once_and_that_the_process_lives() {
        let (manager, process) = UnixDatagram::pair().expect("sockets");
        manager.set_nonblocking(true).expect("a socket");
        let mut notifier =
            Notifier::new(Some(Receiver::Manager(process)), Some(Duration::from_secs(30)));
        notifier.ready();
        notifier.status("no lease");
        notifier.status("no lease");
        notifier.status("a lease");
        for second in [1, 2, 10, 11, 12] {
            notifier.alive(Time::ZERO + Duration::from_secs(second));
        }
        notifier.stopping();
        for word in
            ["READY=1", "STATUS=from below", "MAINPID=1", "STATUS=a\nMAINPID=1", "FDSTORE=1"]
        {
            notifier.pass_on(word);
        }
        let mut bytes = [0; 64];
        let mut heard = Vec::new();
        while let Ok(count) = manager.recv(&mut bytes) {
            heard.push(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
        let said = [
            "READY=1",
            "STATUS=no lease",
            "STATUS=a lease",
            "WATCHDOG=1",
            "WATCHDOG=1",
            "STOPPING=1",
            "READY=1",
            "STATUS=from below",
        ];
        assert_eq!(heard, said);
        drop(manager);
        notifier.ready();
    }

    #[test]
    fn a_supervisor_that_reads_nothing_is_not_waited_for() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let flags = fcntl_getfl(&pipe).expect("a pipe");
        fcntl_setfl(&pipe, flags | OFlags::NONBLOCK).expect("a pipe");
        let notifier = Notifier::new(Some(Receiver::Supervisor(pipe)), None);
        for _ in 0..100_000 {
            notifier.ready();
        }
        drop(notifier);
        let text = std::io::read_to_string(reader).expect("a text");
        assert!(text.lines().all(|line| line == READY) && text.ends_with('\n'), "whole words");
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let mut notifier = Notifier::to_nobody();
        notifier.ready();
        notifier.alive(Time::ZERO);
        assert_eq!(notifier.said_at, None);
    }
}
