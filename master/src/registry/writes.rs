//! Task records on their way to the registry, thousands at once. Each is sent as it comes, by
//! compare-and-set, and answered once: written, in conflict, or unknown. Never waits for one before
//! it sends the next, and needs neither a timer nor a loop for each.

use super::{Fact, Hearer, Registry, Said};
use async_nats::{HeaderMap, Message, Subject, header::HeaderName};
use bytes::Bytes;
use futures::StreamExt as _;
use muster_protocol::{
    Revision, TaskId,
    fleet::Event,
    lease::CasAnswer,
    limit::WRITES_MAX,
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

/// How often those are looked for that have waited too long for their answer.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What most records fit into, in bytes.
const RECORD_SIZE: usize = 1_024;

/// A record that is to be written.
struct Write {
    expect: Revision,
    record: Arc<TaskRecord>,
    keep: Option<Duration>,
}

/// Takes records for the registry, as long as it is kept.
pub(crate) struct Writes(mpsc::Sender<Write>);

impl Writes {
    /// Writes in the session of this registry; what came of it goes to `inbox`.
    pub(crate) fn begin(registry: &Registry, inbox: &mpsc::Sender<impl Hearer>) -> Self {
        let (sender, writes) = mpsc::channel(WRITES_MAX);
        tokio::spawn(carry(registry.clone(), writes, inbox.clone()));
        Writes(sender)
    }

    /// Writes a record, if the key has the revision `expect`.
    pub(crate) fn write(&self, expect: Revision, record: Arc<TaskRecord>, keep: Option<Duration>) {
        // There is room for as many as a fleet has under way.
        if self.0.try_send(Write { expect, record, keep }).is_err() {
            tracing::error!("a record was not written; its task waits for the next master");
        }
    }
}

/// Writes until nobody wants it any more. Where answers cannot be heard, nothing is written: this
/// session of the master is about to end.
async fn carry(
    registry: Registry,
    mut writes: mpsc::Receiver<Write>,
    inbox: mpsc::Sender<impl Hearer>,
) {
    let replies = registry.client.new_inbox();
    let Ok(mut answers) = registry.client.subscribe(format!("{replies}.*")).await else {
        return tracing::warn!("the answers of the registry cannot be heard");
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

/// `None` where it was not sent. What was sent may arrive whatever follows.
async fn send(registry: &Registry, write: Write, reply: String) -> Option<()> {
    let Write { expect, record, keep } = write;
    let mut value = Vec::with_capacity(RECORD_SIZE);
    serde_json::to_writer(&mut value, &record).ok()?;
    let mut headers = HeaderMap::new();
    cas::expecting(&mut headers, expect, keep);
    headers.insert(WRITER, registry.session.to_string());
    if record.is_done() {
        headers.insert(STATE, STATE_DONE);
    }
    let subject = registry.names.key(Bucket::Tasks, record.id);
    let sent = registry.client.publish_with_reply_and_headers(
        Subject::from(subject),
        Subject::from(reply),
        headers,
        Bytes::from(value),
    );
    sent.await.inspect_err(|error| tracing::warn!(%error, "a record could not be sent")).ok()
}

/// Says what became of a write. What a refused one met is looked into first, by the way.
async fn answered(
    registry: &Registry,
    inbox: &mpsc::Sender<impl Hearer>,
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
        // One's own write, whose first acknowledgement was lost.
        CasAnswer::Conflict(Some((found, revision))) if found.write == record.write => {
            CasAnswer::Written(revision)
        }
        answer => answer,
    }
}

async fn say(
    registry: &Registry,
    inbox: &mpsc::Sender<impl Hearer>,
    task: TaskId,
    answer: CasAnswer<Box<TaskRecord>>,
) {
    let event = Event::TaskWritten { task, answer };
    let _ = inbox.send(Said(registry.session, Fact::Fleet(event)).into()).await;
}

/// The number of the write that a message answers: the last token of its subject.
fn number_of(answer: &Message) -> Option<u64> {
    answer.subject.rsplit('.').next()?.parse().ok()
}

/// Writes that are not answered yet, by number.
#[derive(Default)]
struct UnderWay {
    last: u64,
    records: HashMap<u64, Arc<TaskRecord>>,
    /// Until when an answer is waited for. All wait equally long, so the oldest is the first.
    ends: VecDeque<(Instant, u64)>,
}

impl UnderWay {
    fn begin(&mut self, record: Arc<TaskRecord>) -> u64 {
        self.last += 1;
        self.records.insert(self.last, record);
        self.ends.push_back((Instant::now() + ACK_TIMEOUT, self.last));
        self.last
    }

    /// Ends one, unless it has ended.
    fn end(&mut self, number: u64) -> Option<Arc<TaskRecord>> {
        let record = self.records.remove(&number);
        while let Some((_, first)) = self.ends.front()
            && !self.records.contains_key(first)
        {
            self.ends.pop_front();
        }
        record
    }

    /// Ends the next one whose answer has not come in time.
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
