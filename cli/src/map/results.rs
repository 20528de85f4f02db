//! Prints the results of a run as lines of JSON, in order if requested. Never prints a result twice.

use super::state::MapState;
use crate::{
    blob,
    client::Client,
    completions::{self, Completion},
    output, terminal,
};
use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future::join_all;
use muster_protocol::{
    TaskId,
    task::{Data, Verdict},
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// How many failures are listed; the others are counted.
const LISTED_MAX: usize = 100;

/// How many results are printed at once: as many as one message reports. Their large outputs are read
/// concurrently.
const BATCH_MAX: usize = 64;

/// How many bytes of large outputs are read concurrently: eight of 1 MiB keep the object store busy.
const HELD_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// The word for a task that completed, as its verdict has it.
const COMPLETED: &str = "completed";

/// The word for a task whose record is gone.
const GONE: &str = "gone";

/// The word for a line for which no task was submitted.
const REFUSED: &str = "refused";

/// Results that are not printed yet, and counts of those that are.
pub struct Results {
    queue: Queue<Came>,
    state: MapState,
    /// How many results of each verdict.
    counts: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
}

/// The result of a line.
enum Came {
    /// Its task has ended.
    Ended(Completion),
    /// The line cannot be an input, for this reason.
    Refused(String),
}

/// A result as it is printed.
#[derive(Serialize)]
struct ResultLine<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Results {
    /// Results that follow those which the state counts as printed.
    pub fn after(state: MapState, is_ordered: bool) -> Self {
        let queue = Queue::after(state.written(), is_ordered);
        Results { queue, state, counts: BTreeMap::new(), failures: Vec::new() }
    }

    /// How far the run has come.
    pub fn state(&self) -> &MapState {
        &self.state
    }

    /// How many results there were, printed or waiting for an earlier one.
    pub fn ended(&self) -> u64 {
        self.queue.taken + self.queue.waiting.len() as u64
    }

    /// Whether a task did not complete, or a line was refused.
    pub fn has_failed(&self) -> bool {
        self.counts.keys().any(|word| *word != COMPLETED)
    }

    /// Adds the result of a line.
    pub fn add(&mut self, line: u64, end: Completion) {
        self.queue.add(line, Came::Ended(end));
    }

    /// Adds a line that cannot be an input.
    pub fn refuse(&mut self, line: u64, why: String) {
        self.queue.add(line, Came::Refused(why));
    }

    /// Prints the results that are next in order. Large outputs are read only now, so that few are held
    /// at a time.
    pub async fn print(&mut self, client: &Client) -> anyhow::Result<()> {
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return Ok(());
            }
            let outputs = batch.iter().map(|(line, came)| output_of(client, *line, came));
            let outputs = join_all(outputs).await;
            for ((line, came), output) in batch.into_iter().zip(outputs) {
                self.put(tell(line, &came, output?.as_deref()))?;
            }
        }
    }

    /// The results that can be printed now, with as many large outputs as may be held.
    fn batch(&mut self) -> Vec<(u64, Came)> {
        let (mut batch, mut held) = (Vec::new(), 0);
        while batch.len() < BATCH_MAX
            && held < HELD_SIZE_MAX
            && let Some((line, came)) = self.queue.take()
        {
            if let Came::Ended(Completion { outcome: Some(outcome), .. }) = &came
                && let Data::Blob { size, .. } = outcome.output
            {
                held += size;
            }
            batch.push((line, came));
        }
        batch
    }

    /// Prints a result, and counts it afterwards.
    fn put(&mut self, shown: ResultLine<'_>) -> anyhow::Result<()> {
        output::json_line(&shown)?;
        self.state.wrote(shown.verdict == COMPLETED)?;
        *self.counts.entry(shown.verdict).or_default() += 1;
        if let Some(reason) = shown.reason
            && self.failures.len() < LISTED_MAX
        {
            self.failures.push(format!("line {}: {reason}", shown.line));
        }
        Ok(())
    }

    /// Prints a summary on standard error; returns whether every task completed.
    pub fn summary(&self, took: Duration) -> bool {
        let total: u64 = self.counts.values().sum();
        let completed = self.counts.get(COMPLETED).copied().unwrap_or(0);
        let note = |text: &str| terminal::note(&[terminal::plain(text)]);
        for failure in &self.failures {
            note(failure);
        }
        let unlisted = (total - completed).saturating_sub(self.failures.len() as u64);
        if unlisted > 0 {
            note(&format!("and {unlisted} more lines"));
        }
        let mut parts = vec![format!("{completed} completed")];
        let others = self.counts.iter().filter(|(word, _)| **word != COMPLETED);
        parts.extend(others.map(|(word, count)| format!("{count} {word}")));
        let seconds = took.as_secs_f64();
        let rate = if seconds > 0.0 { total as f64 / seconds } else { 0.0 };
        let parts = parts.join(", ");
        note(&format!("{total} lines: {parts} in {seconds:.2} s, {rate:.0}/s"));
        let before = self.state.written() - total;
        if before > 0 {
            let failed = self.state.failed() - (total - completed);
            note(&format!("{before} lines were done before, {failed} of them not completed"));
        }
        self.state.failed() == 0
    }
}

/// The output of a line's task, if it has one.
async fn output_of(client: &Client, line: u64, came: &Came) -> anyhow::Result<Option<Bytes>> {
    let Came::Ended(Completion { outcome: Some(outcome), .. }) = came else { return Ok(None) };
    let bytes = blob::bytes(client, &outcome.output).await;
    bytes.map(Some).with_context(|| format!("the output of line {line}"))
}

