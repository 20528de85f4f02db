//! How both daemons connect to NATS: they notice a dead server soon, come back for ever, and take a
//! user from the URL. Never shows a password.

use async_nats::{
    Auth, AuthError, Client, ConnectError, ConnectOptions, Event, ServerAddr,
    jetstream::object_store::ObjectInfo,
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

/// Options for a daemon called `name`, with the user and the password that `url` may have.
pub fn options(name: String, url: &str) -> ConnectOptions {
    let options = ConnectOptions::new()
        .name(name)
        .ping_interval(PING_EVERY)
        .client_capacity(SEND_QUEUE)
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            AGAIN_STEP * u32::try_from(attempts).unwrap_or(AGAIN_STEPS).min(AGAIN_STEPS)
        });
    let Ok(address) = url.parse::<ServerAddr>() else { return options };
    match (address.username(), address.password()) {
        (Some(user), Some(password)) => options.user_and_password(user.into(), password.into()),
        (Some(token), None) => options.token(token.into()),
        _ => options,
    }
}

/// Connects once. When the connection breaks `on_break` is called and it is not made again: what was
/// waiting to be sent is dropped, so that no write arrives long after its author has given it up.
pub async fn connect_once(
    name: String,
    url: &str,
    on_break: impl Fn() + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let mut auth = Auth::new();
    if let Ok(address) = url.parse::<ServerAddr>() {
        match (address.username(), address.password()) {
            (Some(user), Some(password)) => {
                auth.username = Some(user.into());
                auth.password = Some(password.into());
            }
            (Some(token), None) => auth.token = Some(token.into()),
            _ => {}
        }
    }
    let connected = Arc::new(AtomicBool::new(false));
    let again = connected.clone();
    // The client tries once more by itself; what it would send with is not given to it then.
    ConnectOptions::with_auth_callback(move |_| {
        let (auth, again) = (auth.clone(), again.load(Ordering::SeqCst));
        async move { if again { Err(AuthError::new("this connection is over")) } else { Ok(auth) } }
    })
    .name(name)
    .ping_interval(PING_EVERY)
    .client_capacity(SEND_QUEUE)
    .max_reconnects(1)
    .reconnect_delay_callback(|_| Duration::ZERO)
    .event_callback(move |event| {
        match event {
            Event::Connected => connected.store(true, Ordering::SeqCst),
            Event::Disconnected | Event::Closed => on_break(),
            _ => {}
        }
        std::future::ready(())
    })
    .connect(url)
    .await
}

/// For command lines: the URL, or why it is none. Whether anybody answers there is another question.
pub fn checked(url: &str) -> Result<String, String> {
    match url.parse::<ServerAddr>() {
        Ok(address) if !address.host().is_empty() => Ok(url.into()),
        Ok(_) => Err("it names no host".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Younger than this an object outlives every record that may name it: objects are kept for as long
/// as a task may run and its record is kept, and this much longer.
const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// Whether an object that is there need not be stored anew, by the wall clocks of NATS' host and
/// this one. For garbage only: one that is judged wrongly is stored once more.
pub fn is_young(object: &ObjectInfo) -> bool {
    let Some(modified) = object.modified else { return false };
    SystemTime::now().duration_since(modified.into()).is_ok_and(|age| age < YOUNG)
}

/// The URL as it may be shown: without what stands before `@`.
pub fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.into(),
        _ => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{checked, shown};

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(shown("nats://me:secret@host:4222"), "nats://host:4222");
        assert_eq!(shown("me:secret@host"), "host");
        assert_eq!(shown("nats://host:4222"), "nats://host:4222");
    }

    #[test]
    fn a_url_is_one_or_is_refused() {
        for good in ["nats://host:4222", "host", "tls://me:secret@host:4222", "nats://[::1]:4222"] {
            assert_eq!(checked(good).as_deref(), Ok(good));
        }
        for bad in ["", "http://host", "nats://", "nats://host:port"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
