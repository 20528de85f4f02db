//! Shortages of a host, and what an operator can do about each. A module or a guest must never be
//! blamed for one.

use muster_protocol::lease::Unwell;
use rustix::io::Errno;
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

/// The kernel's errors that mean a shortage of the host, and what to do about each.
const WANTS: [(Errno, &str); 8] = [
    (Errno::AGAIN, "the worker may start no more processes: raise TasksMax= or `ulimit -u`"),
    (Errno::NOMEM, "the host gives no more memory: free some, or raise MemoryMax="),
    (Errno::MFILE, "the worker may open no more files: raise LimitNOFILE= or `ulimit -n`"),
    (Errno::NFILE, "the host may open no more files: raise fs.file-max"),
    (Errno::NOSPC, "a disk of the host is full: free some space and some inodes"),
    (Errno::DQUOT, "the worker's user may store no more: raise its quota"),
    (Errno::IO, "a disk of the host does not work: look at the kernel's log"),
    (Errno::ROFS, "a disk of the host can only be read: look at the kernel's log"),
];

/// The text before an error's number: in its `Display` form and in its `Debug` form.
const BEFORE_NUMBER: [&str; 2] = ["os error ", "code: "];

fn remedy(number: i32) -> Option<&'static str> {
    let known = WANTS.iter().find(|(errno, _)| errno.raw_os_error() == number);
    known.map(|(_, remedy)| *remedy)
}

/// An error's text and, if it is a shortage of the host, what to do about it.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.raw_os_error().and_then(remedy) {
        Some(remedy) => format!("{error}; {remedy}"),
        None => error.to_string(),
    }
}

/// The number of the first shortage of the host that a text names, and what to do about it. The text is
/// an error message.
pub(crate) fn told(text: &str) -> Option<(Errno, &'static str)> {
    let numbers = BEFORE_NUMBER.iter().flat_map(|before| text.split(before).skip(1));
    numbers
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<i32>().ok())
        .find_map(|number| Some((Errno::from_raw_os_error(number), remedy(number)?)))
}

/// The shortage of the host behind an error of the runtime, and a sentence about it; `None` if the
/// error has another cause.
pub(crate) fn behind(error: &wasmtime::Error) -> Option<(Errno, String)> {
    let number = error.chain().find_map(|cause| {
        let errno = cause.downcast_ref::<Errno>().map(|errno| errno.raw_os_error());
        errno.or_else(|| cause.downcast_ref::<io::Error>()?.raw_os_error())
    })?;
    Some((Errno::from_raw_os_error(number), format!("{error:#}; {}", remedy(number)?)))
}

/// Shortages that may wait to be read. Further ones are dropped: the first one is enough.
const SHORTAGES_MAX: usize = 64;

/// Takes reports of shortages, from any operation that fails for one. Clones report to the same
/// receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shortages(Option<SyncSender<Unwell>>);

impl Shortages {
    /// A reporter and the receiver of its reports.
    pub(crate) fn new() -> (Self, Receiver<Unwell>) {
        let (tell, told) = sync_channel(SHORTAGES_MAX);
        (Shortages(Some(tell)), told)
    }

    /// Reports an error, if it is a shortage.
    pub(crate) fn failed(&self, error: &io::Error) {
        self.tell(error.raw_os_error());
    }

    /// Reports the shortage that a text names, if it names one. Nothing else of the text is passed on,
    /// since a guest may have written it.
    pub(crate) fn named(&self, text: &str) {
        self.tell(told(text).map(|(errno, _)| errno.raw_os_error()));
    }

    fn tell(&self, number: Option<i32>) {
        if let (Some(tell), Some(number)) = (&self.0, number)
            && remedy(number).is_some()
        {
            let _ = tell.try_send(explain(&io::Error::from_raw_os_error(number)).into());
        }
    }
}

