//! The reports of a run while it goes on: log lines and progress, at a bounded rate. Never blocks the
//! guest, and never lets a guest that logs much cost more than its limits.

use crate::mask::{Masker, Masks};
use bytes::Bytes;
use muster_protocol::{
    Time,
    lease::Permit,
    limit,
    message::{AttemptKey, LogChunk, LogSource},
};
use std::time::Duration;
use tokio::sync::mpsc;

/// The shortest time between two reports of progress: people read no faster.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How long the beginning of a line of standard error waits for the rest of the line.
const LINE_WAIT: Duration = Duration::from_millis(100);

/// A report of a guest while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum GuestReport {
    /// A piece of the task's log.
    Log(LogChunk),
    /// The progress of the run.
    Progress {
        /// The attempt whose guest reports progress.
        key: AttemptKey,
        /// Steps done so far.
        done: u64,
        /// Steps in all; 0 if unknown.
        total: u64,
    },
}

/// The way of a run's reports out of it.
struct Reports(mpsc::Sender<GuestReport>);

impl Reports {
    /// Whether there was room for it.
    fn send(&self, _: &Permit<'_>, report: GuestReport) -> bool {
        self.0.try_send(report).is_ok()
    }
}

/// Collects, throttles and sends the reports of one run.
pub(crate) struct Outbox {
    key: AttemptKey,
    sender: Reports,
    /// Bytes of log that may be written now, as of `filled`.
    budget: u64,
    filled: Time,
    /// Bytes of log that may still be written in the whole run.
    left: u64,
    /// Bytes dropped since the last notice, and bytes dropped in all.
    unsaid: u64,
    dropped: u64,
    /// The beginning of a line of standard error, and since when it waits.
    line: Vec<u8>,
    line_since: Time,
    /// The end of standard error, somewhat longer than the part that is reported.
    tail: Vec<u8>,
    progress: Option<(u64, u64)>,
    progress_next: Time,
    /// The values that the log must not have, and the standard error that is looked at for them.
    masks: Masks,
    masker: Masker,
}

impl Outbox {
    /// `bytes_max`: bytes of log that may be written in the whole run.
    pub fn new(
        key: AttemptKey,
        sender: mpsc::Sender<GuestReport>,
        bytes_max: u64,
        now: Time,
    ) -> Self {
        Outbox {
            key,
            sender: Reports(sender),
            budget: limit::LOG_BURST,
            filled: now,
            left: bytes_max,
            unsaid: 0,
            dropped: 0,
            line: Vec::new(),
            line_since: now,
            tail: Vec::new(),
            progress: None,
            progress_next: Time::ZERO,
            masker: Masker::new(&Masks::default()),
            masks: Masks::default(),
        }
    }

    /// The same without these values in the log.
    pub fn masked(self, masks: &Masks) -> Self {
        Outbox { masker: Masker::new(masks), masks: masks.clone(), ..self }
    }

    /// The attempt whose reports these are.
    pub fn key(&self) -> AttemptKey {
        self.key
    }

    /// Sends one line from the SDK's `log`.
    pub fn log(&mut self, permit: Permit<'_>, text: String) {
        let text = self.masks.hide(text.into());
        self.chunk(&permit, LogSource::Log, text);
    }

    /// Takes some bytes of standard error. Whole lines are sent together.
    pub fn stderr(&mut self, permit: Permit<'_>, bytes: &[u8]) {
        if self.masker.is_idle() {
            return self.lines(&permit, bytes);
        }
        let mut shown = Vec::new();
        self.masker.push(bytes, &mut shown);
        self.lines(&permit, &shown);
    }

