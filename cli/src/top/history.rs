//! Reads the events of the last hour, and those that were missed while the connection was down; all events of a user who
//! may not hear them. Never reads more than the newest few hundred at once.

use crate::client::{Client, TryError};
use async_nats::connection::State;
use muster_protocol::api::{Endpoint, Page, PageMessage, PageStart, ReadEvents, StreamPlace};
use std::time::Duration;
use tokio::sync::mpsc;

/// How far back.
pub const SINCE: Duration = Duration::from_secs(3_600);

/// Events that are read at once; older ones are left out.
pub const EVENTS_MAX: u64 = 800;

/// How often events are read that are not heard, and how long to wait after a failure.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Events that were read.
pub struct Past {
    /// The oldest first.
    pub messages: Vec<PageMessage>,
    /// Whether there were older ones, which are left out.
    pub is_cut: bool,
    /// Whether all events come so, because none are heard.
    pub is_all: bool,
}

/// Reads events until nobody takes them.
pub async fn read(client: Client, to: mpsc::Sender<Past>) {
    let mut connections = client.connections.clone();
    let mut from = PageStart::SinceMs(SINCE.as_millis() as u64);
    let mut is_first = true;
    loop {
        connections.mark_unchanged();
        if client.nats.connection_state() != State::Connected {
            tokio::time::sleep(ASK_EVERY).await;
            continue;
        }
        match newest(&client, from.clone()).await {
            Ok((messages, next, is_cut)) => {
                let is_all = client.hints.are_refused() && !is_first;
                let past = Past { messages, is_cut, is_all };
                if to.send(past).await.is_err() {
                    return;
                }
                (from, is_first) = (PageStart::After(next), false);
            }
            // Other requests say what is wrong.
            Err(TryError::Passing(_) | TryError::Lasting(_)) => {
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
        }
        tokio::select! {
            changed = connections.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ASK_EVERY), if client.hints.are_refused() => {}
        }
    }
}

/// The newest events from a place on, the place after them, and whether others are left out.
async fn newest(
    client: &Client,
    from: PageStart,
) -> Result<(Vec<PageMessage>, StreamPlace, bool), TryError> {
    let mut page = page(client, from).await?;
    let is_cut = page.left > EVENTS_MAX;
    if is_cut {
        let sequence = page.next.sequence + page.left - EVENTS_MAX;
        let place = StreamPlace { sequence, ..page.next };
        page = self::page(client, PageStart::After(place)).await?;
    }
    let mut messages = page.messages;
    // Those that happen meanwhile are for the next time.
    while page.left > 0 && (messages.len() as u64) < EVENTS_MAX {
        page = self::page(client, PageStart::After(page.next)).await?;
        messages.extend(page.messages);
        page.messages = Vec::new();
    }
    Ok((messages, page.next, is_cut))
}

async fn page(client: &Client, from: PageStart) -> Result<Page, TryError> {
    client.attempt(Endpoint::EventRead, &ReadEvents { from }).await
}
