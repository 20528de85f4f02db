//! Results of a run, as lines of JSON and in order where that is wanted. Never prints one twice.

use crate::{blob, client::Client, ends::End, output};
use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_protocol::{TaskId, task::Verdict};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Failures that are listed; the others are counted.
const LISTED_MAX: usize = 100;

/// The word for a task whose record is gone.
const GONE: &str = "gone";

/// Results that were not printed yet, and a count of those that were.
pub struct Results {
    queue: Queue<End>,
    /// By verdict.
    counts: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
}

/// A result as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    task: TaskId,
    verdict: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Results {
    /// None yet.
    pub fn new(is_ordered: bool) -> Self {
        Results { queue: Queue::new(is_ordered), counts: BTreeMap::new(), failures: Vec::new() }
    }

    /// How many were printed.
    pub fn printed(&self) -> u64 {
        self.queue.taken
    }

    /// How many there were, printed or waiting for an earlier one.
    pub fn ended(&self) -> u64 {
        self.queue.taken + self.queue.waiting.len() as u64
    }

    /// Adds the result of a line.
    pub fn add(&mut self, line: u64, end: End) {
        self.queue.add(line, end);
    }

    /// Prints what can be printed. Large outputs are read only now, so that one at a time is held.
    pub async fn print(&mut self, client: &Client) -> anyhow::Result<()> {
        while let Some((line, End { task, outcome })) = self.queue.take() {
            let Some(outcome) = outcome else {
                let reason = "its record was kept no longer".to_owned();
                self.count(line, GONE, Some(&reason));
                put(line, task, GONE, None, Some(reason))?;
                continue;
            };
            let completed = outcome.verdict == Verdict::Completed;
            let reason = (!completed).then(|| outcome.verdict.reason());
            self.count(line, outcome.verdict.word(), reason.as_deref());
            let bytes = blob::bytes(client, &outcome.output).await;
            let bytes = bytes.with_context(|| format!("the output of line {line}"))?;
            put(line, task, outcome.verdict.word(), Some(&bytes), reason)?;
        }
        Ok(())
    }

    fn count(&mut self, line: u64, word: &'static str, reason: Option<&str>) {
        *self.counts.entry(word).or_default() += 1;
        if let Some(reason) = reason
            && self.failures.len() < LISTED_MAX
        {
            self.failures.push(format!("line {line}: {reason}"));
        }
    }

    /// Tells on standard error how it went; whether every task completed.
    pub fn summary(&self, took: Duration) -> bool {
        let total = self.printed();
        let completed = self.counts.get("completed").copied().unwrap_or(0);
        for failure in &self.failures {
            anstream::eprintln!("{failure}");
        }
        let unlisted = (total - completed).saturating_sub(self.failures.len() as u64);
        if unlisted > 0 {
            anstream::eprintln!("and {unlisted} lines more");
        }
        let mut parts = vec![format!("{completed} completed")];
        let others = self.counts.iter().filter(|(word, _)| **word != "completed");
        parts.extend(others.map(|(word, count)| format!("{count} {word}")));
        let seconds = took.as_secs_f64();
        let rate = if seconds > 0.0 { total as f64 / seconds } else { 0.0 };
        anstream::eprintln!("{total} tasks: {} in {seconds:.2} s, {rate:.0}/s", parts.join(", "));
        total == completed
    }
}

fn put(
    line: u64,
    task: TaskId,
    verdict: &str,
    bytes: Option<&[u8]>,
    reason: Option<String>,
) -> anyhow::Result<()> {
    output::json_line(&shape(line, task, verdict, bytes, reason))
}

fn shape<'a>(
    line: u64,
    task: TaskId,
    verdict: &'a str,
    bytes: Option<&'a [u8]>,
    reason: Option<String>,
) -> Line<'a> {
    let text = bytes.map(std::str::from_utf8);
    Line {
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

/// Things that come in any order and leave by number, from 1 on, or as they come.
struct Queue<T> {
    is_ordered: bool,
    waiting: BTreeMap<u64, T>,
    taken: u64,
}

impl<T> Queue<T> {
    fn new(is_ordered: bool) -> Self {
        Queue { is_ordered, waiting: BTreeMap::new(), taken: 0 }
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
    use super::*;

    fn leaves(is_ordered: bool, come: &[u64]) -> Vec<u64> {
        let mut queue = Queue::new(is_ordered);
        let mut left = Vec::new();
        for number in come {
            queue.add(*number, ());
            left.extend(std::iter::from_fn(|| queue.take()).map(|(number, ())| number));
            assert_eq!(queue.taken, left.len() as u64);
        }
        left
    }

    #[test]
    fn results_leave_in_order_or_as_they_come() {
        assert_eq!(leaves(true, &[2, 3, 1, 5, 4]), [1, 2, 3, 4, 5]);
        assert_eq!(leaves(true, &[2, 3]), Vec::<u64>::new());
        assert_eq!(leaves(false, &[2, 3, 1]), [2, 3, 1]);
    }

    #[test]
    fn a_result_is_a_line_of_json() {
        let line = |bytes: Option<&[u8]>, reason: Option<&str>| {
            let line = shape(7, TaskId(1), "completed", bytes, reason.map(Into::into));
            serde_json::to_string(&line).expect("JSON")
        };
        let head = r#"{"line":7,"task":"00000000000000000000000001","verdict":"completed""#;
        assert_eq!(line(Some(b"text"), None), format!(r#"{head},"output":"text"}}"#));
        assert_eq!(line(Some(&[0xff]), None), format!(r#"{head},"output_base64":"/w=="}}"#));
        assert_eq!(line(None, Some("x")), format!(r#"{head},"reason":"x"}}"#));
    }
}
