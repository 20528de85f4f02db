//! Refusals of a nats-server, of a connection or of an operation, and advice for the operator. Never an
//! answer to a request: the server reports a refusal on the connection, and the refused request times
//! out.

use super::domain::without_domain;
use async_nats::{ConnectError, ConnectErrorKind, Event, ServerError};
use std::fmt;
use tokio::sync::watch;

/// The page that lists the permissions of each user.
const PAGE: &str = "docs/PERMISSIONS.md";

/// An operation that a nats-server refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsRefusal {
    /// The user may not publish to these subjects.
    Publish(String),
    /// The user may not subscribe to these subjects.
    Subscribe(String),
    /// A message is larger than the server accepts.
    Payload,
    /// Any other refusal, in the server's words.
    Other(String),
}

impl NatsRefusal {
    /// The refusal in a server's error; `None` if the error does not restrict this client.
    pub fn of(error: &ServerError) -> Option<Self> {
        let text = match error {
            ServerError::AuthorizationViolation => {
                return Some(NatsRefusal::Other(error.to_string()));
            }
            ServerError::SlowConsumer(_) => return None,
            ServerError::Other(text) => text,
        };
        let lower = text.to_lowercase();
        let subject = || family(text.split('"').nth(1).unwrap_or("an unnamed subject"));
        Some(if lower.contains("permissions violation for publish") {
            NatsRefusal::Publish(subject())
        } else if lower.contains("permissions violation for subscription") {
            NatsRefusal::Subscribe(subject())
        } else if lower.contains("maximum payload") {
            NatsRefusal::Payload
        } else if lower.contains("stale connection") {
            return None;
        } else {
            NatsRefusal::Other(text.clone())
        })
    }

    /// The refused subjects, or else the kind of refusal.
    pub fn subject(&self) -> &str {
        match self {
            NatsRefusal::Publish(subject) | NatsRefusal::Subscribe(subject) => subject,
            NatsRefusal::Payload => "max_payload",
            NatsRefusal::Other(text) => text,
        }
    }

    /// What the operator can do about it.
    pub fn advice(&self) -> String {
        match self {
            NatsRefusal::Publish(subject) => format!(
                "give its user the permission to publish to {subject}; {PAGE} lists what each needs"
            ),
            NatsRefusal::Subscribe(subject) => format!(
                "give its user the permission to subscribe to {subject}; {PAGE} lists what each needs"
            ),
            NatsRefusal::Payload => {
                "raise max_payload of nats-server; its default of 1 MiB is enough".into()
            }
            NatsRefusal::Other(_) => {
                format!(
                    "see to the user and the limits of nats-server; {PAGE} lists what each needs"
                )
            }
        }
    }
}

impl fmt::Display for NatsRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NatsRefusal::Publish(subject) => write!(f, "NATS refuses to publish to {subject}"),
            NatsRefusal::Subscribe(subject) => write!(f, "NATS refuses to subscribe to {subject}"),
            NatsRefusal::Payload => f.write_str("NATS refuses a message because of its size"),
            NatsRefusal::Other(text) => write!(f, "NATS refuses this client: {text}"),
        }
    }
}

/// Why a server takes no connection, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconnected {
    /// It does not answer. It may later.
    Unreachable,
    /// It does not know this user.
    Login,
    /// The certificate of one side is not accepted by the other.
    Tls,
}

impl Unconnected {
    /// Why a connection was not made.
    pub fn of(error: &ConnectError) -> Self {
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Unconnected::Login
            }
            ConnectErrorKind::Tls => Unconnected::Tls,
            // The client reports a failed handshake as an error of the connection.
            _ if is_of_tls(error) => Unconnected::Tls,
            _ => Unconnected::Unreachable,
        }
    }

    /// What happened, with the address of the servers.
    pub fn at(self, url: &str) -> String {
        match self {
            Unconnected::Unreachable => format!("no nats-server answers at {url}"),
            Unconnected::Login => {
                format!("the nats-server at {url} does not let this process in")
            }
            Unconnected::Tls => format!("no encrypted connection to the nats-server at {url}"),
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Unconnected::Unreachable => {
                "start a nats-server with JetStream on (`nats-server -js`), or name another with --nats URL"
            }
            Unconnected::Login => {
                "log in with --nats-creds FILE, --nats-nkey FILE, --context NAME, or --nats @FILE with \
                 nats://USER:PASSWORD@HOST in the file"
            }
            Unconnected::Tls => {
                "name the authority of its certificate with --nats-ca FILE; if it asks for a certificate, \
                 add --nats-cert and --nats-key; if it begins with TLS, add --nats-tls-first"
            }
        }
    }
}

fn is_of_tls(error: &ConnectError) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.get_ref().is_some_and(|inner| inner.is::<async_nats::rustls::Error>())
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The latest refusal on a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Refusals(watch::Sender<Option<NatsRefusal>>);

