//! The queue of task-record writes, up to thousands at once. Sends each record at once by
//! compare-and-set, and reports each exactly once: written, conflict or unknown. Never waits for one
//! answer before the next write, and needs no timer and no loop per write.

use super::{Fact, FactInput, Registry, SessionFact};
use async_nats::{HeaderMap, Message, Subject, header::HeaderName};
use bytes::Bytes;
use futures::StreamExt as _;
use muster_protocol::{
    Revision, TaskId,
    fleet::Event,
    lease::CasAnswer,
    limit::WRITES_MAX,
    record,
    subject::{Bucket, STATE_DONE, STATE_HEADER, WRITER_HEADER},
    task::TaskRecord,
};
use muster_wire::cas::{self, ACK_TIMEOUT, Ack, Key};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

const STATE: HeaderName = HeaderName::from_static(STATE_HEADER);
const WRITER: HeaderName = HeaderName::from_static(WRITER_HEADER);

/// How often to look for writes whose answer is overdue.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A record to be written.
struct Write {
    expect: Revision,
    record: Arc<TaskRecord>,
    keep: Option<Duration>,
}

/// A handle for writing task records, as long as it is kept.
pub(crate) struct Writes(mpsc::Sender<Write>);

impl Writes {
    /// Writes in the session of this registry. The results go to `inbox`.
    pub(crate) fn begin(registry: &Registry, inbox: &mpsc::Sender<impl FactInput>) -> Self {
        let (sender, writes) = mpsc::channel(WRITES_MAX);
        tokio::spawn(carry(registry.clone(), writes, inbox.clone()));
        Writes(sender)
    }

    /// Writes a record if its key has the revision `expect`.
    pub(crate) fn write(&self, expect: Revision, record: Arc<TaskRecord>, keep: Option<Duration>) {
        // Cannot be full: the fleet has at most `WRITES_MAX` writes under way, and the channel holds as
        // many.
        if self.0.try_send(Write { expect, record, keep }).is_err() {
            tracing::error!("a record was not written; its task waits for the next master");
        }
    }
}

/// Writes until [`Writes`] is dropped. If the answers cannot be subscribed to, nothing is written: the
/// session is about to end.
async fn carry(
    registry: Registry,
    mut writes: mpsc::Receiver<Write>,
    inbox: mpsc::Sender<impl FactInput>,
) {
    let replies = registry.client.new_inbox();
    let Ok(mut answers) = registry.client.subscribe(format!("{replies}.*")).await else {
        return tracing::warn!("the answers of the registry cannot be subscribed to");
    };
    let mut under_way = UnderWay::default();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(answer) = answers.next() => {
                if let Some(record) = number_of(&answer).and_then(|number| under_way.end(number)) {
                    answered(&registry, &inbox, record, Ack::of(&answer.payload)).await;
                }
            }
            write = writes.recv() => {
                let Some(write) = write else { return };
                let number = under_way.begin(write.record.clone());
                let reply = format!("{replies}.{number}");
                if send(&registry, write, reply).await.is_none()
                    && let Some(record) = under_way.end(number)
                {
                    answered(&registry, &inbox, record, Ack::Unknown).await;
                }
            }
            _ = look.tick(), if !under_way.is_empty() => {
                while let Some(record) = under_way.overdue(Instant::now()) {
                    tracing::warn!("the write of a record was not answered within {ACK_TIMEOUT:?}");
                    answered(&registry, &inbox, record, Ack::Unknown).await;
                }
            }
        }
    }
}

/// Sends a write. `None` if it was not sent; once sent, it may still arrive after any failure.
async fn send(registry: &Registry, write: Write, reply: String) -> Option<()> {
    let value = record::write(&*write.record).ok()?;
    let Write { expect, record, keep } = write;
    let mut headers = HeaderMap::new();
    cas::expecting(&mut headers, expect, keep);
    headers.insert(WRITER, registry.session.to_string());
    if record.is_done() {
        headers.insert(STATE, STATE_DONE);
    }
    let subject = registry.context.written_to(&registry.names.key(Bucket::Tasks, record.id));
    let sent = registry.client.publish_with_reply_and_headers(
        Subject::from(subject),
        Subject::from(reply),
        headers,
        Bytes::from(value),
    );
    sent.await.inspect_err(|error| tracing::warn!(%error, "a record could not be sent")).ok()
}

