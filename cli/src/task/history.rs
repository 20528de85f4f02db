//! `muster task history`: what happened to a task, from its record and the events of the fleet. Never decides anything
//! by it: the times are those of several clocks, and events may be missing.

use crate::{
    client::Client,
    events::{Body, Concerned, Tokens, wall_of},
    exit,
    output::{self, Cell, Format},
    quantity,
    stream_reader::{History, StreamReader},
    terminal,
};
use muster_protocol::{
    AttemptId,
    advisory::{MasterEvent, TaskEvent, WorkerEvent},
    api::{Endpoint, Masters, PageMessage, PageStart, TaskView},
    task::{Attempt, TaskRecord, TaskState, TimelineEvent},
    time::WallMillis,
};
use serde::Serialize;
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

/// How long the events may take.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// How far clocks may differ: events are read from so long before the submission.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// How long after the end of a task its events are still shown: a worker that was lost comes back, and is fenced.
const AFTERWARDS: Duration = Duration::from_secs(300);

/// The most events that are read. The stream of events keeps fewer unless it was made much larger.
const EVENTS_MAX: u64 = 500_000;

/// Something that happened.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    at_ms: WallMillis,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<AttemptId>,
    /// The number of the attempt; absent if the record does not keep it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// The master that decided it, or its session if the name is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// Shows everything that is known.
pub async fn show(client: &Client, view: &TaskView, format: Format) -> anyhow::Result<()> {
    let mut history = TaskHistory::of(&view.record);
    let read = tokio::time::timeout(READ_WITHIN, history.read(client)).await;
    let read = read
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", READ_WITHIN.as_secs())));
    if let Err(error) = read {
        exit::warn(&format!(
            "the events cannot be read, so this is from the record alone: {error:#}"
        ));
    }
    let (lines, record) = (history.finish(), &view.record);
    if format == Format::Json {
        return output::json(&json!({
            "id": record.id,
            "attempts": record.attempts,
            "history": record.history,
            "current": record.state.last_attempt(),
            "state": record.state.word(),
            "why": view.why,
            "timeline": lines,
        }));
    }
    let begin = record.submitted_at;
    let row = |line: &Line| {
        vec![
            Cell::new(output::local(line.at_ms)),
            Cell::new(after(begin, line.at_ms)),
            output::event_cell(&line.what),
            Cell::new(line.number.map_or(String::new(), |number| number.to_string())),
            Cell::new(line.worker.as_deref().unwrap_or_default()),
            Cell::new(line.by.as_deref().unwrap_or_default()),
            Cell::new(&line.reason),
        ]
    };
    let headers = ["time", "after", "what", "no", "worker", "decided by", "reason"];
    output::table(&headers, &["time", "no"], lines.iter().map(row).collect())?;
    if !record.is_done() {
        output::line(&format!("now {}: {}", record.state.word(), view.why))?;
    }
    Ok(())
}

/// `+1.234s`; from two minutes on as the largest unit.
fn after(begin: WallMillis, at: WallMillis) -> String {
    let passed = Duration::from_millis(at.0.saturating_sub(begin.0));
    match passed.as_secs() {
        0..120 => format!("+{:.3}s", passed.as_secs_f64()),
        _ => format!("+{}", quantity::show_duration(passed)),
    }
}

/// Whether an event is the begin of an attempt.
fn is_begin(what: &str) -> bool {
    [TaskEvent::Dispatched, TaskEvent::Redispatched].iter().any(|event| event.word() == what)
}

struct TaskHistory<'a> {
    record: &'a TaskRecord,
    lines: Vec<Line>,
    /// The names of masters by their sessions.
    masters: BTreeMap<String, String>,
}

impl<'a> TaskHistory<'a> {
    /// What the record says.
    fn of(record: &'a TaskRecord) -> Self {
        let lines = record.timeline().into_iter().map(|event| Line::of(record, event)).collect();
        TaskHistory { record, lines, masters: BTreeMap::new() }
    }

