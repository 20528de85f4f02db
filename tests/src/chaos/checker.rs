//! The checker: it looks in the observations for violations of the promises. Never asks the fleet.

use super::{
    FaultKind,
    load::Submission,
    nemesis::Fault,
    observer::Commit,
    run_log::{Run, RunLog},
    sink::Request,
};
use std::{collections::BTreeSet, time::Duration};

/// A run counts as struck by a fault if its last line is at most this old when the fault strikes. The
/// guest beats every millisecond, but a busy machine may delay it by a few tenths of a second.
const STILL_RUNNING_NS: u64 = 500_000_000;

/// Two runs of one task that overlap in time.
#[derive(Debug)]
pub struct Overlap<'a> {
    /// The task that ran twice at once.
    pub task: &'a str,
    /// The run that began first.
    pub earlier: &'a Run,
    /// The run that began before the other had ended.
    pub later: &'a Run,
}

/// Every overlap in the journals.
pub fn overlaps(run_log: &RunLog) -> Vec<Overlap<'_>> {
    let mut found = Vec::new();
    for (task, runs) in run_log.tasks() {
        let mut runs: Vec<&Run> = runs.iter().collect();
        runs.sort_by_key(|run| run.first_ns);
        let mut latest: Option<&Run> = None;
        for run in runs {
            if let Some(earlier) = latest.filter(|earlier| earlier.last_ns >= run.first_ns) {
                found.push(Overlap { task, earlier, later: run });
            }
            if latest.is_none_or(|latest| latest.last_ns < run.last_ns) {
                latest = Some(run);
            }
        }
    }
    found
}

/// The runs that were in progress on a worker when a fault struck it, each with its task.
pub fn struck<'a>(run_log: &'a RunLog, fault: &Fault) -> Vec<(&'a str, &'a Run)> {
    let hosts: BTreeSet<&str> = fault.kind.strikes().into_iter().collect();
    let going_on = |run: &Run| {
        (fault.kind.concerns_all() || hosts.contains(run.worker.as_str()))
            && run.first_ns < fault.at_ns
            && if run.ended {
                run.last_ns > fault.at_ns
            } else {
                run.last_ns + STILL_RUNNING_NS > fault.at_ns
            }
    };
    let of_task = |(task, runs): (&'a String, &'a Vec<Run>)| {
        let runs = runs.iter().filter(|run| going_on(run));
        runs.map(|run| (task.as_str(), run)).collect::<Vec<_>>()
    };
    run_log.tasks().iter().flat_map(of_task).collect()
}

/// The number of faults that struck a worker, or the leases of all workers, while something ran there.
pub fn trials(run_log: &RunLog, faults: &[Fault]) -> usize {
    faults.iter().filter(|fault| !struck(run_log, fault).is_empty()).count()
}

/// The time span of a loss, as two stamps: the registry lost what it acknowledged for a stream in
/// between.
pub type Lost = (u64, u64);

/// Every loss of this stream. A loss begins when the copy of the disk was begun, and ends when
/// nats-server was certainly dead. A write that was acknowledged while the copy was made may be there or
/// not; both are allowed.
pub fn losses(faults: &[Fault], stream: &str) -> Vec<Lost> {
    let of = |fault: &Fault| match &fault.kind {
        FaultKind::Forget { copy } if copy.has(stream) => Some((copy.began_ns, fault.struck_ns)),
        _ => None,
    };
    faults.iter().filter_map(of).collect()
}

/// Whether the registry may have lost this task: its submission was acknowledged within a loss. A task
/// that was acknowledged before or after all losses must be there.
pub fn may_be_forgotten(submission: Submission, losses: &[Lost]) -> bool {
    let Submission { sent_ns, acknowledged_ns } = submission;
    losses.iter().any(|&(from_ns, to_ns)| acknowledged_ns >= from_ns && sent_ns <= to_ns)
}

/// How many times the end of a task was committed although the task had ended already. A commit that the
/// registry has lost does not count: the task then has no end and needs one. A commit was lost if it was
/// stored within a loss and the next one after that loss. Two commits within one loss, or after it, are
/// a duplicate.
pub fn duplicates(commits: &BTreeSet<Commit>, losses: &[Lost]) -> usize {
    let is_lost = |earlier: &Commit, later: &Commit| {
        losses.iter().any(|&(from_ns, to_ns)| {
            (from_ns..=to_ns).contains(&earlier.at_ns) && later.at_ns > to_ns
        })
    };
    let pairs = commits.iter().zip(commits.iter().skip(1));
    pairs.filter(|(earlier, later)| !is_lost(earlier, later)).count()
}

/// A request that was still being sent when its attempt was not allowed to act any more.
#[derive(Debug)]
pub struct Late<'a> {
    /// The observation of the server.
    pub request: &'a Request,
    /// The run that sent it.
    pub run: &'a Run,
    /// The end of the run's lease, from its worker's journal.
    pub lease_end_ns: Option<u64>,
    /// The time at which the next attempt of the task began.
    pub replaced_ns: Option<u64>,
}