/// Reports the result of a write. After a refusal, a loop of its own first reads the value that the
/// write met.
async fn answered(
    registry: &Registry,
    inbox: &mpsc::Sender<impl FactInput>,
    record: Arc<TaskRecord>,
    ack: Ack,
) {
    let (task, answer) = match ack {
        Ack::Written(revision) => {
            registry.tasks.lock().expect("no holder of this lock panics").wrote(revision);
            (record.id, CasAnswer::Written(revision))
        }
        Ack::Unknown => (record.id, CasAnswer::Unknown),
        Ack::Refused => {
            let (registry, inbox) = (registry.clone(), inbox.clone());
            tokio::spawn(async move {
                let answer = met(&registry, &record).await;
                say(&registry, &inbox, record.id, answer).await;
            });
            return;
        }
    };
    say(registry, inbox, task, answer).await;
}

async fn met(registry: &Registry, record: &TaskRecord) -> CasAnswer<Box<TaskRecord>> {
    let key: Key = registry.key(Bucket::Tasks, record.id);
    let answer: CasAnswer<Box<TaskRecord>> = cas::met(&registry.context, &key).await;
    match answer {
        // This is the session's own write, whose first acknowledgement was lost.
        CasAnswer::Conflict(Some((found, revision))) if found.write == record.write => {
            CasAnswer::Written(revision)
        }
        answer => answer,
    }
}

async fn say(
    registry: &Registry,
    inbox: &mpsc::Sender<impl FactInput>,
    task: TaskId,
    answer: CasAnswer<Box<TaskRecord>>,
) {
    let event = Event::TaskWritten { task, answer };
    let _ = inbox.send(SessionFact(registry.session, Fact::Fleet(event)).into()).await;
}

/// The number of the write that a message answers: the last token of its subject.
fn number_of(answer: &Message) -> Option<u64> {
    answer.subject.rsplit('.').next()?.parse().ok()
}

/// Writes without an answer, by number.
#[derive(Default)]
struct UnderWay {
    last: u64,
    records: HashMap<u64, Arc<TaskRecord>>,
    /// The deadline of each write. All have the same timeout, so the front is the earliest.
    ends: VecDeque<(Instant, u64)>,
}

impl UnderWay {
    fn begin(&mut self, record: Arc<TaskRecord>) -> u64 {
        self.last += 1;
        self.records.insert(self.last, record);
        self.ends.push_back((Instant::now() + ACK_TIMEOUT, self.last));
        self.last
    }

    /// Ends a write; `None` if it has ended already.
    fn end(&mut self, number: u64) -> Option<Arc<TaskRecord>> {
        let record = self.records.remove(&number);
        while let Some((_, first)) = self.ends.front()
            && !self.records.contains_key(first)
        {
            self.ends.pop_front();
        }
        record
    }

    /// Ends the next write whose deadline has passed.
    fn overdue(&mut self, now: Instant) -> Option<Arc<TaskRecord>> {
        let &(end, number) = self.ends.front()?;
        if end <= now { self.end(number) } else { None }
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{
        Digest,
        task::{Data, ModuleRef, TaskSpec},
        time::WallMillis,
    };

    fn record(id: u128) -> Arc<TaskRecord> {
        let module = ModuleRef { name: None, digest: Digest([0; 32]) };
        let spec = Arc::new(TaskSpec::new(module, Data::EMPTY));
        Arc::new(TaskRecord::queued(TaskId(id), spec, WallMillis(0)))
    }

    #[tokio::test]
    async fn every_write_ends_once() {
        let mut under_way = UnderWay::default();
        let numbers = [1, 2, 3].map(|id| under_way.begin(record(id)));
        assert_eq!(under_way.end(numbers[1]).map(|record| record.id), Some(TaskId(2)));
        assert_eq!(under_way.end(numbers[1]), None, "answered twice");
        assert_eq!(under_way.overdue(Instant::now()), None, "none has waited for long");
        let later = Instant::now() + ACK_TIMEOUT;
        assert_eq!(under_way.overdue(later).map(|record| record.id), Some(TaskId(1)));
        assert_eq!(under_way.overdue(later).map(|record| record.id), Some(TaskId(3)));
        assert_eq!(under_way.overdue(later), None);
        assert!(under_way.is_empty() && under_way.ends.is_empty(), "nothing is kept of them");
        assert_eq!(under_way.end(numbers[0]), None, "its answer came too late");
    }
}