    /// The attempts that the record keeps.
    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        let past = self.record.history.iter().map(|past| &past.attempt);
        past.chain(self.record.state.last_attempt())
    }

    /// Adds what events say.
    async fn read(&mut self, client: &Client) -> anyhow::Result<()> {
        let masters: Masters = client.insist(Endpoint::MasterList, &json!({})).await?;
        for lease in masters.masters {
            self.masters.insert(lease.session.to_string(), lease.master.to_string());
        }
        let since = self.record.submitted_at.0.saturating_sub(CLOCKS_DIFFER.as_millis() as u64);
        let ago = output::now().0.saturating_sub(since);
        let mut reader =
            StreamReader::open(client, History::Events, PageStart::SinceMs(ago)).await?;
        let total = reader.pending().min(EVENTS_MAX);
        let bar = terminal::progress_bar(Some(total), "{pos} of {len} events");
        for _ in 0..total {
            let Some(message) = reader.next().await? else { break };
            bar.inc(1);
            if self.take(&message) {
                break;
            }
        }
        bar.finish_and_clear();
        if reader.pending() > 0 && total == EVENTS_MAX {
            exit::warn("there are too many events: later ones were not read");
        }
        Ok(())
    }

    /// Takes an event. Returns whether later ones are too late to be about the task.
    fn take(&mut self, message: &PageMessage) -> bool {
        let Some(Tokens { group, about, what, .. }) = Tokens::of(&message.subject) else {
            return false;
        };
        let Ok(body) = serde_json::from_slice::<Body>(&message.body) else { return false };
        let Some(at) = wall_of(&body.timestamp) else { return false };
        let session = body.id.split('-').next().unwrap_or_default().to_owned();
        // `master.lost` names the master that was lost, and others the one that publishes.
        if let Some(master) = body.master
            && !(about == "master" && what == MasterEvent::Lost.word())
        {
            self.masters.entry(session.clone()).or_insert(master);
        }
        match about {
            "task" => self.task(what, at, session, body.tasks),
            "worker" => self.worker(what, at, session, body.about),
            "registry" | "failover" if self.is_during(at) => {
                self.add(at, format!("{about}.{what}"), session, None, body.about.reason);
            }
            "group" if group == self.record.spec.group.as_str() && self.is_during(at) => {
                self.add(at, format!("group.{what}"), session, None, body.about.reason);
            }
            _ => {}
        }
        let ended = self.record.ended_at();
        ended.is_some_and(|ended| at.0 > ended.0 + AFTERWARDS.as_millis() as u64)
    }

    /// Whether the task was open then, as far as clocks tell.
    fn is_during(&self, at: WallMillis) -> bool {
        let is_before_end = self.record.ended_at().is_none_or(|ended| at.0 <= ended.0);
        at.0 >= self.record.submitted_at.0 && is_before_end
    }

    fn task(&mut self, what: &str, at: WallMillis, session: String, changes: Vec<Concerned>) {
        let id = self.record.id.to_string();
        for change in changes.into_iter().filter(|change| change.task == id) {
            let is_end = TaskEvent::ALL.iter().any(|event| event.word() == what && event.is_end());
            let known = self.lines.iter_mut().find(|line| {
                let is_same = match is_end {
                    true => line.is_end(self.record),
                    // A record that keeps only the latest attempts does not know that its first one followed a loss.
                    false => {
                        let is_begin = is_begin(what) && is_begin(&line.what);
                        (line.what == what || is_begin) && line.attempt == change.attempt
                    }
                };
                is_same && line.by.is_none()
            });
            match known {
                Some(line) => line.by = Some(session.clone()),
                None => self.lines.push(Line {
                    at_ms: at,
                    what: what.into(),
                    number: self.number(change.attempt),
                    attempt: change.attempt,
                    worker: Some(change.worker).filter(|worker| !worker.is_empty()),
                    by: Some(session.clone()),
                    reason: change.reason,
                }),
            }
        }
    }

    /// An event of a worker that had an attempt before.
    fn worker(
        &mut self,
        what: &str,
        at: WallMillis,
        session: String,
        Concerned { worker, reason, .. }: Concerned,
    ) {
        let had = |attempt: &Attempt| {
            attempt.worker.as_str() == worker && attempt.dispatched_at.0 <= at.0
        };
        if !self.attempts().any(had) {
            return;
        }
        if what == WorkerEvent::Lost.word() {
            // The attempt was lost with its worker: one line says both.
            let lost = |line: &&mut Line| {
                line.what == "lost" && line.worker.as_ref() == Some(&worker) && line.by.is_none()
            };
            if let Some(line) = self.lines.iter_mut().find(lost) {
                line.by = Some(session);
                return;
            }
        }
        self.add(at, format!("worker.{what}"), session, Some(worker), reason);
    }

    fn add(
        &mut self,
        at_ms: WallMillis,
        what: String,
        session: String,
        worker: Option<String>,
        reason: String,
    ) {
        let (attempt, number, by) = (None, None, Some(session));
        self.lines.push(Line { at_ms, what, attempt, number, worker, by, reason });
    }

    fn number(&self, id: Option<AttemptId>) -> Option<u32> {
        let id = id?;
        self.attempts().find(|attempt| attempt.id == id).map(|attempt| attempt.number)
    }

    /// The lines in the order of their times, with the names of masters.
    fn finish(mut self) -> Vec<Line> {
        self.lines.sort_by_key(|line| line.at_ms.0);
        for line in &mut self.lines {
            if let Some(name) = line.by.as_ref().and_then(|session| self.masters.get(session)) {
                line.by = Some(name.clone());
            }
        }
        self.lines
    }
}

impl Line {
    fn of(record: &TaskRecord, event: TimelineEvent) -> Self {
        let TimelineEvent { at_ms, what, worker, attempt, mut reason } = event;
        let of = TaskHistory { record, lines: Vec::new(), masters: BTreeMap::new() };
        let found = of.attempts().find(|known| Some(known.id) == attempt);
        if let Some(attempt) = found
            && is_begin(what)
        {
            reason = format!("under revision {} of its lease", attempt.lease);
        }
        let number = found.map(|attempt| attempt.number);
        let worker = worker.map(|worker| worker.to_string());
        Line { at_ms, what: what.into(), attempt, number, worker, by: None, reason }
    }

