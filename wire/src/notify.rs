//! Tells a service manager how this process is, by the protocol of `sd_notify(3)`. Never waits, and is never told anything.
//!
//! The socket is made once, before a worker confines itself: the kernel then permits no other one.

use muster_protocol::Time;
use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// The variable that names the manager's socket: a path, or an abstract name after `@`.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The variable that says after how many microseconds without a word the manager restarts the process.
const WATCHDOG: &str = "WATCHDOG_USEC";

/// The variable that says which process the manager watches.
const WATCHED: &str = "WATCHDOG_PID";

/// How this process reports to its service manager, if it has one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// How often to say that the process is alive: a third of what the manager waits.
    alive_every: Option<Duration>,
    /// When it was said last, on the boot clock.
    said_at: Option<Time>,
    status: String,
}

impl Notifier {
    /// Connects to the service manager that started this process, if one did.
    pub fn open() -> io::Result<Self> {
        let Some(name) = env::var_os(SOCKET) else { return Ok(Notifier::to(None, None)) };
        let name = name.as_encoded_bytes();
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => {
                SocketAddr::from_pathname(std::path::Path::new(&*String::from_utf8_lossy(name)))?
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let is_watched = number(WATCHED).is_none_or(|pid| pid == u64::from(std::process::id()));
        let waits = number(WATCHDOG).filter(|_| is_watched).map(Duration::from_micros);
        Ok(Notifier::to(Some(socket), waits))
    }

    fn to(socket: Option<UnixDatagram>, waits: Option<Duration>) -> Self {
        let alive_every = waits.map(|waits| waits / 3);
        Notifier { socket, alive_every, said_at: None, status: String::new() }
    }

    /// The process has begun its work.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The process stops.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// What the process does, in a few words. Sent only if it changes.
    pub fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.send(&format!("STATUS={status}"));
        }
    }

    /// The process works at this time of the boot clock. Call it at each pass of its loop.
    pub fn alive(&mut self, now: Time) {
        let Some(every) = self.alive_every else { return };
        if self.said_at.is_none_or(|said| now.since(said) >= every) {
            self.said_at = Some(now);
            self.send("WATCHDOG=1");
        }
    }

    /// A manager that does not read is not waited for.
    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_each_change_once_and_that_the_process_lives() {
        let (manager, process) = UnixDatagram::pair().expect("sockets");
        manager.set_nonblocking(true).expect("a socket");
        let mut notifier = Notifier::to(Some(process), Some(Duration::from_secs(30)));
        notifier.ready();
        notifier.status("no lease");
        notifier.status("no lease");
        notifier.status("a lease");
        for second in [1, 2, 10, 11, 12] {
            notifier.alive(Time::ZERO + Duration::from_secs(second));
        }
        notifier.stopping();
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
        ];
        assert_eq!(heard, said);
        drop(manager);
        notifier.ready();
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let mut notifier = Notifier::to(None, None);
        notifier.ready();
        notifier.alive(Time::ZERO);
        assert_eq!(notifier.said_at, None);
    }
}
