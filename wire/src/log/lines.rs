//! The queue of log lines, and the thread that writes them. Never makes a thread that logs wait for a
//! write.

use super::repeats::{Key, Repeats};
use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Lines that may wait. That is a second of far more log than any daemon should write.
const WAITING_MAX: usize = 4_096;

/// How long the end of a process waits for its log.
pub(super) const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// How long after a failed write to try to report the count of lost lines.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// A line with its newline.
#[derive(Debug)]
pub(super) struct LogLine {
    /// The key that repeats share. A line without a key is always written.
    pub key: Option<Key>,
    pub text: String,
}

/// The queue of lines that wait to be written.
#[derive(Default)]
pub(super) struct Lines {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<LogLine>,
    /// Lines dropped because the queue was full.
    lost: u64,
    /// Whether [`Lines::flush`] waits until everything is written, including held repeats.
    is_flushed: bool,
}

impl Lines {
    /// Adds a line. If the queue is full, counts it as lost.
    pub(super) fn push(&self, line: LogLine) {
        let mut queue = self.lock();
        if queue.waiting.len() < WAITING_MAX {
            queue.waiting.push_back(line);
        } else {
            queue.lost += 1;
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits until all lines added before are written, at most [`FLUSH_WITHIN`].
    pub(super) fn flush(&self) {
        let mut queue = self.lock();
        queue.is_flushed = true;
        self.changed.notify_all();
        let _ = self.changed.wait_timeout_while(queue, FLUSH_WITHIN, |queue| queue.is_flushed);
    }

    /// Waits for lines until `due`. Returns the lines, the count of lost lines, and whether to flush.
    fn take(&self, due: Option<Instant>) -> (VecDeque<LogLine>, u64, bool) {
        let mut queue = self.lock();
        loop {
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            let is_due = wait.is_some_and(|wait| wait.is_zero());
            if is_due || !queue.waiting.is_empty() || queue.lost > 0 || queue.is_flushed {
                let taken = std::mem::take(&mut queue.waiting);
                return (taken, std::mem::take(&mut queue.lost), queue.is_flushed);
            }
            queue = match wait {
                Some(wait) => {
                    let woken = self.changed.wait_timeout(queue, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends a flush once everything is written.
    fn written(&self, was_flushed: bool) {
        let mut queue = self.lock();
        // Lines added meanwhile belong to the same flush.
        if was_flushed && queue.waiting.is_empty() {
            queue.is_flushed = false;
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes lines on a thread of its own until the process ends.
pub(super) fn write_on_a_thread(
    lines: Arc<Lines>,
    out: impl Write + Send + 'static,
) -> io::Result<()> {
    let writing = move || {
        let (mut paper, mut repeats) = (Paper::new(out), Repeats::default());
        loop {
            let due = [repeats.due(), paper.due()].into_iter().flatten().min();
            let (taken, lost, is_flushed) = lines.take(due);
            paper.lost += lost;
            let now = Instant::now();
            for LogLine { key, text } in taken {
                match key {
                    Some(key) => repeats.pass(key, text, now),
                    None => Some(text),
                }
                .into_iter()
                .for_each(|text| paper.write(&text));
            }
            repeats.take(now, is_flushed).iter().for_each(|text| paper.write(text));
            paper.tell_lost();
            lines.written(is_flushed);
        }
    };
    std::thread::Builder::new().name("log".into()).spawn(writing).map(drop)
}

/// The output, which may refuse writes for a while.
struct Paper<W> {
    out: W,
    /// Lines lost since the last reported count.
    lost: u64,
    /// Whether the last failed write left a part of a line.
    is_torn: bool,
    failed_at: Option<Instant>,
}

impl<W: Write> Paper<W> {
    fn new(out: W) -> Self {
        Paper { out, lost: 0, is_torn: false, failed_at: None }
    }

    fn write(&mut self, text: &str) {
        self.tell_lost();
        if self.lost > 0 || !self.put(text) {
            self.lost += 1;
        }
    }

    /// Reports how many lines were lost, if any were and the output accepts the report.
    fn tell_lost(&mut self) {
        let lines = if self.lost == 1 { "line" } else { "lines" };
        let told = format!("{} {lines} of this log could not be written and are lost\n", self.lost);
        if self.lost > 0 && self.put(&told) {
            self.lost = 0;
        }
    }

    fn put(&mut self, text: &str) -> bool {
        let text = if self.is_torn { format!("\n{text}") } else { text.to_owned() };
        let mut left = text.as_bytes();
        let mut failed = false;
        while !left.is_empty() && !failed {
            match self.out.write(left) {
                Ok(count) if count > 0 => left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => failed = true,
            }
        }
        self.is_torn = failed && (self.is_torn || left.len() < text.len());
        self.failed_at = failed.then(Instant::now);
        !failed
    }

    /// When to try again to report the count of lost lines.
    fn due(&self) -> Option<Instant> {
        self.failed_at.filter(|_| self.lost > 0).map(|at| at + TELL_AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An output that accepts `room` more bytes.
    #[derive(Default)]
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.text.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lost_lines_are_counted_and_told_once_there_is_room() {
        let mut paper = Paper::new(Disk { room: 8, ..Disk::default() });
        for line in ["one\n", "two, which is long\n", "three\n"] {
            paper.write(line);
        }
        assert!(paper.due().is_some(), "the count waits to be told");
        paper.out.room = 1_000;
        paper.write("four\n");
        paper.write("five\n");
        let text = String::from_utf8(paper.out.text.clone()).expect("UTF-8");
        let told = "2 lines of this log could not be written and are lost";
        assert_eq!(text, format!("one\ntwo,\n{told}\nfour\nfive\n"));
        assert!(paper.due().is_none());
    }

    #[test]
    fn who_logs_never_waits_and_what_finds_no_place_is_counted() {
        let lines = Lines::default();
        for number in 0..WAITING_MAX + 7 {
            lines.push(LogLine { key: None, text: format!("{number}\n") });
        }
        let (taken, lost, _) = lines.take(None);
        assert_eq!((taken.len(), lost), (WAITING_MAX, 7));
    }
}
