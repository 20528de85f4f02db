//! Connections to NATS for both daemons. Notices a dead server soon. Never shows a password.

mod address;
mod refusal;

pub use address::{Address, AddressError, Given, Who};
pub use refusal::{NatsRefusal, Refusals};

use async_nats::{
    AuthError, Client, ConnectError, ConnectOptions, Event, jetstream::object_store::ObjectInfo,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

/// How often the connection is probed. A server that has stopped is noticed after two probes without an
/// answer.
pub const PING_EVERY: Duration = Duration::from_secs(1);

/// Messages that may wait to be sent. When the queue is full, senders wait.
const SEND_QUEUE: usize = 16 * 1024;

/// The backoff of reconnects grows by this step with each try, up to this many steps.
const AGAIN_STEP: Duration = Duration::from_millis(50);
const AGAIN_STEPS: u32 = 20;

/// Options for a daemon called `name`, with the credentials of `address`. The client reconnects for
/// ever, and then sends what was queued meanwhile.
pub fn options(name: String, address: &Address) -> ConnectOptions {
    let auth = address.auth();
    let options = ConnectOptions::with_auth_callback(move |_| std::future::ready(Ok(auth.clone())));
    common(options, name).max_reconnects(None).reconnect_delay_callback(|attempts| {
        AGAIN_STEP * u32::try_from(attempts).unwrap_or(AGAIN_STEPS).min(AGAIN_STEPS)
    })
}

/// Connects once, and never reconnects. When the connection breaks, `on_break` is called and queued
/// messages are dropped, so that no write arrives long after its sender gave it up. Refusals of the
/// server are logged and noted in `refusals`.
pub async fn connect_once(
    name: String,
    address: &Address,
    refusals: &Refusals,
    on_break: impl Fn() + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let auth = address.auth();
    let in_use = Arc::new(AtomicBool::new(false));
    let over = in_use.clone();
    // The client always tries to reconnect once. The callback then returns no credentials, so that the
    // try fails.
    let options = ConnectOptions::with_auth_callback(move |_| {
        let is_over = over.load(Ordering::SeqCst);
        let shown = if is_over { Err(AuthError::new("it is over")) } else { Ok(auth.clone()) };
        std::future::ready(shown)
    });
    let refusals = refusals.clone();
    let client = common(options, name)
        .max_reconnects(1)
        .reconnect_delay_callback(|_| Duration::ZERO)
        .event_callback(move |event| {
            refusals.hear_and_log(&event);
            if matches!(event, Event::Disconnected | Event::Closed) {
                on_break();
            }
            std::future::ready(())
        })
        .connect(address.servers())
        .await?;
    // No caller has written to the client before this point, so a break before it has lost nothing.
    in_use.store(true, Ordering::SeqCst);
    Ok(client)
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
