//! Checks for tasks that do not go on. Never checks how guests end.

use super::{Finding, answer, few, server_time};
use crate::client::Client;
use muster_protocol::{
    api::{Endpoint, ListTasks, Tasks},
    task::StateName,
    time::WallMillis,
};
use std::time::Duration;

/// How long beyond its time limit an attempt may be on a worker: to fetch its module and input, to
/// compile, and to upload a large output.
const HELD_MARGIN: Duration = Duration::from_secs(300);

/// How many tasks are asked for. Further ones would not change the finding.
const TASKS_MAX: u64 = 100;

pub(super) async fn look(client: &Client, findings: &mut Vec<Finding>) {
    let Ok(now) = server_time(client).await else { return };
    let before = now.0.saturating_sub(HELD_MARGIN.as_millis() as u64);
    let question = ListTasks {
        state: Some(StateName::Dispatched.word().into()),
        limit: TASKS_MAX,
        due_before: Some(WallMillis(before)),
        ..ListTasks::default()
    };
    let list = answer::<Tasks, _>(client.ask(Endpoint::TaskList, &question)).await;
    // Another check reports that no master answers.
    let Ok(Tasks { tasks, .. }) = list else { return };
    if tasks.is_empty() {
        return;
    }
    let names: Vec<String> = tasks
        .iter()
        .map(|view| match view.record.attempt() {
            Some(attempt) => format!("{} on {}", view.record.id, attempt.worker),
            None => view.record.id.to_string(),
        })
        .collect();
    let more = if tasks.len() as u64 == TASKS_MAX { " or more" } else { "" };
    let detail = format!(
        "{}{more} are at their workers for longer than their time limits: {}",
        names.len(),
        few(&names)
    );
    let hint = "they never started, or their ends were not reported: read the logs of these workers; \
                the tasks of a worker that is restarted move to others";
    findings.push(Finding::warn("tasks", detail).hint(hint).names(names));
}