    /// Whether it is the end of the task.
    fn is_end(&self, record: &TaskRecord) -> bool {
        matches!(&record.state, TaskState::Done { outcome, ended_at, .. }
            if self.at_ms == *ended_at && self.what == outcome.verdict.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{
        SessionId, TaskId,
        task::{Outcome, PastAttempt, Verdict},
    };
    use std::sync::Arc;

    const TASK: &str = "00000000000000000000000001";

    fn record(state: TaskState, history: Vec<PastAttempt>) -> TaskRecord {
        let digest = format!("sha256:{}", "0".repeat(64));
        let spec = json!({
            "group": "shops", "module": { "name": "m:1", "digest": digest }, "input": { "text": "" },
        });
        let spec = serde_json::from_value(spec).expect("a specification");
        let record = TaskRecord::queued(TaskId(1), Arc::new(spec), WallMillis(1_000));
        TaskRecord { state, history, attempts: 2, ..record }
    }

    fn attempt(number: u32, worker: &str, dispatched_at: u64) -> Attempt {
        let attempt = json!({
            "id": AttemptId(number.into()), "number": number, "worker": worker, "session": SessionId(7), "lease": 12,
            "dispatched_at": dispatched_at,
        });
        serde_json::from_value(attempt).expect("an attempt")
    }

    fn event(subject: &str, at_s: u64, body: serde_json::Value) -> PageMessage {
        let mut body = body;
        body["timestamp"] = format!("1970-01-01T00:00:{at_s:02}Z").into();
        let body = serde_json::to_vec(&body).expect("JSON").into();
        PageMessage { subject: format!("muster.default.event.{subject}"), body, at_ms: 0 }
    }

    #[test]
    fn a_timeline_says_who_decided_what_and_which_worker_was_fenced() {
        let past = PastAttempt {
            attempt: attempt(1, "w1", 2_000),
            ended_at: WallMillis(7_000),
            lost: true,
            reason: "worker w1 was lost".into(),
        };
        let record = record(TaskState::Dispatched(attempt(2, "w2", 7_001)), vec![past]);
        let mut history = TaskHistory::of(&record);
        let dispatched = |number: u64, worker: &str| json!({ "id": "s1-1", "tasks": [{ "task": TASK, "attempt": AttemptId(number), "worker": worker }] });
        let of_worker =
            |worker: &str| json!({ "id": "s2-4", "worker": worker, "reason": "it came back" });
        for message in [
            event("all.master.started.m1", 0, json!({ "id": "s1-0", "master": "m1" })),
            event("shops.task.dispatched.b", 2, dispatched(1, "w1")),
            event(
                "shops.task.dispatched.b",
                3,
                json!({ "id": "s1-2", "tasks": [{ "task": "another" }] }),
            ),
            event("all.master.lost.m9", 7, json!({ "id": "s2-3", "master": "m9" })),
            event("shops.worker.lost.w1", 7, of_worker("w1")),
            event("shops.worker.joined.w3", 7, of_worker("w3")),
            event("shops.task.redispatched.b", 7, dispatched(2, "w2")),
            event("shops.worker.fenced.w1", 9, of_worker("w1")),
            event(
                "all.registry.degraded.m1",
                9,
                json!({ "id": "s1-9", "master": "m1", "reason": "no answer" }),
            ),
            event("odd", 9, json!({})),
        ] {
            assert!(!history.take(&message));
        }
        let shown = |line: &Line| {
            let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
            let worker = text(line.worker.as_deref());
            format!(
                "{} {} {worker} {}",
                after(WallMillis(1_000), line.at_ms),
                line.what,
                text(line.by.as_deref())
            )
        };
        let shown: Vec<String> = history.finish().iter().map(shown).collect();
        let expected = [
            "+0.000s submitted - -",
            "+1.000s dispatched w1 m1",
            "+6.000s lost w1 s2",
            "+6.001s redispatched w2 m1",
            "+8.000s worker.fenced w1 s2",
            "+8.000s registry.degraded - m1",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_end_is_one_line_and_ends_the_reading_a_while_later() {
        let outcome = Arc::new(Outcome::bare(Verdict::TimedOut { limit_ms: 1 }));
        let (attempt, ended_at) = (Some(attempt(1, "w1", 2_000)), WallMillis(3_000));
        let record = record(TaskState::Done { outcome, attempt, ended_at }, vec![]);
        let mut history = TaskHistory::of(&record);
        let ended = json!({ "id": "s1-1", "tasks": [{ "task": TASK, "attempt": AttemptId(1) }] });
        assert!(!history.take(&event("shops.task.failed.b", 4, ended)));
        let mut late = event("shops.worker.joined.w3", 0, json!({ "worker": "w3" }));
        late.body = br#"{"timestamp":"1970-01-01T01:00:00Z","worker":"w3"}"#.as_slice().into();
        assert!(history.take(&late));
        let ends: Vec<_> = history.finish().into_iter().filter(|line| line.by.is_some()).collect();
        assert_eq!((ends.len(), ends[0].what.as_str()), (1, "timed_out"));
    }
}
