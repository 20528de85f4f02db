//! Writes the audit: one entry after the other, each after the newest one of all masters. Never makes a request
//! wait longer than [`NOTED_WITHIN`], and never keeps more decisions than [`Waiting`] does.
//!
//! Tasks are submitted and cancelled by programs, thousands a second, so these decisions are collected for
//! [`COLLECT`] and their requests do not wait for them; a master that dies meanwhile loses them. The task's
//! record is the truth there. All other decisions that were carried out are written at once, and are answered
//! after that.

use crate::registry::{Newest, Registry};
use muster_protocol::{
    MasterId, Nonce, Revision,
    audit::{Decision, Entry, Place, Waiting},
};
use muster_wire::{clock, process};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{Notify, oneshot, watch};

/// How long decisions that need not be written at once are collected.
const COLLECT: Duration = Duration::from_secs(5);

/// How long a request waits at most until its decision is written.
const NOTED_WITHIN: Duration = Duration::from_secs(2);

/// The wait before a write is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Notes decisions. One writer serves all sessions of the process, one after the other.
#[derive(Clone)]
pub(crate) struct Audit {
    noted: Arc<Noted>,
    registry: watch::Sender<Option<Registry>>,
}

/// What is noted, and not written yet.
#[derive(Default)]
struct Noted {
    unwritten: Mutex<Unwritten>,
    /// Something is noted.
    some: Notify,
    /// Somebody waits until it is written.
    urgent: Notify,
}

#[derive(Default)]
struct Unwritten {
    decisions: Waiting,
    /// Told when everything that is noted now is written. Each is a request, of which few are in work at once.
    told: Vec<oneshot::Sender<()>>,
}

impl Noted {
    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().expect("no holder of this lock panics")
    }
}

impl Audit {
    pub(crate) fn new(master: MasterId) -> Self {
        let noted = Arc::new(Noted::default());
        let (registry, present) = watch::channel(None);
        let writer = Writer { registry: present, master, newest: None };
        tokio::spawn(writer.write_all(noted.clone()));
        Audit { noted, registry }
    }

    /// Writes to this registry from now on.
    pub(crate) fn begin_session(&self, registry: &Registry) {
        self.registry.send_replace(Some(registry.clone()));
    }

    /// Notes a decision, to be written soon.
    pub(crate) fn note(&self, decision: Decision) {
        self.noted.unwritten().decisions.add(decision);
        self.noted.some.notify_one();
    }

    /// Notes a decision, and waits until it is written.
    pub(crate) async fn note_now(&self, decision: Decision) {
        let verb = decision.verb.clone();
        self.note(decision);
        if !self.written().await {
            tracing::warn!(verb, "a decision is not in the audit yet; it was carried out");
        }
    }

    /// Writes what is noted. Gives up after [`NOTED_WITHIN`].
    pub(crate) async fn flush(&self) {
        if !self.noted.unwritten().decisions.is_empty() && !self.written().await {
            tracing::warn!("stopped before the last decisions were written to the audit");
        }
    }

    /// Waits until what is noted now is written. Returns false if that takes too long.
    async fn written(&self) -> bool {
        let (written, is_written) = oneshot::channel();
        self.noted.unwritten().told.push(written);
        self.noted.some.notify_one();
        self.noted.urgent.notify_one();
        matches!(tokio::time::timeout(NOTED_WITHIN, is_written).await, Ok(Ok(())))
    }
}

struct Writer {
    registry: watch::Receiver<Option<Registry>>,
    master: MasterId,
    /// The newest entry, as far as this master knows.
    newest: Option<(Place, Revision)>,
}

impl Writer {
    /// Writes what is noted, again and again.
    async fn write_all(mut self, noted: Arc<Noted>) {
        loop {
            noted.some.notified().await;
            tokio::select! {
                () = tokio::time::sleep(COLLECT) => {}
                () = noted.urgent.notified() => {}
            }
            let (mut entries, mut told) = (Vec::new(), Vec::new());
            {
                let mut unwritten = noted.unwritten();
                while !unwritten.decisions.is_empty() {
                    entries.push(unwritten.decisions.take());
                }
                told.append(&mut unwritten.told);
            }
            for (decisions, lost) in entries {
                if self.write(decisions, lost).await.is_none() {
                    return;
                }
            }
            for written in told {
                // Who asked may have given up.
                let _ = written.send(());
            }
        }
    }

    /// Writes an entry, however long that takes. `None` if the process ends.
    async fn write(&mut self, decisions: Vec<Decision>, lost: u64) -> Option<()> {
        let mut entry = Entry {
            number: 0,
            previous: None,
            at: clock::wall(),
            master: self.master.clone(),
            write: Nonce(process::random().ok()?),
            decisions,
            lost,
            unknown: Default::default(),
        };
        loop {
            let registry = self.registry().await?;
            if self.newest.is_none() {
                match registry.newest_of_audit().await {
                    Ok(Some(Newest { entry: found, place, revision })) => {
                        self.newest = Some((place, revision));
                        // The acknowledgement of an earlier try was lost.
                        if found.write == entry.write {
                            return Some(());
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the audit cannot be read; trying again");
                        tokio::time::sleep(AGAIN_AFTER).await;
                        continue;
                    }
                }
            }
            let (place, revision) = self.newest.unzip();
            entry.number = place.map_or(0, |place| place.number) + 1;
            entry.previous = place.map(|place| place.digest);
            // `None` if another master was faster, or if the outcome is unknown: the newest entry shows it.
            self.newest = registry.write_audit(revision.unwrap_or(0), &entry).await;
            if self.newest.is_some() {
                return Some(());
            }
        }
    }

    /// The registry of the present session.
    async fn registry(&mut self) -> Option<Registry> {
        loop {
            if self.registry.has_changed().ok()? {
                self.newest = None;
            }
            let present = self.registry.borrow_and_update().clone();
            match present.filter(Registry::is_connected) {
                Some(registry) => return Some(registry),
                None => self.registry.changed().await.ok()?,
            }
        }
    }
}