    fn lines(&mut self, permit: &Permit<'_>, bytes: &[u8]) {
        let now = permit.at();
        self.remember(bytes);
        for part in bytes.chunks(limit::LOG_CHUNK_MAX) {
            if self.line.len() + part.len() > limit::LOG_CHUNK_MAX {
                self.send_line(permit);
            }
            if self.line.is_empty() {
                self.line_since = now;
            }
            self.line.extend_from_slice(part);
            if let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') {
                let rest = self.line.split_off(end + 1);
                self.send_line(permit);
                (self.line, self.line_since) = (rest, now);
            }
        }
    }

    /// Takes the newest progress; it replaces an older one that was not sent yet.
    pub fn progress(&mut self, permit: Permit<'_>, done: u64, total: u64) {
        self.progress = Some((done, total));
        self.flush(permit);
    }

    /// Sends everything that has waited long enough.
    pub fn flush(&mut self, permit: Permit<'_>) {
        let now = permit.at();
        if now >= self.progress_next {
            self.send_progress(&permit);
        }
        if !self.line.is_empty() && now >= self.line_since + LINE_WAIT {
            self.send_line(&permit);
        }
    }

    /// When to call [`Outbox::flush`] next; `None` if nothing waits.
    pub fn due(&self) -> Option<Time> {
        let progress = self.progress.map(|_| self.progress_next);
        let line = (!self.line.is_empty()).then(|| self.line_since + LINE_WAIT);
        progress.into_iter().chain(line).min()
    }

    /// Sends everything that is left, after the run has ended.
    pub fn finish(&mut self, permit: &Permit<'_>) {
        let mut rest = Vec::new();
        self.masker.finish(&mut rest);
        self.lines(permit, &rest);
        self.send_progress(permit);
        self.send_line(permit);
        self.notice(permit);
    }

    /// The end of standard error, from the beginning of a character.
    pub fn stderr_tail(&self) -> String {
        let mut start = self.tail.len().saturating_sub(limit::STDERR_TAIL_MAX);
        while start > 0 && self.tail.get(start).is_some_and(|byte| byte & 0xC0 == 0x80) {
            start += 1;
        }
        let text = String::from_utf8_lossy(&self.tail[start..]);
        // A replacement character is longer than the bytes that it replaces.
        muster_protocol::task::clip(&text, limit::STDERR_TAIL_MAX).into()
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(limit::STDERR_TAIL_MAX)..]);
        if self.tail.len() > 2 * limit::STDERR_TAIL_MAX {
            self.tail.drain(..self.tail.len() - limit::STDERR_TAIL_MAX);
        }
    }

    fn send_progress(&mut self, permit: &Permit<'_>) {
        let Some((done, total)) = self.progress.take() else { return };
        self.progress_next = permit.at() + PROGRESS_EVERY;
        // A report that is lost in a full queue would soon be replaced by the next one anyway.
        self.sender.send(permit, GuestReport::Progress { key: self.key, done, total });
    }

    fn send_line(&mut self, permit: &Permit<'_>) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.chunk(permit, LogSource::Stderr, line.into());
        }
    }

    fn chunk(&mut self, permit: &Permit<'_>, source: LogSource, text: Bytes) {
        let now = permit.at();
        let gained =
            now.since(self.filled).as_nanos() * u128::from(limit::LOG_RATE) / 1_000_000_000;
        if gained > 0 {
            let gained = u64::try_from(gained).unwrap_or(u64::MAX);
            self.budget = self.budget.saturating_add(gained).min(limit::LOG_BURST);
            self.filled = now;
        }
        let size = text.len() as u64;
        let cost = size + limit::LOG_CHUNK_COST;
        if cost > self.budget || size > self.left {
            return self.drop(size);
        }
        self.notice(permit);
        let chunk = LogChunk { key: self.key, source, text };
        if self.sender.send(permit, GuestReport::Log(chunk)) {
            self.budget -= cost;
            self.left -= size;
        } else {
            self.drop(size);
        }
    }

    fn drop(&mut self, size: u64) {
        self.unsaid += size;
        self.dropped += size;
    }

    /// Bytes of the log that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn over(&self) -> &'static str {
        if self.unsaid > self.left { "size" } else { "rate" }
    }

    /// Writes into the log itself how many bytes are missing there.
    fn notice(&mut self, permit: &Permit<'_>) {
        if self.unsaid == 0 {
            return;
        }
        let text = format!(
            "[muster: {} bytes dropped here, over the log's {}]\n",
            self.unsaid,
            self.over()
        );
        let size = text.len() as u64;
        let chunk = LogChunk { key: self.key, source: LogSource::Log, text: text.into() };
        if self.sender.send(permit, GuestReport::Log(chunk)) {
            self.unsaid = 0;
            self.left = self.left.saturating_sub(size);
        }
    }
}

#[cfg(test)]
mod tests;
