//! Checks the queues of groups, and finds tasks that do not go on. Never checks how guests end.

use super::{
    Figure, Finding, Health, add_groups, answer, few, server_time, thresholds::Thresholds,
};
use crate::{
    client::{self, Client},
    quantity,
};
use muster_protocol::{
    api::{Endpoint, GroupLoad, GroupLoads, ListTasks, Tasks},
    task::StateName,
    time::WallMillis,
};
use std::time::Duration;

/// How long beyond its time limit an attempt may be on a worker: to fetch its module and input, to
/// compile, and to upload a large output.
const HELD_MARGIN: Duration = Duration::from_secs(300);

/// How many tasks are asked for. Further ones would not change the finding.
const TASKS_MAX: u64 = 100;

pub(super) async fn look(
    client: &Client,
    thresholds: &Thresholds,
    sees_registry: bool,
    findings: &mut Vec<Finding>,
) {
    let ask = |asked| async move { answer(client.ask(Endpoint::GroupLoad, &asked)).await };
    match client::loads(thresholds.group.as_ref(), ask).await {
        Ok(loads) => queues(loads, thresholds, findings),
        Err(error) => {
            let hint = "masters report the queues: repair the masters first, or upgrade them to this version";
            findings.push(Finding::fail("queues", error).hint(hint));
        }
    }
    let now = if sees_registry { server_time(client).await.ok() } else { None };
    match now {
        Some(now) => overdue(client, now, thresholds, findings).await,
        None => {
            let detail = "tasks that should have ended long ago are not looked for: that takes the registry's clock";
            findings.push(Finding::ok("tasks", detail));
        }
    }
}

/// A line for each group in which tasks wait, and one about all groups.
fn queues(loads: GroupLoads, thresholds: &Thresholds, findings: &mut Vec<Finding>) {
    let GroupLoads { groups: loads, others_queued, .. } = loads;
    let total = |count: fn(&GroupLoad) -> u64| loads.iter().map(count).sum::<u64>();
    let (queued, dispatched) = (total(|load| load.queued), total(|load| load.dispatched));
    let detail = format!("{} wait, {dispatched} are at workers", queued + others_queued);
    if others_queued > 0 {
        let detail = format!(
            "{others_queued} tasks wait in groups without a worker that are not listed here"
        );
        let hint = "name one with --group, or see `muster task ls --state queued`";
        findings.push(Finding::warn("queues", detail).hint(hint));
    }
    findings.push(
        Finding::ok("queues", detail)
            .figure(Figure::new("queued", queued + others_queued))
            .figure(Figure::new("dispatched", dispatched)),
    );
    let is_told = |load: &&GroupLoad| load.queued > 0 || thresholds.group.is_some();
    let lines = loads.iter().filter(is_told).map(|load| queue(load, thresholds)).collect();
    add_groups(lines, findings);
}

fn queue(load: &GroupLoad, thresholds: &Thresholds) -> Finding {
    let waited = load.waited().unwrap_or_default();
    let mut detail = format!("{} wait", load.queued);
    if let Some(next) = &load.next {
        let age = quantity::show_duration(waited);
        detail = format!("{detail}, the next ones for up to {age}: {}", next.why);
    }
    let of_queued = thresholds.queued.map_or(Health::Ok, |bound| bound.above(&load.queued));
    let of_waiting = thresholds.waiting.map_or(Health::Ok, |bound| bound.above(&waited));
    let mut queued = Figure::new("queued", load.queued);
    if let Some(bound) = &thresholds.queued {
        queued = queued.bad_above(bound);
    }
    let mut oldest = Figure::new("waited", waited.as_secs()).seconds();
    if let Some(bound) = &thresholds.waiting {
        oldest = oldest.bad_above(&bound.map(|bound| bound.as_secs()));
    }
    let is_deserted = load.queued > 0 && load.held() == 0;
    let of_workers = if is_deserted { Health::Warn } else { Health::Ok };
    let health = of_queued.max(of_waiting).max(of_workers);
    let finding = Finding::new(health, &format!("queue {}", load.group), detail);
    match is_deserted {
        true => finding.hint("no worker of the group holds a lease: start one"),
        false => finding,
    }
    .figure(queued)
    .figure(oldest)
}

/// Finds attempts that should have ended long ago.
async fn overdue(
    client: &Client,
    now: WallMillis,
    thresholds: &Thresholds,
    findings: &mut Vec<Finding>,
) {
    let before = now.0.saturating_sub(HELD_MARGIN.as_millis() as u64);
    let question = ListTasks {
        state: Some(StateName::Dispatched.word().into()),
        limit: TASKS_MAX,
        due_before: Some(WallMillis(before)),
        group: thresholds.group.as_ref().map(ToString::to_string),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::thresholds::Threshold;
    use muster_protocol::{TaskId, api::NextTask, lease::LeaseState};

    fn load(group: &str, queued: u64, waited_s: u64, live: u64) -> GroupLoad {
        let next = NextTask { task: TaskId(1), why: "it waits".into() };
        GroupLoad {
            group: group.parse().expect("a name"),
            queued,
            dispatched: 1,
            workers: [(LeaseState::Live, live)].into(),
            waited_ms: (queued > 0).then_some(waited_s * 1_000),
            next: (queued > 0).then_some(next),
            ..GroupLoad::default()
        }
    }

    fn found(thresholds: &Thresholds) -> Vec<(Health, String)> {
        let mut groups = vec![load("a", 0, 0, 1), load("b", 5, 90, 1), load("c", 1, 3, 0)];
        groups.retain(|load| thresholds.has(&load.group));
        let loads = GroupLoads { groups, ..GroupLoads::default() };
        let mut findings = Vec::new();
        queues(loads, thresholds, &mut findings);
        findings
            .iter()
            .map(|line| (line.health, format!("{}: {}", line.about, line.detail)))
            .collect()
    }

    #[test]
    fn a_queue_is_unwell_by_its_age_its_length_or_without_a_worker() {
        let quiet = Thresholds::default();
        let line = |health, text: &str| (health, text.to_owned());
        let (b, c) = (
            "queue b: 5 wait, the next ones for up to 90s: it waits",
            "queue c: 1 wait, the next ones for up to 3s: it waits",
        );
        let all = line(Health::Ok, "queues: 6 wait, 3 are at workers");
        assert_eq!(found(&quiet), [all.clone(), line(Health::Warn, c), line(Health::Ok, b)]);
        let waiting =
            Threshold { warn: Duration::from_secs(60), fail: Some(Duration::from_secs(90)) };
        let old = Thresholds { waiting: Some(waiting), ..quiet.clone() };
        assert_eq!(found(&old), [all.clone(), line(Health::Fail, b), line(Health::Warn, c)]);
        let long = Thresholds { queued: Some(Threshold { warn: 5, fail: None }), ..quiet.clone() };
        assert_eq!(found(&long)[1], line(Health::Warn, b));
        let only = Thresholds { group: Some("a".parse().expect("a name")), ..quiet };
        assert_eq!(found(&only)[1], line(Health::Ok, "queue a: 0 wait"));
    }
}
