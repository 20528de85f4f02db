//! Checks the workers: how many there are, whether they renew their leases, and whether each is linked
//! to a master. Never sends them commands.

use super::{Ages, Finding, Health, answer, few, masters::Serving, registry};
use crate::client::{self, Client};
use muster_protocol::{
    api::{Endpoint, WorkerView, Workers},
    lease::LeaseState,
    subject::Bucket,
};
use std::{collections::BTreeMap, time::Duration};

/// How much older than its length a lease may be: the time of a renewal on its way, and of this check.
const LEASE_MARGIN: Duration = Duration::from_secs(3);

/// How many groups get a line of their own; those with problems come first.
const GROUPS_MAX: usize = 20;

/// For how many unwell workers the shortage is shown.
const UNWELL_TOLD_MAX: usize = 3;

pub(super) async fn look(
    client: &Client,
    serving: &Serving,
    sees_registry: bool,
    findings: &mut Vec<Finding>,
) {
    let ask = |asked| async move { answer(client.ask(Endpoint::WorkerList, &asked)).await };
    let workers = match client::pages(ask, |page: Workers| (page.workers, page.more)).await {
        Ok(workers) => workers,
        Err(error) => {
            let hint = "masters report the workers: repair the masters first";
            findings.push(Finding::fail("workers", error).hint(hint));
            return;
        }
    };
    groups(&workers, findings);
    findings.extend(unwell(&workers));
    let held: Vec<&WorkerView> = workers.iter().filter(|view| view.lease.state.is_held()).collect();
    let ages = match sees_registry {
        true => registry::ages(client, Bucket::Workers).await,
        false => Ok(Ages::new()),
    };
    let ages = match ages {
        Ok(ages) => ages,
        Err(error) => {
            let detail = format!("the ages of their leases are not known: {error}");
            findings.push(Finding::warn("workers", detail));
            return;
        }
    };
    let is_stale = |view: &&&WorkerView| {
        let max = Duration::from_millis(view.lease.master_wait_ms) + LEASE_MARGIN;
        ages.get(view.lease.worker.as_str()).is_some_and(|age| *age > max)
    };
    let (stale, renewed): (Vec<&WorkerView>, Vec<&WorkerView>) = held.iter().partition(is_stale);
    findings.extend(several(
        &stale,
        held.len(),
        "have not renewed their leases",
        "they run nothing: check whether writes are stored and whether the workers run, and read their logs",
    ));
    // The lease of a worker that renews directly in NATS names its home, a master to which it is linked.
    let is_alone = |view: &&WorkerView| {
        let home = view.lease.home.as_ref();
        !view.linked && !home.is_some_and(|home| serving.may_have(home.session))
    };
    let alone: Vec<&WorkerView> = renewed.into_iter().filter(is_alone).collect();
    findings.extend(several(
        &alone,
        held.len(),
        "have no link to a master and get no tasks",
        "name a running master with --master, and open its UDP or TCP port; their logs say more",
    ));
}

/// One line about the workers whose hosts lack something; it shows the shortage of a few.
fn unwell(workers: &[WorkerView]) -> Option<Finding> {
    let lack = |view: &WorkerView| {
        let worker = view.lease.worker.to_string();
        view.lease.lacks().map(|what| (format!("{worker} lacks something: {what}"), worker))
    };
    let (mut told, names): (Vec<_>, Vec<_>) = workers.iter().filter_map(lack).unzip();
    told.truncate(UNWELL_TOLD_MAX);
    if names.len() > told.len() {
        told.push(format!("and {} more: see `muster worker ls`", names.len() - told.len()));
    }
    (!names.is_empty()).then(|| Finding::warn("unwell", told.join("; ")).names(names))
}

