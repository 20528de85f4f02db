//! The journal: what really ran here and when, one line of JSON for each fact, for operators who want
//! proof and for the fleet's own tests. The worker decides nothing by it, and it costs nothing unless
//! it was asked for.
//!
//! When the file is full, its lines are moved to a second one, in place of those that were moved before. Both files are
//! opened before the worker confines itself.

use crate::{clock::boottime, shortage::Shortages};
use muster_protocol::{SessionId, Time, WorkerId, message::AttemptKey};
use std::{
    fs::File,
    io::{self, Seek as _, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// How many bytes of lines are moved at once.
const MOVED_AT_ONCE: usize = 64 * 1024;

/// The files of a journal, open.
#[derive(Debug)]
pub(crate) struct Files {
    now: File,
    /// The lines of before. Absent if the journal may grow without a limit.
    before: Option<File>,
    /// The most bytes of the first file, roughly.
    max: u64,
}

impl Files {
    /// Opens the file for appending, and the one with `.1` after its name if there is a limit. Creates them if there
    /// are none. Without the second file there is no limit.
    pub(crate) fn open(path: &Path, max: Option<u64>) -> io::Result<Self> {
        let now = File::options().read(true).append(true).create(true).open(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".1");
        let mut options = File::options();
        // Those of before stay until there are others to take their place.
        let options = options.write(true).create(true).truncate(false);
        let is_file = now.metadata()?.is_file();
        let before = max.filter(|_| is_file).and_then(|_| {
            let opened = options.open(PathBuf::from(&name));
            let path = Path::new(&name).display();
            opened
                .inspect_err(
                    |error| tracing::warn!(%error, file = %path, "the journal will not be limited"),
                )
                .ok()
        });
        let max = max.filter(|_| before.is_some()).unwrap_or(u64::MAX);
        Ok(Files { now, before, max })
    }

    /// Copies the lines from this place on to the end of the second file. Returns where they end.
    fn copy(&self, mut to: &File, mut from: u64) -> io::Result<u64> {
        let mut bytes = vec![0; MOVED_AT_ONCE];
        loop {
            match self.now.read_at(&mut bytes, from)? {
                0 => return Ok(from),
                count => {
                    to.write_all(&bytes[..count])?;
                    from += count as u64;
                }
            }
        }
    }
}

/// The journal of a worker; the default one writes nothing. Clones write to the same file.
#[derive(Clone, Debug, Default)]
pub struct Journal(Option<Arc<Book>>);

#[derive(Debug)]
struct Book {
    files: Files,
    /// How many bytes the first file has, roughly.
    size: AtomicU64,
    /// Whether its lines are being moved.
    moves: AtomicBool,
    /// Held for reading while a line is written, and for writing while the last lines are moved.
    writing: RwLock<()>,
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
    /// A journal in these files. Failed writes are reported to `wants`.
    pub(crate) fn new(files: Files, worker: WorkerId, wants: Shortages) -> Self {
        let size = files.now.metadata().map_or(0, |now| now.len()).into();
        Journal(Some(Arc::new(Book {
            files,
            size,
            moves: AtomicBool::new(false),
            writing: RwLock::default(),
            worker,
            failed: AtomicBool::new(false),
            wants,
        })))
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
        let Some(book) = &self.0 else { return };
        let _ = book.write(what, about);
        if book.size.load(Ordering::Relaxed) > book.files.max
            && !book.moves.swap(true, Ordering::Relaxed)
        {
            let moving = Arc::clone(book);
            // On a thread of its own, because a disk may be slow and this one may be a guest's.
            let moved = std::thread::Builder::new()
                .name("journal".into())
                .spawn(move || moving.move_lines());
            if moved.is_err() {
                book.moves.store(false, Ordering::Relaxed);
            }
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
        let writing = self.writing.read().expect("no holder of this lock panics");
        let written = (&self.files.now).write_all(line.as_bytes());
        drop(writing);
        self.size.fetch_add(line.len() as u64, Ordering::Relaxed);
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

impl Book {
    /// Moves the lines to the second file. Lines that are written meanwhile wait only for the last of them.
    fn move_lines(&self) {
        if let Some(before) = &self.files.before
            && let Err(error) = self.try_to_move_lines(before)
        {
            tracing::error!(%error, "the lines of the journal cannot be moved; it grows");
            // A part of them is of no use, and takes room.
            let _ = before.set_len(0);
        }
        // After an error, it is tried again when as many lines were written once more.
        self.size.store(0, Ordering::Relaxed);
        self.moves.store(false, Ordering::Relaxed);
    }

    fn try_to_move_lines(&self, mut before: &File) -> io::Result<()> {
        before.set_len(0)?;
        before.rewind()?;
        let most = self.files.copy(before, 0)?;
        let _writing = self.writing.write().expect("no holder of this lock panics");
        self.files.copy(before, most)?;
        self.files.now.set_len(0)
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
        let files = Files::open(&path, None).expect("a file");
        let journal = Journal::new(files, "w1".parse().expect("a name"), Shortages::default());
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
    fn lines_of_several_threads_are_moved_when_the_file_is_full_and_none_is_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("journal");
        let files = Files::open(&path, Some(1024 * 1024)).expect("files");
        let journal = Journal::new(files, "w1".parse().expect("a name"), Shortages::default());
        let per_thread: u64 = 3_000;
        let write = |thread: u64| {
            for number in 0..per_thread {
                let (task, attempt) = (TaskId(thread.into()), AttemptId(number));
                journal.received(AttemptKey { task, attempt });
            }
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || write(thread));
            }
        });
        let book = journal.0.as_ref().expect("it has files");
        while book.moves.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
        let (before, now) = (read(&dir.path().join("journal.1")), read(&path));
        assert!(before.len() >= 1024 * 1024 && now.len() < 1024 * 1024, "{}", now.len());
        let lines: std::collections::BTreeSet<String> = before
            .lines()
            .chain(now.lines())
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("whole lines");
                format!("{} {}", line["task"], line["attempt"])
            })
            .collect();
        assert_eq!(lines.len() as u64, 4 * per_thread);
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
