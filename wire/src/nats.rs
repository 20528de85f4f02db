//! How both daemons connect to NATS: they notice a dead server soon, and come back for ever. Never shows
//! a password.

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

/// How often the connection is probed: a server that has stopped is noticed after two of these.
pub const PING_EVERY: Duration = Duration::from_secs(1);

/// Messages waiting to be sent before senders wait.
const SEND_QUEUE: usize = 16 * 1024;

/// The step by which reconnects become rarer, and the steps there are.
const AGAIN_STEP: Duration = Duration::from_millis(50);
const AGAIN_STEPS: u32 = 20;

/// Options for a daemon called `name`, which asks as the address says. The connection comes back for
/// ever, and what was written meanwhile is sent then.
pub fn options(name: String, address: &Address) -> ConnectOptions {
    let auth = address.auth();
    let options = ConnectOptions::with_auth_callback(move |_| std::future::ready(Ok(auth.clone())));
    common(options, name).max_reconnects(None).reconnect_delay_callback(|attempts| {
        AGAIN_STEP * u32::try_from(attempts).unwrap_or(AGAIN_STEPS).min(AGAIN_STEPS)
    })
}

/// Connects once. When the connection breaks `on_break` is called and it is not made again: what was
/// waiting to be sent is dropped, so that no write arrives long after its author has given it up. What the
/// server refuses is logged, and noted in `refusals`.
pub async fn connect_once(
    name: String,
    address: &Address,
    refusals: &Refusals,
    on_break: impl Fn() + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let auth = address.auth();
    let in_use = Arc::new(AtomicBool::new(false));
    let over = in_use.clone();
    // The client tries once more by itself: what it would have to show then, it does not get.
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
    // Nobody has written to it before this, so a break before this has lost nothing.
    in_use.store(true, Ordering::SeqCst);
    Ok(client)
}

fn common(options: ConnectOptions, name: String) -> ConnectOptions {
    options.name(name).ping_interval(PING_EVERY).client_capacity(SEND_QUEUE)
}

/// Younger than this an object need not be stored anew. Objects are kept for several times as long.
pub const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// Whether an object that is there need not be stored anew, by the wall clocks of NATS' host and
/// this one. For garbage only: one that is judged wrongly is stored once more.
pub fn is_young(object: &ObjectInfo) -> bool {
    let Some(modified) = object.modified else { return false };
    SystemTime::now().duration_since(modified.into()).is_ok_and(|age| age < YOUNG)
}
