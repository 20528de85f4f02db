//! Connections to NATS, for the daemons and the command: which servers, as whom, and how a dead one is
//! noticed. Never shows a password.

mod address;
mod args;
mod context;
mod domain;
mod identity;
mod refusal;
mod servers;

pub use address::{Address, AddressError, Given, Who};
pub use args::{AccessError, NatsArgs, URL_DEFAULT};
pub use context::ContextError;
pub use domain::{Domain, DomainError, JetStream, NoJetStream};
pub use identity::{Identity, UnusableFile};
pub use refusal::{NatsRefusal, Refusals, Unconnected};
pub use servers::Servers;

use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ReconnectToServer, Server,
    jetstream::object_store::ObjectInfo,
};
use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

/// How often the connection is probed. The client gives a connection up at the third probe in a row
/// without an answer: a server that has stopped is noticed within 1.8 s, and another is dialled.
pub const PING_EVERY: Duration = Duration::from_millis(600);

/// How long one try to connect may take in the first round over the servers; twice as long in each
/// further one, up to [`TRY_WITHIN_MAX`].
const TRY_WITHIN: Duration = Duration::from_secs(2);
const TRY_WITHIN_MAX: Duration = Duration::from_secs(16);

/// Messages that may wait to be sent. When the queue is full, senders wait.
const SEND_QUEUE: usize = 16 * 1024;

/// The backoff of reconnects grows by this step with each try, up to this many steps.
const AGAIN_STEP: Duration = Duration::from_millis(50);
const AGAIN_STEPS: u32 = 20;

/// Where NATS is, how to log in, and in which domain the registry is. Clones share the circle of servers.
#[derive(Clone)]
pub struct Access {
    address: Address,
    identity: Identity,
    servers: Servers,
    domain: Option<Domain>,
}

impl Access {
    fn new(address: Address, identity: Identity, domain: Option<Domain>) -> Self {
        let servers = Servers::new(address.servers());
        Access { address, identity, servers, domain }
    }

    /// The named servers, without credentials.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The JetStream domain of the registry; `None` for that of the connected server.
    pub fn domain(&self) -> Option<Domain> {
        self.domain.clone()
    }

    /// The files that are read for each connection.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.identity.files()
    }

    /// Options for a client called `name` that reconnects for ever, and then sends what was queued
    /// meanwhile. It never dials the server whose connection broke before the others.
    pub fn options(&self, name: String) -> ConnectOptions {
        let last = Arc::new(Mutex::new(None));
        let is_first = AtomicBool::new(true);
        let options = self.identity.options(&self.address, || true);
        common(options, name)
            .max_reconnects(None)
            .reconnect_delay_callback(move |attempts| wait(&is_first, attempts))
            .reconnect_to_server_callback(move |pool, _| {
                let mut last = last.lock().expect("no holder of this lock panics");
                let dialled = |server: &Server| Some(&server.addr) == last.as_ref();
                // The client itself has chosen the first server that answered.
                let at = pool.iter().position(dialled);
                let at = at.or_else(|| pool.iter().position(|server| server.did_connect));
                let next = at.map(|at| pool[(at + 1) % pool.len()].addr.clone());
                *last = next.clone();
                std::future::ready(next.map(|addr| ReconnectToServer { addr, delay: None }))
            })
    }

    /// Connects with the options to one of the servers.
    pub async fn connect(&self, options: ConnectOptions) -> Result<Client, ConnectError> {
        options.connect(self.address.servers()).await
    }

    /// How many servers are known.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Leaves out the next servers of the circle.
    pub fn skip(&self, count: usize) {
        for _ in 0..count.min(self.servers.len()) {
            self.servers.next();
        }
    }

    /// Connects once to the next server of the circle, and never reconnects. When the connection
    /// breaks, `on_break` is called and queued messages are dropped, so that no write arrives long
    /// after its sender gave it up. Refusals of the server are logged and noted in `refusals`.
    pub async fn connect_once(
        &self,
        name: String,
        refusals: &Refusals,
        on_break: impl Fn() + Send + Sync + 'static,
    ) -> Result<Client, ConnectError> {
        let Some((server, round)) = self.servers.next() else {
            return Err(ConnectError::new(ConnectErrorKind::ServerParse));
        };
        let within = TRY_WITHIN * (1 << round.min(8));
        let in_use = Arc::new(AtomicBool::new(false));
        let over = in_use.clone();
        // The client always tries to reconnect once. Without credentials, the try fails.
        let options = self.identity.options(&self.address, move || !over.load(Ordering::SeqCst));
        let refusals = refusals.clone();
        let connecting = common(options, name)
            .ignore_discovered_servers()
            .max_reconnects(1)
            .reconnect_delay_callback(|_| Duration::ZERO)
            .event_callback(move |event| {
                refusals.hear_and_log(&event);
                if matches!(event, Event::Disconnected | Event::Closed) {
                    on_break();
                }
                std::future::ready(())
            })
            .connect(server);
        let client = tokio::time::timeout(within.min(TRY_WITHIN_MAX), connecting)
            .await
            .map_err(|_| ConnectError::new(ConnectErrorKind::TimedOut))??;
        // No caller has written to the client before this point, so a break before it has lost nothing.
        in_use.store(true, Ordering::SeqCst);
        self.servers.connected(&client.server_info().connect_urls);
        Ok(client)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.address, f)
    }
}

/// The wait before a try to connect. The client library also asks for one before its very first try, where a
/// command would only start later.
fn wait(is_first: &AtomicBool, attempts: usize) -> Duration {
    match is_first.swap(false, Ordering::Relaxed) {
        true => Duration::ZERO,
        false => AGAIN_STEP * u32::try_from(attempts).unwrap_or(AGAIN_STEPS).min(AGAIN_STEPS),
    }
}

fn common(options: ConnectOptions, name: String) -> ConnectOptions {
    options.name(name).ping_interval(PING_EVERY).client_capacity(SEND_QUEUE)
}

/// The age below which an object need not be stored again. The data store keeps objects several times as
/// long.
pub const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// Whether a stored object is young enough not to be stored again, by the wall clocks of this host and
/// of NATS' host. For expiry only: a wrong answer costs one more write.
pub fn is_young(object: &ObjectInfo) -> bool {
    let Some(modified) = object.modified else { return false };
    SystemTime::now().duration_since(modified.into()).is_ok_and(|age| age < YOUNG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_connection_waits_for_nothing_and_others_back_off() {
        let is_first = AtomicBool::new(true);
        assert_eq!(wait(&is_first, 1), Duration::ZERO);
        assert_eq!(wait(&is_first, 1), AGAIN_STEP, "the connection broke");
        assert_eq!(wait(&is_first, 3), AGAIN_STEP * 3);
        assert_eq!(wait(&is_first, usize::MAX), AGAIN_STEP * AGAIN_STEPS);
    }
}