impl Refusals {
    /// Notes and returns the refusal in an event of the connection, if there is one.
    pub fn hear(&self, event: &Event) -> Option<NatsRefusal> {
        let Event::ServerError(error) = event else { return None };
        let refusal = NatsRefusal::of(error)?;
        self.0.send_replace(Some(refusal.clone()));
        Some(refusal)
    }

    /// Like [`hear`](Refusals::hear), and logs the refusal. The log counts repeats.
    pub fn hear_and_log(&self, event: &Event) {
        if let Some(refusal) = self.hear(event) {
            let (subject, advice) = (refusal.subject(), refusal.advice());
            tracing::warn!(subject, advice, "{refusal}");
        }
    }

    /// The latest refusal.
    pub fn last(&self) -> Option<NatsRefusal> {
        self.0.borrow().clone()
    }

    /// Waits for the next refusal; returns at once if there was one before. Cancel-safe.
    pub async fn any(&self) -> NatsRefusal {
        let mut heard = self.0.subscribe();
        // `self` holds the sender, so the channel stays open.
        match heard.wait_for(Option::is_some).await.ok().and_then(|found| found.clone()) {
            Some(refusal) => refusal,
            None => std::future::pending().await,
        }
    }
}

/// The pattern of subjects that one permission covers. Keys, inboxes and consumers have names of their
/// own, and each single subject would be logged as a new refusal.
fn family(subject: &str) -> String {
    if let Some((domain, local)) = without_domain(subject) {
        let known_as = family(&local);
        let rest = known_as.strip_prefix("$JS.API.").unwrap_or(&known_as);
        return format!("$JS.{domain}.API.{rest}");
    }
    let tokens: Vec<&str> = subject.split('.').collect();
    let whole = match tokens[..] {
        ["_INBOX", _, ..] => 1,
        ["$JS", "ACK" | "FC", _, ..] | ["$KV" | "$O", _, _, ..] => 2,
        ["$JS", "API", "CONSUMER", "CREATE" | "DELETE" | "INFO", _, _, ..] => 5,
        ["$JS", "API", "DIRECT", "GET", _, _, ..] => 5,
        ["$JS", "API", "CONSUMER", "MSG", "NEXT", _, _, ..] => 6,
        ["muster", _, "done" | "event" | "log" | "progress", _, ..] => 3,
        _ => return subject.into(),
    };
    format!("{}.>", tokens[..whole].join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<NatsRefusal> {
        NatsRefusal::of(&ServerError::Other(text.into()))
    }

    #[test]
    fn what_a_server_refuses_is_known_by_its_words() {
        let publish = |subject: &str| Some(NatsRefusal::Publish(subject.into()));
        for (text, refusal) in [
            ("Permissions Violation for Publish to \"$KV.b.key.1\"", publish("$KV.b.>")),
            (
                "Permissions Violation for Publish to \"$JS.API.STREAM.INFO.KV_b\"",
                publish("$JS.API.STREAM.INFO.KV_b"),
            ),
            (
                "Permissions Violation for Subscription to \"_INBOX.a.b\" using queue \"q\"",
                Some(NatsRefusal::Subscribe("_INBOX.>".into())),
            ),
            ("Maximum Payload Violation", Some(NatsRefusal::Payload)),
            ("Stale Connection", None),
            (
                "User Authentication Expired",
                Some(NatsRefusal::Other("User Authentication Expired".into())),
            ),
        ] {
            assert_eq!(of(text), refusal, "{text}");
        }
        assert!(NatsRefusal::of(&ServerError::AuthorizationViolation).is_some());
        assert!(NatsRefusal::of(&ServerError::SlowConsumer(1)).is_none());
    }

    #[test]
    fn subjects_that_differ_in_their_last_names_are_one_permission() {
        for (subject, known_as) in [
            ("$JS.API.CONSUMER.CREATE.KV_b.name.$KV.b.>", "$JS.API.CONSUMER.CREATE.KV_b.>"),
            ("$JS.API.CONSUMER.CREATE.KV_b", "$JS.API.CONSUMER.CREATE.KV_b"),
            ("$JS.API.DIRECT.GET.KV_b.$KV.b.k", "$JS.API.DIRECT.GET.KV_b.>"),
            ("$JS.hub.API.CONSUMER.CREATE.KV_b.name.x", "$JS.hub.API.CONSUMER.CREATE.KV_b.>"),
            ("$JS.hub.API.STREAM.INFO.KV_b", "$JS.hub.API.STREAM.INFO.KV_b"),
            ("$JS.hub.API.$KV.b.k", "$JS.hub.API.$KV.b.>"),
            ("$JS.API.CONSUMER.MSG.NEXT.s.c", "$JS.API.CONSUMER.MSG.NEXT.s.>"),
            ("$O.store.C.nuid", "$O.store.>"),
            ("$JS.FC.s.c.x", "$JS.FC.>"),
            ("muster.f.log.t.a.stderr", "muster.f.log.>"),
            ("muster.f.api.task.get", "muster.f.api.task.get"),
            ("said", "said"),
        ] {
            assert_eq!(family(subject), known_as);
        }
    }
}