/// One line for each group.
fn groups(workers: &[WorkerView], findings: &mut Vec<Finding>) {
    let mut groups: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for view in workers {
        let counts = groups.entry(view.lease.offer.group.as_str()).or_default();
        match view.lease.state {
            LeaseState::Live => counts[0] += 1,
            LeaseState::Draining | LeaseState::Cordoned => counts[1] += 1,
            LeaseState::Lost => counts[2] += 1,
            LeaseState::Released => {}
        }
    }
    groups.retain(|_, counts| counts.iter().sum::<usize>() > 0);
    if groups.is_empty() {
        findings.push(Finding::warn("workers", "none").hint("start one with `muster worker`"));
    }
    let health = |[live, _, lost]: [usize; 3]| match live > 0 && lost == 0 {
        true => Health::Ok,
        false => Health::Warn,
    };
    let mut lines: Vec<(&str, [usize; 3])> = groups.into_iter().collect();
    lines.sort_by_key(|(_, counts)| std::cmp::Reverse(health(*counts)));
    let shown = lines.len().min(GROUPS_MAX);
    for (group, counts) in &lines[..shown] {
        let [live, draining, lost] = counts;
        let detail = format!("{live} live, {draining} draining or cordoned, {lost} lost");
        findings.push(Finding::new(health(*counts), &format!("group {group}"), detail));
    }
    if let Some((_, worst)) = lines.get(shown) {
        let names: Vec<String> = lines[shown..].iter().map(|(group, _)| (*group).into()).collect();
        let detail = format!("{} more: {}", names.len(), few(&names));
        findings.push(Finding::new(health(*worst), "groups", detail).names(names));
    }
}

/// A line about some of `all` workers. If it is about all of them, nothing can run.
fn several(some: &[&WorkerView], all: usize, what: &str, hint: &str) -> Option<Finding> {
    if some.is_empty() {
        return None;
    }
    let names: Vec<String> = some.iter().map(|view| view.lease.worker.to_string()).collect();
    let health = if some.len() == all { Health::Fail } else { Health::Warn };
    let detail = format!("{} of {all} {what}: {}", names.len(), few(&names));
    Some(Finding::new(health, "workers", detail).hint(hint).names(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::SessionId;
    use muster_protocol::lease::Lease;

    fn view(number: usize) -> WorkerView {
        let name = format!("w{number}").parse().expect("a name");
        let mut lease = Lease::new(name, SessionId(1));
        lease.offer.group = format!("g{number}").parse().expect("a name");
        WorkerView {
            lease,
            revision: 1,
            linked: false,
            transport: None,
            denied: None,
            attempts: Vec::new(),
        }
    }

    #[test]
    fn a_thousand_workers_of_a_thousand_groups_are_few_lines_and_all_names() {
        let mut views: Vec<WorkerView> = (0..1_000).map(view).collect();
        views[777].lease.state = LeaseState::Lost;
        let mut findings = Vec::new();
        groups(&views, &mut findings);
        assert_eq!(findings.len(), GROUPS_MAX + 1);
        assert_eq!((findings[0].health, findings[0].about.as_str()), (Health::Warn, "group g777"));
        let views: Vec<&WorkerView> = views.iter().collect();
        let line = several(&views, 1_000, "are strange", "do something").expect("a line");
        assert_eq!((line.health, line.names.len()), (Health::Fail, 1_000));
        assert!(line.text().len() < 200, "{}", line.text());
        assert_eq!(several(&views[..1], 1_000, "", "").expect("a line").health, Health::Warn);
        assert!(several(&[], 1_000, "", "").is_none());
    }

    #[test]
    fn unwell_workers_are_one_line_that_tells_of_some() {
        let mut views: Vec<WorkerView> = (1..=9).map(view).collect();
        assert!(unwell(&views).is_none());
        for view in &mut views {
            view.lease.unwell = Some("a disk is full".into());
        }
        let many = unwell(&views).expect("a line");
        assert_eq!((many.health, many.names.len()), (Health::Warn, 9));
        assert!(many.detail.ends_with("; and 6 more: see `muster worker ls`"), "{}", many.detail);
        views[0].lease.state = LeaseState::Lost;
        let one = unwell(&views[..2]).expect("a line").detail;
        assert_eq!(one, "w2 lacks something: a disk is full", "one that is lost lacks no more");
    }
}
