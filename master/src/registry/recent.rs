//! Finished tasks, newest first, read from the tasks' stream. For lists only: never used for a decision.

use super::Registry;
use async_nats::jetstream::{
    consumer::{DeliverPolicy, push::OrderedConfig},
    stream::Stream,
};
use futures::StreamExt;
use muster_protocol::{
    api::ListPlace,
    record::{self, Record},
    subject::Bucket,
    task::TaskRecord,
};
use std::{cmp::Reverse, ops::Range, time::Duration};

/// Stream entries to read for each requested record, in the first piece: some are gaps or unfinished
/// records.
const READ_AHEAD: u64 = 8;

/// Stream entries to read at most: about half a second.
const READ_MAX: u64 = 200_000;

/// The largest difference between the wall clocks of masters and NATS that hides no task.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// The records found so far, with the size of each as JSON.
struct Found {
    max: usize,
    bytes_max: usize,
    records: Vec<(TaskRecord, usize)>,
    /// The size of all of them.
    bytes: usize,
}

impl Found {
    fn new(max: usize, bytes_max: usize) -> Self {
        Found { max, bytes_max, records: Vec::new(), bytes: 0 }
    }

    fn add(&mut self, record: TaskRecord, size: usize) {
        self.records.push((record, size));
        self.bytes += size;
    }

    /// Whether it holds over twice of what it keeps.
    fn is_large(&self) -> bool {
        self.records.len() > self.max * 2 || self.bytes > self.bytes_max * 2
    }

    /// Removes duplicates and all but the newest: `max` records, or those up to the first one that is over
    /// `bytes_max`.
    fn keep_newest(&mut self) {
        self.records.sort_unstable_by_key(|(record, _)| Reverse(ListPlace::of(record)));
        self.records.dedup_by_key(|(record, _)| record.id);
        let (bytes_max, mut before) = (self.bytes_max, 0);
        let fits = |&&(_, size): &&(TaskRecord, usize)| {
            let fits = before <= bytes_max;
            before += size;
            fits
        };
        let count = self.records.iter().take_while(fits).count();
        self.records.truncate(count.min(self.max));
        self.bytes = self.records.iter().map(|(_, size)| size).sum();
    }

    /// Whether it has all that it keeps.
    fn is_full(&self) -> bool {
        self.records.len() >= self.max || self.bytes > self.bytes_max
    }

    /// Whether no entry written before `written_ms` can be among the newest: a record that was written
    /// before then was submitted before then.
    fn is_complete(&self, written_ms: Option<u64>) -> bool {
        let oldest = self.records.last().filter(|_| self.is_full());
        oldest.zip(written_ms).is_some_and(|((oldest, _), written_ms)| {
            oldest.submitted_at.0 > written_ms + CLOCKS_DIFFER.as_millis() as u64
        })
    }
}

impl Registry {
    /// The newest finished records that `wanted` accepts, newest first: at most `max`, and none after the first
    /// one with which they have over `bytes_max` bytes as JSON. Also returns whether others may be missing.
    ///
    /// Reads the stream backwards from its end, piece by piece. Does not find records older than the
    /// last [`READ_MAX`] entries.
    pub async fn recent(
        &self,
        max: usize,
        bytes_max: usize,
        wanted: impl Fn(&TaskRecord) -> bool,
    ) -> (Vec<TaskRecord>, bool) {
        let mut found = Found::new(max, bytes_max);
        let is_cut = self.search(&mut found, &wanted).await.unwrap_or(true);
        (found.records.into_iter().map(|(record, _)| record).collect(), is_cut)
    }

    /// Returns whether records may be missing; `None` if the registry did not answer.
    async fn search(
        &self,
        found: &mut Found,
        wanted: &impl Fn(&TaskRecord) -> bool,
    ) -> Option<bool> {
        let stream = self.context.get_stream(self.names.stream(Bucket::Tasks)).await.ok()?;
        let state = &stream.cached_info().state;
        let (first, last) = (state.first_sequence.max(1), state.last_sequence);
        let (mut end, mut piece) = (last + 1, found.max as u64 * READ_AHEAD);
        while end > first {
            if last + 1 - end >= READ_MAX {
                return Some(true);
            }
            let start = end.saturating_sub(piece).max(first);
            let written_ms = self.read_piece(&stream, start..end, found, wanted).await?;
            found.keep_newest();
            if found.is_complete(written_ms) {
                break;
            }
            (end, piece) = (start, piece * READ_AHEAD);
        }
        Some(false)
    }

