//! Pages of the streams that keep events and logs. Never leaves a consumer behind.

use super::Registry;
use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::State,
};
use futures::StreamExt as _;
use muster_protocol::{
    api::{Page, PageMessage, PageStart, StreamPlace},
    registry::ServerId,
};
use muster_wire::objects;
use std::time::{Duration, SystemTime};

/// The most messages of a page.
const MESSAGES_MAX: usize = 200;

/// The most bytes of the messages of a page. In JSON they are a third larger, and fit the largest message
/// that a NATS server accepts by default, which is 1 MiB.
const BYTES_MAX: usize = 384 * 1024;

/// How long to wait for the messages of a page. They are stored already.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// When the server removes a consumer that this master could not remove.
const CONSUMER_KEEP: Duration = Duration::from_secs(10);

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// There is no such stream.
    #[error("the stream {0} does not exist")]
    Missing(String),
    /// NATS did not carry it out. A retry may help.
    #[error("the stream cannot be read: {0}")]
    Unavailable(String),
}

fn unavailable(error: impl ToString) -> PageError {
    PageError::Unavailable(error.to_string())
}

impl Registry {
    /// The messages of a subject in a stream, from a place on, as many as fit a page.
    pub async fn page(
        &self,
        stream: &str,
        subject: String,
        from: PageStart,
    ) -> Result<Page, PageError> {
        let stream = self.context.get_stream(stream).await.map_err(|error| {
            match objects::is_missing(&error) {
                true => PageError::Missing(stream.into()),
                false => unavailable(error),
            }
        })?;
        let info = stream.cached_info();
        let created_ms = (info.created.unix_timestamp_nanos() / 1_000_000) as u64;
        let begin = Begin::of(&from, created_ms, &info.state);
        let (server, sequence) = (self.server(), begin.after.unwrap_or_default());
        let is_new = matches!(from, PageStart::New);
        let next = StreamPlace { sequence, created_ms, server };
        let has_gap = begin.has_gap || has_restarted(from, next.server.as_ref());
        let mut page = Page { messages: Vec::new(), next, left: 0, has_gap };
        if is_new {
            return Ok(page);
        }
        let config = pull::Config {
            deliver_policy: begin.policy,
            filter_subject: subject,
            ack_policy: AckPolicy::None,
            inactive_threshold: CONSUMER_KEEP,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(unavailable)?;
        page.left = consumer.cached_info().num_pending;
        if page.left == 0 {
            // What was in the stream before the consumer was made is all older, or about something else.
            page.next.sequence = page.next.sequence.max(info.state.last_sequence);
        }
        let read = tokio::time::timeout(READ_WITHIN, fill(&mut page, &consumer)).await;
        // The server removes it otherwise, only later.
        let _ = stream.delete_consumer(&consumer.cached_info().name).await;
        match read {
            Ok(Err(error)) if page.messages.is_empty() => Err(unavailable(error)),
            Err(_) if page.messages.is_empty() && page.left > 0 => {
                Err(unavailable("no answer in time"))
            }
            _ => Ok(page),
        }
    }
}

/// Where to begin to read.
#[derive(Debug, PartialEq)]
struct Begin {
    policy: DeliverPolicy,
    /// The sequence before it, if that is known.
    after: Option<u64>,
    has_gap: bool,
}

impl Begin {
    fn of(from: &PageStart, created_ms: u64, state: &State) -> Self {
        let after = |sequence: u64, has_gap| Begin {
            policy: DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 },
            after: Some(sequence),
            has_gap,
        };
        let all = |has_gap| Begin { policy: DeliverPolicy::All, after: Some(0), has_gap };
        match *from {
            PageStart::First => all(false),
            PageStart::New => after(state.last_sequence, false),
            PageStart::SinceMs(ms) => {
                let since = SystemTime::now().checked_sub(Duration::from_millis(ms));
                match since {
                    None => all(false),
                    Some(time) => Begin {
                        policy: DeliverPolicy::ByStartTime { start_time: time.into() },
                        after: None,
                        has_gap: false,
                    },
                }
            }
            // In a stream that was created again, every message is new.
            PageStart::After(ref place) if place.created_ms != created_ms => {
                all(place.sequence > 0)
            }
            PageStart::After(StreamPlace { sequence, .. }) => {
                let is_cut = sequence > 0 && state.first_sequence > sequence + 1;
                // A server that lost its newest messages assigns their numbers again.
                let is_back = sequence > state.last_sequence;
                after(sequence.min(state.last_sequence), is_cut || is_back)
            }
        }
    }
}

/// Whether the only server that keeps the stream is another process than when the page before was read.
fn has_restarted(from: PageStart, server: Option<&ServerId>) -> bool {
    match from {
        PageStart::After(place) => {
            place.server.is_some_and(|known| server.is_some_and(|server| *server != known))
        }
        PageStart::First | PageStart::New | PageStart::SinceMs(_) => false,
    }
}

async fn fill(
    page: &mut Page,
    consumer: &async_nats::jetstream::consumer::Consumer<pull::Config>,
) -> Result<(), async_nats::Error> {
    if page.left == 0 {
        return Ok(());
    }
    let mut messages = consumer.fetch().max_messages(MESSAGES_MAX).messages().await?;
    let mut bytes = 0;
    while let Some(message) = messages.next().await {
        let message = message?;
        bytes += message.subject.len() + message.payload.len();
        if bytes > BYTES_MAX && !page.messages.is_empty() {
            return Ok(());
        }
        let info = message.info()?;
        (page.next.sequence, page.left) = (info.stream_sequence, info.pending);
        let (subject, body) = (message.subject.to_string(), message.payload.clone());
        let at_ms = u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000);
        page.messages.push(PageMessage { subject, at_ms: at_ms.unwrap_or_default(), body });
        if page.left == 0 {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_where_the_one_before_ended_and_says_what_is_gone() {
        let state = |first_sequence, last_sequence| {
            let mut state: State = serde_json::from_value(serde_json::json!({
                "messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "consumer_count": 0,
                "first_ts": "2026-01-01T00:00:00Z", "last_ts": "2026-01-01T00:00:00Z"
            }))
            .expect("a state");
            (state.first_sequence, state.last_sequence) = (first_sequence, last_sequence);
            state
        };
        let place = |sequence, server| StreamPlace { sequence, created_ms: 5, server };
        let after = |sequence| PageStart::After(place(sequence, None));
        for (from, created_ms, stored, begins_after, has_gap) in [
            (PageStart::First, 5, (1, 9), 0, false),
            (PageStart::New, 5, (1, 9), 9, false),
            (after(4), 5, (1, 9), 4, false),
            (after(4), 5, (5, 9), 4, false),
            (after(4), 5, (6, 9), 4, true),
            (after(0), 5, (6, 9), 0, false),
            (after(9), 5, (1, 7), 7, true),
            (after(4), 6, (1, 2), 0, true),
            (after(0), 6, (1, 2), 0, false),
        ] {
            let begin = Begin::of(&from, created_ms, &state(stored.0, stored.1));
            assert_eq!(
                (begin.after, begin.has_gap),
                (Some(begins_after), has_gap),
                "{from:?} {stored:?}"
            );
        }
        let (old, new) = (ServerId("old".into()), ServerId("new".into()));
        for (was, is, restarted) in [
            (Some(&old), Some(&old), false),
            (Some(&old), Some(&new), true),
            (Some(&old), None, false),
            (None, Some(&new), false),
        ] {
            let from = PageStart::After(place(4, was.cloned()));
            assert_eq!(has_restarted(from, is), restarted, "{was:?} {is:?}");
        }
    }
}
