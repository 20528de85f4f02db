//! Whether this user may hear what masters publish about tasks. Never an error: commands then learn it later, by asking.

use async_nats::Event;
use muster_wire::nats::NatsRefusal;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// What the server has said about it on one connection.
#[derive(Clone, Default)]
pub struct Hints(Arc<AtomicBool>);

impl Hints {
    /// Takes an event of the connection. Returns whether it refuses hints.
    pub fn hear(&self, event: &Event) -> bool {
        let refuses = refuses(event);
        self.0.fetch_or(refuses, Ordering::Relaxed);
        refuses
    }

    /// Whether the server has refused hints.
    pub fn are_refused(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn refuses(event: &Event) -> bool {
    let Event::ServerError(error) = event else { return false };
    let Some(NatsRefusal::Subscribe(subject)) = NatsRefusal::of(error) else { return false };
    let mut tokens = subject.split('.');
    let hints = ["done", "event", "log", "progress"];
    tokens.next() == Some("muster") && tokens.nth(1).is_some_and(|what| hints.contains(&what))
}