/// How long a cause that was logged is not logged again: operators see it, and logs stay short.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// Causes that are remembered: several for each thing that a host can lack. Beyond that, all are
/// forgotten.
const CAUSES_MAX: usize = 256;

/// Which causes were logged, and when; and the reporter of the shortages among them. Clones are the
/// same.
#[derive(Clone, Default)]
pub(crate) struct LoggedCauses {
    causes: Arc<Mutex<HashMap<String, Instant>>>,
    pub wants: Shortages,
}

impl LoggedCauses {
    /// No cause was logged yet.
    pub(crate) fn new(wants: Shortages) -> Self {
        LoggedCauses { causes: Arc::default(), wants }
    }

    /// Whether a cause is to be logged now: the first time, and again after [`SAY_AGAIN`].
    pub(crate) fn is_news(&self, cause: &str) -> bool {
        self.is_news_at(cause, Instant::now())
    }

    fn is_news_at(&self, cause: &str, now: Instant) -> bool {
        let mut said = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(cause).is_some_and(|then| now.saturating_duration_since(*then) < SAY_AGAIN) {
            return false;
        }
        if said.len() >= CAUSES_MAX {
            said.clear();
        }
        said.insert(cause.into(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_the_host_is_known_by_its_number() {
        let processes = io::Error::from(Errno::AGAIN);
        assert!(explain(&processes).ends_with("raise TasksMax= or `ulimit -u`"));
        let other = io::Error::from(Errno::NOENT);
        assert_eq!(explain(&other), other.to_string());
        let debug = format!("the pool: IOError({:?})", io::Error::from(Errno::MFILE));
        for (text, want) in [
            (format!("no thread: {processes}"), Some(Errno::AGAIN)),
            (debug, Some(Errno::MFILE)),
            (format!("{other}, and then {}", io::Error::from(Errno::NOSPC)), Some(Errno::NOSPC)),
            (other.to_string(), None),
            ("index out of bounds: the len is 11".into(), None),
        ] {
            assert_eq!(told(&text).map(|(errno, _)| errno), want, "{text}");
        }
    }

    #[test]
    fn a_shortage_behind_an_error_of_the_runtime_is_found() {
        let mapped = wasmtime::Error::from(Errno::NOMEM).context("no memory could be mapped");
        let (errno, sentence) = behind(&mapped).expect("a want");
        assert_eq!(errno, Errno::NOMEM);
        assert!(sentence.starts_with("no memory could be mapped: "), "{sentence}");
        let opened = wasmtime::Error::from(io::Error::from(Errno::MFILE));
        assert_eq!(behind(&opened).map(|(errno, _)| errno), Some(Errno::MFILE));
        assert!(behind(&wasmtime::Error::from(wasmtime::Trap::StackOverflow)).is_none());
        assert!(behind(&wasmtime::Error::from(Errno::NOENT)).is_none());
    }

    #[test]
    fn a_shortage_is_reported_in_the_words_of_this_table_alone() {
        let (wants, told) = Shortages::new();
        wants.failed(&io::Error::from(Errno::NOENT));
        wants.named("nothing of the kind");
        assert!(told.try_recv().is_err());
        let full = io::Error::from(Errno::NOSPC);
        wants.named(&format!("what a guest says: {full}; and so on"));
        wants.failed(&full);
        for _ in 0..2 {
            assert_eq!(told.try_recv(), Ok(explain(&full).into()));
        }
        for _ in 0..=SHORTAGES_MAX {
            wants.failed(&full);
        }
        assert_eq!(told.try_iter().count(), SHORTAGES_MAX, "nobody waits");
    }

    #[test]
    fn a_cause_is_said_once_in_a_while() {
        let (said, now) = (LoggedCauses::default(), Instant::now());
        assert!(said.is_news_at("full", now) && said.is_news_at("broken", now));
        assert!(!said.is_news_at("full", now + SAY_AGAIN / 2));
        assert!(said.is_news_at("full", now + SAY_AGAIN));
    }
}
