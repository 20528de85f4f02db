//! How long results pause after a node of the registry is lost, beside a plain client that writes to the
//! streams that masters follow, with the same list of servers. The cluster needs seconds to elect other
//! leaders, and the plain client shows how many. Never judges the promises.

use super::{between, nemesis::Fault, now_ns, observer::Seen, percentile};
use async_nats::{
    HeaderMap,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{self, context::PublishErrorKind},
};
use bytes::Bytes;
use muster_protocol::{
    Digest, TaskId, record,
    subject::{Bucket, Names, STATE_DONE, STATE_HEADER},
    task::{Data, ModuleRef, Outcome, TaskRecord, TaskSpec, TaskState, Verdict},
    time::WallMillis,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;

/// How often the plain client writes.
const WRITE_EVERY: Duration = Duration::from_millis(50);

/// How long one of its writes may take.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// How many of its writes may be unanswered.
const UNANSWERED_MAX: usize = 200;

/// How often it probes its connection.
const PING_EVERY: Duration = Duration::from_millis(600);

/// How long after a fault its effects are looked for, if nothing else strikes before.
const WINDOW: Duration = Duration::from_secs(20);

/// The task that the plain client writes again and again: one that has ended, which no master looks at.
pub(super) const TASK: TaskId = TaskId(u128::MAX);

/// The key in the other streams that its writes name. They expect a revision that it never has, so that
/// their leaders answer and store nothing that a master would have to heed.
const REFUSED_KEY: &str = "plain-client";

/// A plain client, and when its writes to each stream were answered.
#[derive(Clone, Debug, Default)]
pub struct PlainClient([Arc<Mutex<Vec<u64>>>; Bucket::FOLLOWED.len()]);

impl PlainClient {
    /// Starts to write, until the runtime is dropped.
    ///
    /// # Errors
    ///
    /// When NATS does not answer.
    pub async fn start(urls: &[String], names: &Names) -> anyhow::Result<Self> {
        let client = async_nats::ConnectOptions::new()
            .ping_interval(PING_EVERY)
            .connection_timeout(WRITTEN_WITHIN)
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .connect(urls)
            .await?;
        let context = jetstream::context::ContextBuilder::new()
            .ack_timeout(WRITTEN_WITHIN)
            .timeout(WRITTEN_WITHIN)
            .build(client);
        let plain = PlainClient::default();
        let record = Bytes::from(record::write(&over())?);
        for (bucket, answered) in Bucket::FOLLOWED.into_iter().zip(plain.0.clone()) {
            let mut headers = HeaderMap::new();
            let (key, value) = if bucket == Bucket::Tasks {
                headers.insert(STATE_HEADER, STATE_DONE);
                (names.key(bucket, TASK), record.clone())
            } else {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "1");
                (names.key(bucket, REFUSED_KEY), Bytes::new())
            };
            tokio::spawn(write(context.clone(), key, headers, value, answered));
        }
        Ok(plain)
    }

    /// The longest time in which a stream answered nothing, of the stream that was silent longest.
    fn paused(&self, from: u64, to: u64) -> Duration {
        let gaps = self.0.iter().map(|answered| {
            let mut answered = answered.lock().expect("no panic").clone();
            answered.sort_unstable();
            longest_gap(&answered, from, to)
        });
        gaps.max().unwrap_or_default()
    }
}

/// Writes a value again and again, and notes when the stream's leader has answered.
async fn write(
    context: jetstream::Context,
    subject: String,
    headers: HeaderMap,
    value: Bytes,
    answered: Arc<Mutex<Vec<u64>>>,
) {
    let room = Arc::new(Semaphore::new(UNANSWERED_MAX));
    loop {
        tokio::time::sleep(WRITE_EVERY).await;
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let (context, subject, headers, value, answered) =
            (context.clone(), subject.clone(), headers.clone(), value.clone(), answered.clone());
        tokio::spawn(async move {
            let sent = context.publish_with_headers(subject, headers, value).await;
            let is_answer = match sent {
                Ok(ack) => match ack.await {
                    Ok(_) => true,
                    Err(error) => error.kind() == PublishErrorKind::WrongLastSequence,
                },
                Err(_) => false,
            };
            if is_answer {
                answered.lock().expect("no panic").push(now_ns());
            }
            drop(place);
        });
    }
}

