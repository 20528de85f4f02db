//! What a bundle does not have: contents of tasks, and sentences that may contain words of a guest. Never leaves out
//! who did what when.

use muster_protocol::{
    advisory::TaskEvent,
    api::TaskView,
    task::{Data, TaskState, Verdict},
};
use serde_json::Value;
use std::sync::Arc;

/// What stands where something was left out.
fn instead(size: usize) -> String {
    format!("(left out: {size} bytes)")
}

fn text(text: &mut String) {
    if !text.is_empty() {
        *text = instead(text.len());
    }
}

fn data(data: &mut Data) {
    if let Data::Inline(bytes) = data
        && !bytes.is_empty()
    {
        *bytes = instead(bytes.len()).into();
    }
}

/// Leaves out the contents of a task.
pub fn of_task(view: &mut TaskView) {
    let record = &mut view.record;
    let spec = Arc::make_mut(&mut record.spec);
    data(&mut spec.input);
    spec.args.iter_mut().for_each(text);
    Arc::make_mut(&mut spec.grants).env.values_mut().for_each(text);
    for past in record.history.iter_mut().filter(|past| !past.lost) {
        text(&mut past.reason);
    }
    if let TaskState::Done { outcome, .. } = &mut record.state {
        let outcome = Arc::make_mut(outcome);
        data(&mut outcome.output);
        text(&mut outcome.stderr);
        match &mut outcome.verdict {
            Verdict::Failed { message, .. } | Verdict::Trapped { message } => text(message),
            _ => {}
        }
    }
    // A sentence about a task that has failed before may quote its guest.
    if record.failures > 0 || record.is_done() {
        text(&mut view.why);
    }
}

/// Leaves out the reasons of events about tasks. Only those about lost workers are sentences of masters alone; others
/// may quote the guest, also that of an earlier attempt.
pub fn of_event(mut event: Value) -> Value {
    let kind = event["type"].as_str().unwrap_or_default();
    let kept = [TaskEvent::Redispatched, TaskEvent::Quarantined];
    let is_kept = kept.iter().any(|what| kind.ends_with(&format!(".task_{}", what.word())));
    if !is_kept && let Some(tasks) = event.get_mut("tasks").and_then(Value::as_array_mut) {
        for task in tasks {
            if let Some(Value::String(reason)) = task.get_mut("reason") {
                text(reason);
            }
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_that_may_quote_a_guest_lose_their_reasons() {
        for (kind, kept) in [
            ("task_failed", false),
            ("task_retried", false),
            ("task_dispatched", false),
            ("task_of_a_later_version", false),
            ("task_redispatched", true),
            ("task_quarantined", true),
        ] {
            let kind = format!("io.muster.advisory.v1.{kind}");
            let event =
                json!({ "type": kind, "tasks": [{ "task": "t", "reason": "it said: hush" }] });
            let shown = of_event(event).to_string();
            assert_eq!(shown.contains("hush"), kept, "{shown}");
            assert!(kept || shown.contains("(left out: 13 bytes)"), "{shown}");
        }
        let event = json!({ "type": "io.muster.advisory.v1.worker_lost", "reason": "silent" });
        assert_eq!(of_event(event.clone()), event);
    }
}
