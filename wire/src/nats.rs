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

/// Options for a daemon called `name`, with the user and the password that `url` may have. The
/// connection comes back for ever, and what was written meanwhile is sent then.
pub fn options(name: String, url: &str) -> ConnectOptions {
    let auth = auth(url);
    let options = ConnectOptions::with_auth_callback(move |_| std::future::ready(Ok(auth.clone())));
    common(options, name).max_reconnects(None).reconnect_delay_callback(|attempts| {
        AGAIN_STEP * u32::try_from(attempts).unwrap_or(AGAIN_STEPS).min(AGAIN_STEPS)
    })
}

/// Connects once. When the connection breaks `on_break` is called and it is not made again: what was
/// waiting to be sent is dropped, so that no write arrives long after its author has given it up.
pub async fn connect_once(
    name: String,
    url: &str,
    on_break: impl Fn() + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let auth = auth(url);
    let in_use = Arc::new(AtomicBool::new(false));
    let over = in_use.clone();
    // The client tries once more by itself: what it would have to show then, it does not get.
    let options = ConnectOptions::with_auth_callback(move |_| {
        let is_over = over.load(Ordering::SeqCst);
        let shown = if is_over { Err(AuthError::new("it is over")) } else { Ok(auth.clone()) };
        std::future::ready(shown)
    });
    let client = common(options, name)
        .max_reconnects(1)
        .reconnect_delay_callback(|_| Duration::ZERO)
        .event_callback(move |event| {
            if matches!(event, Event::Disconnected | Event::Closed) {
                on_break();
            }
            std::future::ready(())
        })
        .connect(url)
        .await?;
    // Nobody has written to it before this, so a break before this has lost nothing.
    in_use.store(true, Ordering::SeqCst);
    Ok(client)
}

fn common(options: ConnectOptions, name: String) -> ConnectOptions {
    options.name(name).ping_interval(PING_EVERY).client_capacity(SEND_QUEUE)
}

/// What a URL says of who connects.
fn auth(url: &str) -> Auth {
    let mut auth = Auth::new();
    let Ok(address) = url.parse::<ServerAddr>() else { return auth };
    match (address.username(), address.password()) {
        (Some(user), Some(password)) => {
            auth.username = Some(user.into());
            auth.password = Some(password.into());
        }
        (Some(token), None) => auth.token = Some(token.into()),
        _ => {}
    }
    auth
}

/// For command lines: the URL, or why it is none. Whether anybody answers there is another question.
pub fn checked(url: &str) -> Result<String, String> {
    match url.parse::<ServerAddr>() {
        Ok(address) if !address.host().is_empty() => Ok(url.into()),
        Ok(_) => Err("it names no host".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Younger than this an object need not be stored anew. Objects are kept for several times as long.
pub const YOUNG: Duration = Duration::from_secs(24 * 3600);

/// Whether an object that is there need not be stored anew, by the wall clocks of NATS' host and
/// this one. For garbage only: one that is judged wrongly is stored once more.
pub fn is_young(object: &ObjectInfo) -> bool {
    let Some(modified) = object.modified else { return false };
    SystemTime::now().duration_since(modified.into()).is_ok_and(|age| age < YOUNG)
}

/// A URL, or several with commas between them, as they may be shown: what stands before `@` can
/// hold a password.
pub fn shown(urls: &str) -> String {
    let one = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => url.to_owned(),
    };
    urls.split(',').map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(shown("nats://me:secret@host:4222"), "nats://host:4222");
        assert_eq!(shown("me:secret@host"), "host");
        assert_eq!(shown("nats://host:4222"), "nats://host:4222");
        assert_eq!(shown("nats://me:p@ss@host:1,tls://b"), "nats://host:1,tls://b");
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