fn tell<'a>(line: u64, came: &Came, output: Option<&'a [u8]>) -> ResultLine<'a> {
    match came {
        Came::Refused(why) => shape(line, None, REFUSED, None, Some(why.clone())),
        Came::Ended(Completion { task, outcome: None }) => {
            let reason = completions::GONE.to_owned();
            shape(line, Some(*task), GONE, None, Some(reason))
        }
        Came::Ended(Completion { task, outcome: Some(outcome) }) => {
            let completed = outcome.verdict == Verdict::Completed;
            let reason = (!completed).then(|| outcome.verdict.reason());
            shape(line, Some(*task), outcome.verdict.word(), output, reason)
        }
    }
}

fn shape<'a>(
    line: u64,
    task: Option<TaskId>,
    verdict: &'static str,
    bytes: Option<&'a [u8]>,
    reason: Option<String>,
) -> ResultLine<'a> {
    let text = bytes.map(std::str::from_utf8);
    ResultLine {
        line,
        task,
        verdict,
        output: text.and_then(Result::ok),
        output_base64: bytes
            .filter(|_| text.is_some_and(|text| text.is_err()))
            .map(|bytes| STANDARD.encode(bytes)),
        reason,
    }
}

/// A buffer that takes numbered things in any order and returns them in order, or as they come.
struct Queue<T> {
    is_ordered: bool,
    waiting: BTreeMap<u64, T>,
    taken: u64,
}

impl<T> Queue<T> {
    fn after(taken: u64, is_ordered: bool) -> Self {
        Queue { is_ordered, waiting: BTreeMap::new(), taken }
    }

    fn add(&mut self, number: u64, thing: T) {
        self.waiting.insert(number, thing);
    }

    fn take(&mut self) -> Option<(u64, T)> {
        if self.is_ordered && *self.waiting.first_key_value()?.0 != self.taken + 1 {
            return None;
        }
        let first = self.waiting.pop_first()?;
        self.taken += 1;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::excess, *};
    use muster_protocol::{BatchId, Digest, task::Outcome};

    fn leaves(before: u64, is_ordered: bool, come: &[u64]) -> Vec<u64> {
        let mut queue = Queue::after(before, is_ordered);
        let mut left = Vec::new();
        for number in come {
            queue.add(*number, ());
            left.extend(std::iter::from_fn(|| queue.take()).map(|(number, ())| number));
            assert_eq!(queue.taken, before + left.len() as u64);
        }
        left
    }

    #[test]
    fn results_leave_in_order_or_as_they_come() {
        assert_eq!(leaves(0, true, &[2, 3, 1, 5, 4]), [1, 2, 3, 4, 5]);
        assert_eq!(leaves(0, true, &[2, 3]), Vec::<u64>::new());
        assert_eq!(leaves(7, true, &[9, 8]), [8, 9]);
        assert_eq!(leaves(0, false, &[2, 3, 1]), [2, 3, 1]);
    }

    #[test]
    fn few_large_outputs_are_held_at_a_time() {
        let ended = |size| {
            let output = match size {
                0 => Data::EMPTY,
                size => Data::Blob { digest: Digest([0; 32]), size },
            };
            let outcome = Outcome { output, ..Outcome::bare(Verdict::Completed) };
            Completion { task: TaskId(1), outcome: Some(outcome.into()) }
        };
        let batches = |sizes: &[u64]| {
            let mut results = Results::after(MapState::new(BatchId(1)), true);
            sizes.iter().zip(1..).for_each(|(size, line)| results.add(line, ended(*size)));
            let batches =
                std::iter::from_fn(|| Some(results.batch().len()).filter(|count| *count > 0));
            batches.collect::<Vec<_>>()
        };
        let (large, half) = (HELD_SIZE_MAX, HELD_SIZE_MAX / 2);
        assert_eq!(batches(&[0; BATCH_MAX + 1]), [BATCH_MAX, 1]);
        assert_eq!(batches(&[large, large, 0]), [1, 1, 1]);
        assert_eq!(batches(&[half, 0, half, half]), [3, 1]);
    }

    #[test]
    fn a_result_is_a_line_of_json() {
        let line = |bytes: Option<&[u8]>, reason: Option<&str>| {
            let line = shape(7, Some(TaskId(1)), COMPLETED, bytes, reason.map(Into::into));
            serde_json::to_string(&line).expect("JSON")
        };
        let head = r#"{"line":7,"task":"00000000000000000000000001","verdict":"completed""#;
        assert_eq!(line(Some(b"text"), None), format!(r#"{head},"output":"text"}}"#));
        assert_eq!(line(Some(&[0xff]), None), format!(r#"{head},"output_base64":"/w=="}}"#));
        assert_eq!(line(None, Some("x")), format!(r#"{head},"reason":"x"}}"#));
    }

    #[test]
    fn a_result_that_was_cut_is_known_again() {
        for task in [Some(TaskId(5)), None] {
            let word = if task.is_some() { COMPLETED } else { REFUSED };
            let line = shape(7, task, word, None, Some("why".into()));
            let text = serde_json::to_string(&line).expect("JSON");
            for end in 0..=text.len() {
                let is_own = excess::is_one_result(&text.as_bytes()[..end], 7, TaskId(5));
                assert!(is_own.expect("it can be read"), "{}", &text[..end]);
            }
        }
    }
}