    /// Adds the finished records of a piece of the stream. Returns when the first entry of the piece was
    /// written, in milliseconds.
    async fn read_piece(
        &self,
        stream: &Stream,
        piece: Range<u64>,
        found: &mut Found,
        wanted: &impl Fn(&TaskRecord) -> bool,
    ) -> Option<Option<u64>> {
        let config = OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: piece.start },
            filter_subject: self.names.key(Bucket::Tasks, ">"),
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.ok()?;
        let mut written_ms = None;
        if consumer.cached_info().num_pending == 0 {
            return Some(written_ms);
        }
        let mut messages = consumer.messages().await.ok()?;
        loop {
            let next = tokio::time::timeout(muster_wire::nats::PING_EVERY, messages.next()).await;
            let message = next.ok()??.ok()?;
            let info = message.info().ok()?;
            if info.stream_sequence >= piece.end {
                return Some(written_ms);
            }
            let at_ms = info.published.unix_timestamp_nanos() / 1_000_000;
            written_ms.get_or_insert(u64::try_from(at_ms).unwrap_or_default());
            if let Ok(record) = record::read::<TaskRecord>(&message.payload)
                && record.is_done()
                && wanted(&record)
            {
                // The answer has none of the fields that this version does not know.
                let size = match record.unknown().is_empty() {
                    true => message.payload.len(),
                    false => serde_json::to_vec(&record).map_or(0, |text| text.len()),
                };
                found.add(record, size);
                if found.is_large() {
                    found.keep_newest();
                }
            }
            if info.pending == 0 || info.stream_sequence + 1 >= piece.end {
                return Some(written_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{
        Digest, TaskId,
        task::{Data, ModuleRef, TaskSpec},
        time::WallMillis,
    };
    use std::sync::Arc;

    fn record(submitted_ms: u64, id: u128) -> TaskRecord {
        let module = ModuleRef { name: None, digest: Digest([0; 32]) };
        let spec = Arc::new(TaskSpec::new(module, Data::EMPTY));
        TaskRecord::queued(TaskId(id), spec, WallMillis(submitted_ms))
    }

    #[test]
    fn the_newest_are_kept_and_the_search_goes_on_until_they_are_certain() {
        let minute = CLOCKS_DIFFER.as_millis() as u64;
        let mut found = Found::new(2, 1_000);
        // The ids do not follow the age.
        for (submitted_ms, id) in [(5 * minute, 1), (9 * minute, 2), (7 * minute, u128::MAX)] {
            found.add(record(submitted_ms, id), 300);
        }
        assert!(!found.is_complete(None));
        found.keep_newest();
        assert_eq!(ids(&found), [2, u128::MAX]);
        assert!(!found.is_complete(Some(7 * minute)), "an older change may be of a newer task");
        assert!(found.is_complete(Some(5 * minute)));
        found.max = 3;
        assert!(!found.is_complete(Some(0)), "there is room for more");
    }

    #[test]
    fn large_records_are_kept_until_they_are_more_than_an_answer_can_hold() {
        let minute = CLOCKS_DIFFER.as_millis() as u64;
        let mut found = Found::new(100, 1_000);
        for id in 1..=5 {
            found.add(record(id * 2 * minute, u128::from(id)), 450);
        }
        assert!(found.is_large());
        found.keep_newest();
        assert_eq!(ids(&found), [5, 4, 3], "the third is the first that does not fit");
        assert!(!found.is_large() && found.is_complete(Some(4 * minute)));
    }

    fn ids(found: &Found) -> Vec<u128> {
        found.records.iter().map(|(record, _)| record.id.0).collect()
    }
}