/// The record of a task that has ended.
fn over() -> TaskRecord {
    let module = ModuleRef { name: None, digest: Digest([0; 32]) };
    let spec = Arc::new(TaskSpec::new(module, Data::EMPTY));
    let outcome = Arc::new(Outcome::bare(Verdict::Cancelled));
    let (attempt, ended_at) = (None, WallMillis(0));
    let state = TaskState::Done { outcome, attempt, ended_at };
    TaskRecord { state, ..TaskRecord::queued(TASK, spec, WallMillis(0)) }
}

/// The pauses after the loss of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The number of the fault.
    pub fault: usize,
    /// How long the plain client's writes paused.
    pub plain: Duration,
    /// How long results paused.
    pub results: Duration,
}

impl Pause {
    /// How much longer results paused.
    pub fn beyond(&self) -> Duration {
        self.results.saturating_sub(self.plain)
    }
}

/// The pauses after each fault that struck a node and nothing else.
pub fn pauses(faults: &[Fault], nodes: &[String], seen: &Seen, plain: &PlainClient) -> Vec<Pause> {
    let mut ends: Vec<u64> = seen.ends.values().flatten().map(|commit| commit.at_ns).collect();
    ends.sort_unstable();
    let is_of_node = |fault: &&Fault| {
        let strikes = fault.kind.strikes();
        fault.kind.beats(true).is_none()
            && strikes.len() == 1
            && nodes.iter().any(|node| node == strikes[0])
    };
    let measured = faults.iter().filter(is_of_node).filter_map(|fault| {
        let healed = if fault.healed_ns == u64::MAX { fault.until_ns } else { fault.healed_ns };
        let end = fault.struck_ns + WINDOW.as_nanos() as u64;
        let others = faults.iter().filter(|other| other.number != fault.number);
        let meets = |other: &Fault| {
            other.at_ns < end.min(healed.max(fault.struck_ns)) && other.healed_ns > fault.at_ns
        };
        let is_alone = !others.clone().any(meets);
        let next = others.filter(|other| other.at_ns >= fault.struck_ns).map(|other| other.at_ns);
        let end = next.min().map_or(end, |next| next.min(end));
        is_alone.then(|| Pause {
            fault: fault.number,
            plain: plain.paused(fault.at_ns, end),
            results: longest_gap(&ends, fault.at_ns, end),
        })
    });
    measured.collect()
}

/// The longest time without a stamp that reaches into the window.
fn longest_gap(stamps: &[u64], from: u64, to: u64) -> Duration {
    let first = stamps.partition_point(|stamp| *stamp < from).saturating_sub(1);
    let within = stamps[first.min(stamps.len())..].iter().copied();
    let within: Vec<u64> = within.take_while(|stamp| *stamp < to).chain([to]).collect();
    let gaps = within.windows(2).map(|pair| between(pair[0].max(from), pair[1]));
    gaps.max().unwrap_or_default()
}

/// One line about each pause, and the percentiles for the verdict.
pub fn tell(pauses: &[Pause]) -> String {
    for pause in pauses {
        let Pause { fault, plain, results } = pause;
        println!(
            "chaos: #{fault}: results paused {results:.1?}, a plain client's writes {plain:.1?}"
        );
    }
    let of = |value: fn(&Pause) -> Duration, percent| {
        let mut all: Vec<Duration> = pauses.iter().map(value).collect();
        all.sort_unstable();
        percentile(&all, percent).map_or(f64::NAN, |found| found.as_secs_f64())
    };
    format!(
        "pauses={} pause_p50={:.3}s pause_p99={:.3}s beyond_p50={:.3}s beyond_p99={:.3}s",
        pauses.len(),
        of(|pause| pause.results, 50),
        of(|pause| pause.results, 99),
        of(Pause::beyond, 50),
        of(Pause::beyond, 99),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_counted_from_the_fault_and_to_the_end_of_the_window() {
        let stamps = [1, 2, 3, 10, 11, 30];
        let gap = |from, to| longest_gap(&stamps, from, to).as_nanos();
        assert_eq!(gap(2, 12), 7, "from 3 to 10");
        assert_eq!(gap(5, 12), 5, "from the fault on");
        assert_eq!(gap(11, 20), 9, "nothing more came");
        assert_eq!(gap(40, 41), 1);
        assert_eq!(longest_gap(&[], 1, 4).as_nanos(), 0);
    }
}
