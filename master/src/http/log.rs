//! The log of a task as it is written, as server-sent events. Never keeps more of it than one page of the stream.

use super::{Events, Shared};
use bytes::Bytes;
use muster_protocol::{
    TaskId,
    api::{Endpoint, Page, PageMessage, PageStart, ReadLogs, Request, StreamPlace, TaskIds, Tasks},
};
use serde::Serialize;
use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::OwnedSemaphorePermit;

/// How long to wait for more, when everything was read.
const READ_EVERY: Duration = Duration::from_millis(500);

/// How often to check whether the task has ended.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// After this time without a line, something is sent, so that a connection whose other end is gone is noticed.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// A log that somebody follows.
pub(super) struct Log {
    shared: Arc<Shared>,
    task: TaskId,
    from: PageStart,
    /// Whether the task had ended before everything was read last.
    has_ended: bool,
    is_over: bool,
    asked: Option<Instant>,
    sent: Instant,
    /// One of the logs that may be followed at once.
    _place: OwnedSemaphorePermit,
}

#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    attempt: &'a str,
    text: &'a str,
    at_ms: u64,
}

impl Events for Log {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            if let Some(text) = self.read().await {
                self.sent = Instant::now();
                return Some(text);
            }
            if self.sent.elapsed() > SILENT_MAX {
                self.sent = Instant::now();
                return Some(Bytes::from_static(b":\n\n"));
            }
            tokio::time::sleep(READ_EVERY).await;
        }
        None
    }
}

impl Log {
    /// Follows the log of a task, from the place that `last` names.
    pub(super) fn new(
        shared: Arc<Shared>,
        task: TaskId,
        last: Option<&str>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let from = last.and_then(place_of).map_or(PageStart::First, PageStart::After);
        let (has_ended, is_over, asked) = (false, false, None);
        Log { shared, task, from, has_ended, is_over, asked, sent: Instant::now(), _place: place }
    }

    /// Reads a page. `None` if there is nothing new.
    async fn read(&mut self) -> Option<Bytes> {
        let ended_before = self.has_ended;
        let asked = ReadLogs { task: self.task, from: self.from.clone() };
        // The registry may be away for a moment; the next read begins at the same place.
        let page = self.shared.ask::<Page>(Endpoint::LogRead, Request::Logs(asked)).await.ok()?;
        let text = lines(&page);
        self.from = PageStart::After(page.next);
        if !text.is_empty() {
            return Some(text.into());
        }
        if ended_before {
            self.is_over = true;
            return Some(Bytes::from_static(b"event: end\ndata: {}\n\n"));
        }
        if self.asked.is_none_or(|asked| asked.elapsed() > ASK_EVERY) {
            self.asked = Some(Instant::now());
            let task = Request::Get(TaskIds { ids: vec![self.task] });
            let tasks = self.shared.ask::<Tasks>(Endpoint::TaskGet, task).await.ok()?;
            // A task whose record is gone writes nothing more either.
            self.has_ended = tasks.tasks.first().is_none_or(|view| view.record.is_done());
        }
        None
    }
}

/// The lines of a page as events. The last one names the place after the page.
fn lines(page: &Page) -> String {
    let mut text = String::new();
    let last = page.messages.len().saturating_sub(1);
    for (number, message) in page.messages.iter().enumerate() {
        let place = (number == last).then_some(&page.next);
        write_message(&mut text, message, place);
    }
    text
}

fn write_message(text: &mut String, message: &PageMessage, place: Option<&StreamPlace>) {
    // muster.FLEET.log.TASK.ATTEMPT.SOURCE
    let mut tail = message.subject.rsplit('.');
    let (source, attempt) = (tail.next().unwrap_or_default(), tail.next().unwrap_or_default());
    let body = String::from_utf8_lossy(&message.body);
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        if lines.peek().is_none()
            && let Some(place) = place
        {
            let _ = writeln!(text, "id: {}", id_of(place));
        }
        let line = Line { source, attempt, text: line, at_ms: message.at_ms };
        let line = serde_json::to_string(&line).unwrap_or_default();
        let _ = write!(text, "event: line\ndata: {line}\n\n");
    }
}

/// A place in the stream, as the id of an event.
fn id_of(place: &StreamPlace) -> String {
    serde_json::to_string(place).unwrap_or_default()
}

fn place_of(id: &str) -> Option<StreamPlace> {
    serde_json::from_str(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_lines_and_the_last_one_names_the_place() {
        let next = StreamPlace { sequence: 9, created_ms: 5, server: None };
        let message = |body: &str, source: &str| PageMessage {
            subject: format!("muster.default.log.t.a.{source}"),
            body: body.to_string().into(),
            at_ms: 3,
        };
        let messages =
            vec![message("one\ntwo\n", "log"), message("event: x\r\n\"three\"", "stderr")];
        let page = Page { messages, next, left: 0, has_gap: false };
        let text = lines(&page);
        let line = |source: &str, text: &str| {
            format!(
                "event: line\ndata: {{\"source\":\"{source}\",\"attempt\":\"a\",\"text\":\"{text}\",\"at_ms\":3}}\n\n"
            )
        };
        let id = "id: {\"sequence\":9,\"created_ms\":5}\n";
        let want = [
            line("log", "one"),
            line("log", "two"),
            line("stderr", "event: x"),
            id.into(),
            line("stderr", "\\\"three\\\""),
        ];
        assert_eq!(text, want.concat());
        let place = place_of(id.trim_start_matches("id: ").trim()).expect("a place");
        assert_eq!(place, page.next);
        assert!(lines(&Page { messages: Vec::new(), ..page }).is_empty());
    }
}
