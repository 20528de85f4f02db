//! What guests write to their logs, as it arrives from workers. A worker may write only for attempts
//! that it was given, and for each no more than a guest may.

use super::LinkServer;
use crate::inbox::Input;
use muster_protocol::{
    WorkerId, limit,
    message::{AttemptKey, LogChunk},
};
use muster_wire::frames::FrameReader;
use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The largest frame with a piece of a log.
const FRAME_MAX: usize = 2 * limit::LOG_CHUNK_MAX;

/// What a log may have beyond its limit: notes on how much was dropped.
const NOTES_MAX: u64 = 4 * 1024;

/// The pause after a refused piece, because each one causes a read of the registry.
const REFUSED_WAIT: Duration = Duration::from_millis(100);

/// Logs that are remembered. If there are more, those without a write for [`IDLE`] are forgotten.
const LOGS_MAX: usize = 16 * 1024;
const IDLE: Duration = Duration::from_secs(60);

/// The logs that workers write to.
#[derive(Default)]
pub(super) struct Logs(Mutex<HashMap<(WorkerId, AttemptKey), Log>>);

/// What an attempt may still write.
#[derive(Debug)]
struct Log {
    left: u64,
    /// When a guest that writes at [`limit::LOG_RATE`] would have written all of it.
    paid: Instant,
}

/// What to do with a piece of a log.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Publish it after this time.
    Publish(Duration),
    /// The log is full.
    Drop,
    /// It is not known whether the worker has the attempt.
    Unknown,
}

/// How long a guest may write so many bytes.
fn time_of(bytes: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / limit::LOG_RATE as f64)
}

/// Who has paid up to this time may write a whole burst.
fn burst_before(now: Instant) -> Instant {
    now.checked_sub(time_of(limit::LOG_BURST)).unwrap_or(now)
}

impl Log {
    fn spend(&mut self, now: Instant, size: u64) -> Answer {
        if size > self.left {
            return Answer::Drop;
        }
        self.left -= size;
        self.paid = self.paid.max(burst_before(now)) + time_of(size + limit::LOG_CHUNK_COST);
        Answer::Publish(self.paid.saturating_duration_since(now))
    }
}

impl Logs {
    fn spend(&self, now: Instant, worker: &WorkerId, key: AttemptKey, size: usize) -> Answer {
        let mut logs = self.0.lock().expect("no holder of this lock panics");
        let log = logs.get_mut(&(worker.clone(), key));
        log.map_or(Answer::Unknown, |log| log.spend(now, size as u64))
    }

    /// The worker has this attempt, whose log may have so many bytes.
    fn open(&self, now: Instant, worker: &WorkerId, key: AttemptKey, bytes: u64) {
        let mut logs = self.0.lock().expect("no holder of this lock panics");
        if logs.len() >= LOGS_MAX {
            logs.retain(|_, log| now.saturating_duration_since(log.paid) < IDLE);
        }
        if logs.len() >= LOGS_MAX {
            logs.clear();
        }
        let left = bytes.saturating_add(NOTES_MAX);
        logs.entry((worker.clone(), key)).or_insert(Log { left, paid: burst_before(now) });
    }
}

impl LinkServer {
    /// Passes on what a worker's guests write, until the stream ends.
    pub(super) async fn logs(&self, worker: &WorkerId, mut reader: FrameReader) {
        while let Ok(Some(chunk)) = reader.next_within::<LogChunk>(FRAME_MAX).await {
            let answer = match self.spend(worker, &chunk) {
                Answer::Unknown => match self.log_max(worker, chunk.key).await {
                    Ok(Some(bytes)) => {
                        self.logs.open(Instant::now(), worker, chunk.key, bytes);
                        self.spend(worker, &chunk)
                    }
                    Ok(None) => Answer::Unknown,
                    // Without the registry, nothing can be published.
                    Err(_) => Answer::Drop,
                },
                answer => answer,
            };
            match answer {
                Answer::Publish(after) => {
                    tokio::time::sleep(after).await;
                    if self.inbox.send(Input::Log(chunk)).await.is_err() {
                        return;
                    }
                }
                Answer::Drop => {}
                Answer::Unknown => {
                    let task = chunk.key.task;
                    tracing::warn!(%worker, %task, "a worker writes to the log of an attempt that it was not given");
                    tokio::time::sleep(REFUSED_WAIT).await;
                }
            }
        }
    }

    fn spend(&self, worker: &WorkerId, chunk: &LogChunk) -> Answer {
        self.logs.spend(Instant::now(), worker, chunk.key, chunk.text.len())
    }

    /// How many bytes of log an attempt of this worker may have; `None` if it was not given the attempt. An
    /// error if the registry does not say.
    async fn log_max(
        &self,
        worker: &WorkerId,
        key: AttemptKey,
    ) -> Result<Option<u64>, oneshot::error::RecvError> {
        let (reply, answer) = oneshot::channel();
        let asked = Input::LogMax { worker: worker.clone(), key, reply };
        // Dropped with its sender if the loop has ended.
        let _ = self.inbox.send(asked).await;
        answer.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{AttemptId, TaskId};

    fn key(task: u128) -> AttemptKey {
        AttemptKey { task: TaskId(task), attempt: AttemptId(1) }
    }

    fn worker(name: &str) -> WorkerId {
        name.parse().expect("a name")
    }

    #[test]
    fn a_log_belongs_to_one_worker() {
        let (logs, now) = (Logs::default(), Instant::now());
        logs.open(now, &worker("w1"), key(1), 100);
        assert_eq!(logs.spend(now, &worker("w2"), key(1), 1), Answer::Unknown);
        assert_eq!(logs.spend(now, &worker("w1"), key(2), 1), Answer::Unknown);
        assert_eq!(logs.spend(now, &worker("w1"), key(1), 1), Answer::Publish(Duration::ZERO));
    }

    #[test]
    fn a_log_has_a_rate_and_a_size() {
        let (logs, mut now) = (Logs::default(), Instant::now());
        let (w1, burst) = (worker("w1"), limit::LOG_BURST as usize);
        logs.open(now, &w1, key(1), 4 * limit::LOG_BURST);
        now += Duration::from_secs(1);
        let cost = limit::LOG_CHUNK_COST as usize;
        assert_eq!(logs.spend(now, &w1, key(1), burst - cost), Answer::Publish(Duration::ZERO));
        let Answer::Publish(wait) = logs.spend(now, &w1, key(1), burst) else { panic!("it waits") };
        assert_eq!(wait.as_millis(), 250, "the time of its bytes, and of what two pieces cost");
        now += 2 * wait;
        assert_eq!(logs.spend(now, &w1, key(1), burst - cost), Answer::Publish(Duration::ZERO));
        now += Duration::from_secs(60);
        logs.open(now, &w1, key(1), u64::MAX);
        assert_eq!(logs.spend(now, &w1, key(1), 2 * burst), Answer::Drop, "it was open already");
        assert_eq!(logs.spend(now, &w1, key(1), burst - cost), Answer::Publish(Duration::ZERO));
    }

    #[test]
    fn logs_are_not_remembered_without_a_bound() {
        let (logs, now) = (Logs::default(), Instant::now());
        let w1 = worker("w1");
        let count = || logs.0.lock().expect("no panic").len();
        for task in 0..LOGS_MAX as u128 {
            logs.open(now, &w1, key(task), 1);
        }
        logs.open(now + IDLE, &w1, key(u128::MAX), 1);
        assert_eq!(count(), 1);
        for task in 0..LOGS_MAX as u128 {
            logs.open(now + IDLE, &w1, key(task), 1);
        }
        assert!(count() <= LOGS_MAX);
    }
}