/// Every request that was still being sent `margin` after the end of its attempt's lease, or after
/// another attempt had replaced it. The margin is the time that the kernel may take to kill a process.
pub fn late<'a>(run_log: &'a RunLog, requests: &'a [Request], margin: Duration) -> Vec<Late<'a>> {
    let of = |request: &'a Request| {
        let runs = run_log.runs(&request.task);
        let its = runs.iter().filter(|run| run.attempt == request.attempt);
        let run = its.max_by_key(|run| run.first_ns)?;
        let others = runs
            .iter()
            .filter(|other| other.attempt != run.attempt && other.first_ns > run.first_ns);
        let lease_end_ns = run_log.lease_end(run);
        let replaced_ns = others.map(|other| other.first_ns).min();
        let after = |end: Option<u64>| end.is_some_and(|end| request.sending_ns > end);
        let is_late =
            after(lease_end_ns.map(|end| end + margin.as_nanos() as u64)) || after(replaced_ns);
        is_late.then_some(Late { request, run, lease_end_ns, replaced_ns })
    };
    requests.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn fault(at: u64, fault: FaultKind) -> Fault {
        let at_ns = at * S;
        let healed_ns = at_ns + S;
        Fault {
            number: 1,
            at_ns,
            struck_ns: at_ns,
            until_ns: healed_ns,
            healed_ns,
            times: 1,
            kind: fault,
        }
    }

    #[test]
    fn runs_that_touch_are_an_overlap_and_runs_apart_are_none() {
        let check = |begins: u64| {
            let run_log = RunLog::of(&[
                (1, "started", "t", "a", "w1"),
                (5, "called", "t", "a", "w1"),
                // The old worker's line about the end of its lease is not a run.
                (90, "lapsed", "t", "a", "w1"),
                (begins, "started", "t", "b", "w2"),
                (9, "ended", "t", "b", "w2"),
                (3, "started", "other", "c", "w2"),
            ]);
            overlaps(&run_log).len()
        };
        assert_eq!(check(6), 0);
        assert_eq!(check(5), 1);
        assert_eq!(check(4), 1);
    }

    #[test]
    fn a_run_within_a_long_one_is_seen_however_many_come_between() {
        let run_log = RunLog::of(&[
            (1, "started", "t", "a", "w1"),
            (100, "called", "t", "a", "w1"),
            (10, "started", "t", "b", "w2"),
            (11, "called", "t", "b", "w2"),
            (50, "started", "t", "c", "w3"),
        ]);
        assert_eq!(overlaps(&run_log).len(), 2);
    }

    #[test]
    fn the_same_attempt_twice_at_once_is_an_overlap() {
        let run_log = RunLog::of(&[
            (1, "started", "t", "a", "w1"),
            (5, "called", "t", "a", "w1"),
            (5, "started", "t", "a", "w1"),
        ]);
        assert_eq!(overlaps(&run_log).len(), 1);
    }

    #[test]
    fn a_fault_counts_where_something_ran() {
        let run_log =
            RunLog::of(&[(S, "started", "t", "a", "w1"), (10 * S - 1, "called", "t", "a", "w1")]);
        let check = |host: &str, at| {
            let kind = FaultKind::Stop { host: host.into() };
            struck(&run_log, &fault(at, kind)).len()
        };
        assert_eq!(check("w1", 10), 1);
        assert_eq!(check("m1", 10), 0);
        assert_eq!(check("w1", 12), 0);
    }

    #[test]
    fn a_task_is_forgotten_only_where_its_acknowledgement_was_lost() {
        let check = |sent_ns, acknowledged_ns| {
            may_be_forgotten(Submission { sent_ns, acknowledged_ns }, &[(10, 20)])
        };
        assert!(!check(5, 9), "it was copied");
        assert!(check(9, 10) && check(12, 13) && check(20, 40));
        assert!(!check(21, 22), "it was stored after the loss");
    }

    #[test]
    fn a_second_commit_is_none_where_the_first_was_lost() {
        let check = |stamps: &[u64]| {
            let commit = |(at, &at_ns): (usize, &u64)| Commit { at_ns, revision: 9 - at as u64 };
            duplicates(&stamps.iter().enumerate().map(commit).collect(), &[(10, 20)])
        };
        assert_eq!(check(&[15]), 0);
        assert_eq!(check(&[15, 25]), 0);
        assert_eq!(check(&[9, 25]), 1, "the first was kept");
        assert_eq!(check(&[15, 16]), 1, "the second was committed before the loss");
        assert_eq!(check(&[15, 25, 26]), 1, "the third found the second");
        assert_eq!(check(&[21, 25]), 1);
    }

    #[test]
    fn a_request_is_late_after_the_lease_or_beside_the_next_attempt() {
        let check = |sending_ns: u64, replaced: bool| {
            let mut lines = vec![
                (S, "started", "t", "a", "w1"),
                (2 * S, "called", "t", "a", "w1"),
                (6 * S, "lapsed", "", "", "w1"),
                (50 * S, "lapsed", "", "", "w1"),
            ];
            if replaced {
                lines.push((4 * S, "started", "t", "b", "w2"));
            }
            let (task, attempt) = ("t".into(), "a".into());
            let requests =
                [Request { task, attempt, sending_ns, read_ns: 60 * S, is_whole: false }];
            late(&RunLog::of(&lines), &requests, Duration::from_secs(1)).len()
        };
        assert_eq!(check(0, true), 0, "it is not known");
        assert_eq!(check(3 * S, true), 0);
        assert_eq!(check(5 * S, true), 1, "the next attempt has begun");
        assert_eq!(check(7 * S, false), 0, "within the margin");
        assert_eq!(check(7 * S + 1, false), 1);
    }
}
