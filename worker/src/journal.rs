//! The journal: what really ran here and when, one line of JSON for each fact, for operators who want
//! proof and for the fleet's own tests. The worker itself never reads it, and it costs nothing unless
//! it was asked for.

use crate::{clock::boottime, shortage::Shortages};
use muster_protocol::{SessionId, Time, WorkerId, message::AttemptKey};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The journal of a worker; the default one writes nothing. Clones write to the same file.
#[derive(Clone, Debug, Default)]
pub struct Journal(Option<Arc<Book>>);

#[derive(Debug)]
struct Book {
    file: File,
    worker: WorkerId,
    /// Whether the last line could not be written completely.
    failed: AtomicBool,
    wants: Shortages,
}

/// A run that has started; dropping this writes the run's end.
pub(crate) struct Begun<'a> {
    journal: &'a Journal,
    key: AttemptKey,
}

impl Journal {
    /// Opens the file for appending, and creates it if there is none. Failed writes are reported to
    /// `wants`.
    pub(crate) fn open(path: &Path, worker: WorkerId, wants: Shortages) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        let failed = AtomicBool::new(false);
        Ok(Journal(Some(Arc::new(Book { file, worker, failed, wants }))))
    }

    /// If the last line could not be written, writes a line `gap` that says so; returns the error if
    /// that fails, too.
    pub(crate) fn mend(&self) -> io::Result<()> {
        match &self.0 {
            Some(book) if book.failed.load(Ordering::Relaxed) => {
                book.write("gap", || r#""lines":"missing""#.into())
            }
            _ => Ok(()),
        }
    }

    /// A master has dispatched an attempt to this worker.
    pub(crate) fn received(&self, key: AttemptKey) {
        self.run("received", key);
    }

    /// The guest's first instruction is next. Drop the returned value only after the store of the run.
    pub(crate) fn started(&self, key: AttemptKey) -> Begun<'_> {
        self.run("started", key);
        Begun { journal: self, key }
    }

    /// A host call has found the gate open; its effect is next.
    pub(crate) fn called(&self, key: AttemptKey) {
        self.run("called", key);
    }

    /// A session's right to run ended at `until`: by the worker's own clock, or earlier because the
    /// registry says so.
    pub(crate) fn lapsed(&self, session: SessionId, until: Time) {
        self.write("lapsed", || {
            format!(r#""session":"{session}","until_ns":{}"#, until.as_nanos())
        });
    }

    fn run(&self, what: &str, key: AttemptKey) {
        self.write(what, || format!(r#""task":"{}","attempt":"{}""#, key.task, key.attempt));
    }

    fn write(&self, what: &str, about: impl FnOnce() -> String) {
        if let Some(book) = &self.0 {
            let _ = book.write(what, about);
        }
    }
}

impl Book {
    fn write(&self, what: &str, about: impl FnOnce() -> String) -> io::Result<()> {
        // A part of the failed line may be in the file; this line must not continue it.
        let torn = if self.failed.load(Ordering::Relaxed) { "\n" } else { "" };
        // Names and ids contain no character that JSON escapes.
        let line = format!(
            "{torn}{{\"at_ns\":{},\"what\":\"{what}\",{},\"worker\":\"{}\",\"pid\":{}}}\n",
            boottime().as_nanos(),
            about(),
            self.worker,
            std::process::id(),
        );
        // One write to a file that was opened for appending, so that lines of several threads do not
        // mix.
        let written = (&self.file).write_all(line.as_bytes());
        let failed_before = !torn.is_empty();
        if let Err(error) = &written {
            self.wants.failed(error);
            if !self.failed.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, "the journal cannot be written; lines are missing from it");
            }
        } else if failed_before {
            self.failed.store(false, Ordering::Relaxed);
        }
        written
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.journal.run("ended", self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{AttemptId, TaskId};

    #[test]
    fn a_line_is_json_and_tells_who_and_when() {
        let path = std::env::temp_dir().join(format!("muster-journal-{}", std::process::id()));
        let journal = Journal::open(&path, "w1".parse().expect("a name"), Shortages::default());
        let journal = journal.expect("a file");
        let key = AttemptKey { task: TaskId(7), attempt: AttemptId(8) };
        let before = boottime().as_nanos();
        journal.received(key);
        let begun = journal.started(key);
        journal.called(key);
        drop(begun);
        journal.lapsed(SessionId(9), Time::from_nanos(3));
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::remove_file(&path).expect("it was there");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let what: Vec<_> = lines.iter().map(|line| line["what"].as_str()).collect();
        assert_eq!(what, ["received", "started", "called", "ended", "lapsed"].map(Some));
        assert_eq!(lines[0]["task"], TaskId(7).to_string());
        assert_eq!(lines[0]["attempt"], AttemptId(8).to_string());
        assert_eq!(lines[4]["until_ns"], 3);
        let stamps: Vec<u64> =
            lines.iter().map(|line| line["at_ns"].as_u64().expect("a stamp")).collect();
        assert!(stamps[0] >= before && stamps.is_sorted(), "{stamps:?}");
        assert!(lines.iter().all(|line| line["worker"] == "w1"));
    }

    #[test]
    fn none_costs_nothing() {
        let called = std::cell::Cell::new(false);
        Journal::default().write("started", || {
            called.set(true);
            String::new()
        });
        assert!(!called.get());
    }
}
