//! The timeline of a task: what happened to it and when, from its record. Never guesses what the record does not say:
//! masters do not tell clients when a checkpoint was stored.

use super::now::Now;
use crate::{
    quantity,
    task::{self, Progress},
    terminal,
};
use muster_protocol::{
    api::TaskView,
    task::{Attempt, TaskState},
    time::WallMillis,
};
use std::time::Duration;

/// One thing that happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// When; absent if it lasts until now.
    pub at: Option<WallMillis>,
    /// How long after the submission.
    pub after: String,
    /// What, as one word.
    pub what: &'static str,
    /// Where and why. It has no control characters.
    pub more: String,
}

/// The state of a task in a few lines: names and values without control characters.
pub fn header(view: &TaskView) -> Vec<(&'static str, String)> {
    let record = &view.record;
    let fields = [
        ("task", record.id.to_string()),
        ("module", task::module_name(&record.spec)),
        ("group", record.spec.group.to_string()),
        ("state", record.state.word().into()),
        ("why", view.why.clone()),
    ];
    fields.into_iter().map(|(name, value)| (name, terminal::escaped(&value))).collect()
}

/// The steps, the first one first.
pub fn steps(view: &TaskView, progress: Option<Progress>, now: Now) -> Vec<Step> {
    let record = &view.record;
    let mut steps = Steps { begin: record.submitted_at, now, steps: Vec::new() };
    steps.add(record.submitted_at, "queued", format!("in the group {}", record.spec.group));
    let known = record.history.len() + usize::from(record.state.last_attempt().is_some());
    let unknown = (record.attempts as usize).saturating_sub(known);
    if unknown > 0 {
        steps.add(record.submitted_at, "…", format!("{unknown} earlier attempts are not kept"));
    }
    for past in &record.history {
        steps.dispatched(&past.attempt);
        let what = if past.lost { "lost" } else { "ended" };
        steps.add(past.ended_at, what, format!("on {}: {}", past.attempt.worker, past.reason));
        steps.add(past.ended_at, "again", "queued for another attempt".into());
    }
    match &record.state {
        TaskState::Queued { .. } => steps.until_now("waits", view.why.clone()),
        TaskState::Dispatched(attempt) => {
            steps.dispatched(attempt);
            match progress {
                Some(progress) => steps.until_now("runs", format!("progress {progress}")),
                None => steps.until_now("dispatched", view.why.clone()),
            }
        }
        TaskState::Done { outcome, attempt, ended_at } => {
            if let Some(attempt) = attempt {
                steps.dispatched(attempt);
                let ran = Duration::from_micros(outcome.run_us);
                if outcome.run_us > 0 {
                    let started = ended_at.0.saturating_sub(ran.as_millis() as u64);
                    let text = format!("on {}, as it ran for {}", attempt.worker, seconds(ran));
                    steps.add(WallMillis(started.max(attempt.dispatched_at.0)), "started", text);
                }
            }
            steps.add(*ended_at, "ended", outcome.verdict.reason());
        }
    }
    if record.cancel && !record.is_done() {
        steps.until_now("cancel", "asked for; the run is being stopped".into());
    }
    steps.steps
}

struct Steps {
    begin: WallMillis,
    now: Now,
    steps: Vec<Step>,
}

impl Steps {
    fn add(&mut self, at: WallMillis, what: &'static str, more: String) {
        let after = seconds(Duration::from_millis(at.0.saturating_sub(self.begin.0)));
        self.steps.push(Step { at: Some(at), after, what, more: terminal::escaped(&more) });
    }

    fn dispatched(&mut self, attempt: &Attempt) {
        let text = format!("attempt {} to {}", attempt.number, attempt.worker);
        self.add(attempt.dispatched_at, "dispatched", text);
    }

    fn until_now(&mut self, what: &'static str, more: String) {
        let passed = Duration::from_millis(self.now.wall.0.saturating_sub(self.begin.0));
        let after = quantity::show_duration(passed);
        self.steps.push(Step { at: None, after, what, more: terminal::escaped(&more) });
    }
}

/// `1.234 s`; from two minutes on as the largest unit.
fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..120 => format!("{:.3}s", duration.as_secs_f64()),
        _ => quantity::show_duration(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn shown(view: &TaskView, progress: Option<Progress>) -> Vec<String> {
        let line = |step: Step| format!("{} {} {}", step.after, step.what, step.more);
        steps(view, progress, sample::now()).into_iter().map(line).collect()
    }

    #[test]
    fn a_task_that_lost_its_worker_and_ended() {
        let mut view = sample::running(1, "w2");
        sample::lose(&mut view, "w1");
        sample::complete(&mut view);
        assert_eq!(
            shown(&view, None),
            [
                "0.000s queued in the group shops",
                "0.020s dispatched attempt 1 to w1",
                "5.000s lost on w1: its worker w1 was lost",
                "5.000s again queued for another attempt",
                "5.100s dispatched attempt 2 to w2",
                "6.000s started on w2, as it ran for 2.000s",
                "8.000s ended completed",
            ]
        );
    }

    #[test]
    fn a_task_that_is_not_over() {
        let waits = sample::queued(1, "all slots of the 1 workers are\u{1b}[2J taken");
        assert_eq!(
            shown(&waits, None),
            [
                "0.000s queued in the group shops",
                "60s waits all slots of the 1 workers are\\x1b[2J taken"
            ]
        );
        let progress = serde_json::from_str(r#"{"done":3,"total":9}"#).expect("JSON");
        let mut runs = sample::running(1, "w2");
        runs.record.attempts = 20;
        runs.record.cancel = true;
        assert_eq!(
            shown(&runs, Some(progress)),
            [
                "0.000s queued in the group shops",
                "0.000s … 19 earlier attempts are not kept",
                "5.100s dispatched attempt 1 to w2",
                "60s runs progress 3 of 9",
                "60s cancel asked for; the run is being stopped",
            ]
        );
    }
}
