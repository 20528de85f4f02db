//! Checks the workers: how many there are, whether they renew their leases, and whether each is linked
//! to a master. Never sends them commands.

use super::{
    Ages, Figure, Finding, Health, add_groups, answer, few, masters::Serving, registry,
    thresholds::Thresholds,
};
use crate::client::{self, Client};
use muster_protocol::{
    api::{Endpoint, WorkerView, Workers},
    lease::LeaseState,
    subject::Bucket,
};
use std::{collections::BTreeMap, time::Duration};

/// How much older than its length a lease may be: the time of a renewal on its way, and of this check.
const LEASE_MARGIN: Duration = Duration::from_secs(3);

/// For how many unwell workers the shortage is shown.
const UNWELL_TOLD_MAX: usize = 3;

pub(super) async fn look(
    client: &Client,
    thresholds: &Thresholds,
    serving: &Serving,
    sees_registry: bool,
    findings: &mut Vec<Finding>,
) {
    let ask = |asked| async move { answer(client.ask(Endpoint::WorkerList, &asked)).await };
    let mut workers = match client::pages(ask, |page: Workers| (page.workers, page.more)).await {
        Ok(workers) => workers,
        Err(error) => {
            let hint = "masters report the workers: repair the masters first";
            findings.push(Finding::fail("workers", error).hint(hint));
            return;
        }
    };
    workers.retain(|view| thresholds.has(&view.lease.offer.group));
    groups(&workers, thresholds, findings);
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
fn groups(workers: &[WorkerView], thresholds: &Thresholds, findings: &mut Vec<Finding>) {
    let mut groups: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    if let Some(group) = &thresholds.group {
        groups.insert(group.as_str(), [0; 3]);
    }
    for view in workers.iter().filter(|view| view.lease.state != LeaseState::Released) {
        let counts = groups.entry(view.lease.offer.group.as_str()).or_default();
        counts[match view.lease.state {
            LeaseState::Live => 0,
            LeaseState::Draining | LeaseState::Cordoned => 1,
            LeaseState::Lost | LeaseState::Released => 2,
        }] += 1;
    }
    if groups.is_empty() {
        findings.push(Finding::warn("workers", "none").hint("start one with `muster worker`"));
    }
    let line = |(group, [live, draining, lost]): (&str, [u64; 3])| {
        let detail = format!("{live} live, {draining} draining or cordoned, {lost} lost");
        let of_lost = if lost > 0 { Health::Warn } else { Health::Ok };
        let health = thresholds.live().below(&live).max(of_lost);
        let live = Figure::new("live", live).bad_below(&thresholds.live());
        Finding::new(health, &format!("group {group}"), detail)
            .figure(live)
            .figure(Figure::new("draining", draining))
            .figure(Figure::new("lost", lost))
    };
    add_groups(groups.into_iter().map(line).collect(), findings);
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
    use crate::check::{GROUPS_MAX, thresholds::Threshold};
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
            upgrade: None,
        }
    }

    #[test]
    fn a_thousand_workers_of_a_thousand_groups_are_few_lines_and_all_names() {
        let mut views: Vec<WorkerView> = (0..1_000).map(view).collect();
        views[777].lease.state = LeaseState::Lost;
        let mut findings = Vec::new();
        groups(&views, &Thresholds::default(), &mut findings);
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
    fn a_group_with_too_few_live_workers_is_unwell() {
        let healths = |live: Threshold<u64>, group: &str, workers: usize| {
            let views: Vec<WorkerView> = (0..workers).map(|_| view(1)).collect();
            let group = Some(group.parse().expect("a name"));
            let thresholds = Thresholds { live: Some(live), group, ..Thresholds::default() };
            let mut findings = Vec::new();
            groups(&views, &thresholds, &mut findings);
            findings.iter().map(|finding| finding.health).collect::<Vec<_>>()
        };
        let live = Threshold { warn: 3, fail: Some(2) };
        assert_eq!(healths(live, "g1", 3), [Health::Ok]);
        assert_eq!(healths(live, "g1", 2), [Health::Warn]);
        assert_eq!(healths(live, "g1", 1), [Health::Fail]);
        assert_eq!(healths(live, "g2", 0), [Health::Fail], "a group that is named has a line");
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
