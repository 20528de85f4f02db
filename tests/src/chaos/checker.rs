//! The judge: what the promises forbid, looked for in what was seen. It never asks the fleet.

use super::{
    between,
    nemesis::Fault,
    witness::{Run, Witness},
};
use std::{collections::BTreeSet, time::Duration};

/// How long before a fault a run's last line may lie if the run was going on when it struck. Guests
/// beat every millisecond; a busy machine may keep them waiting for some tenths of a second.
const STILL_RUNNING_NS: u64 = 500_000_000;

/// Two runs of one task that were going on at the same time.
#[derive(Debug)]
pub struct Overlap<'a> {
    /// Whose.
    pub task: &'a str,
    /// The one that began first.
    pub earlier: &'a Run,
    /// The one that began before the other had ended.
    pub later: &'a Run,
}

/// Every overlap in the journals.
pub fn overlaps(witness: &Witness) -> Vec<Overlap<'_>> {
    let mut found = Vec::new();
    for (task, runs) in witness.tasks() {
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

/// The runs that were going on at a worker that a fault struck, with their tasks.
fn struck<'a>(witness: &'a Witness, fault: &Fault) -> Vec<(&'a str, &'a Run)> {
    let hosts: BTreeSet<&str> = fault.blow.strikes().into_iter().collect();
    let going_on = |run: &Run| {
        hosts.contains(run.worker.as_str())
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
    witness.tasks().iter().flat_map(of_task).collect()
}

/// The faults that struck a worker while it ran something.
pub fn trials(witness: &Witness, faults: &[Fault]) -> usize {
    faults.iter().filter(|fault| !struck(witness, fault).is_empty()).count()
}

/// For every run that was silenced by a fault, with no other fault near: from the fault to the
/// replacement's first effect. `settle` is how long an earlier fault may have consequences.
pub fn failovers(witness: &Witness, faults: &[Fault], settle: Duration) -> Vec<Duration> {
    let mut found = Vec::new();
    for fault in faults.iter().filter(|fault| fault.blow.silences().is_some()) {
        for (task, old) in struck(witness, fault) {
            let later = witness.runs(task).iter().filter(|run| run.first_ns > fault.at_ns);
            let Some(new) = later.min_by_key(|run| run.first_ns) else { continue };
            let alone = faults.iter().all(|other| {
                other.number == fault.number
                    || other.at_ns > new.began_ns()
                    || between(other.healed_ns, fault.at_ns) > settle
            });
            // A run that outlived the fault was replaced for another reason.
            if alone && old.last_ns < fault.healed_ns {
                found.push(between(fault.at_ns, new.began_ns()));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::nemesis::Blow;

    const S: u64 = 1_000_000_000;

    fn fault(number: usize, at: u64, healed: u64, blow: Blow) -> Fault {
        Fault { number, at_ns: at * S, until_ns: healed * S, healed_ns: healed * S, blow }
    }

    #[test]
    fn runs_that_touch_are_an_overlap_and_runs_apart_are_none() {
        let check = |begins: u64| {
            let witness = Witness::of(&[
                (1, "started", "t", "a", "w1"),
                (5, "called", "t", "a", "w1"),
                // What the old worker says of the end of the lease is no run.
                (90, "lapsed", "t", "a", "w1"),
                (begins, "started", "t", "b", "w2"),
                (9, "ended", "t", "b", "w2"),
                (3, "started", "other", "c", "w2"),
            ]);
            overlaps(&witness).len()
        };
        assert_eq!(check(6), 0);
        assert_eq!(check(5), 1);
        assert_eq!(check(4), 1);
    }

    #[test]
    fn a_run_within_a_long_one_is_seen_however_many_come_between() {
        let witness = Witness::of(&[
            (1, "started", "t", "a", "w1"),
            (100, "called", "t", "a", "w1"),
            (10, "started", "t", "b", "w2"),
            (11, "called", "t", "b", "w2"),
            (50, "started", "t", "c", "w3"),
        ]);
        assert_eq!(overlaps(&witness).len(), 2);
    }

    #[test]
    fn the_same_attempt_twice_at_once_is_an_overlap() {
        let witness = Witness::of(&[
            (1, "started", "t", "a", "w1"),
            (5, "called", "t", "a", "w1"),
            (5, "started", "t", "a", "w1"),
        ]);
        assert_eq!(overlaps(&witness).len(), 1);
    }

    #[test]
    fn failover_is_measured_where_one_fault_alone_silenced_a_run() {
        let witness = Witness::of(&[
            (S, "started", "t", "a", "w1"),
            (10 * S - 1, "called", "t", "a", "w1"),
            (14 * S, "started", "t", "b", "w2"),
            (15 * S, "called", "t", "b", "w2"),
        ]);
        let stop = || Blow::Stop { host: "w1".into() };
        let settle = Duration::from_secs(5);
        let check = |faults: &[Fault]| failovers(&witness, faults, settle);
        assert_eq!(check(&[fault(1, 10, 20, stop())]), [Duration::from_secs(5)]);
        let master = || Blow::Stop { host: "m1".into() };
        assert!(check(&[fault(1, 10, 20, master())]).is_empty(), "no run was silenced");
        let with = |at, healed| check(&[fault(1, 10, 20, stop()), fault(2, at, healed, master())]);
        assert!(with(3, 6).is_empty(), "it was healed just before");
        assert!(with(12, 13).is_empty(), "it struck meanwhile");
        assert_eq!(with(2, 4).len(), 1);
        assert_eq!(with(16, 18).len(), 1);
        assert_eq!(trials(&witness, &[fault(1, 10, 20, stop()), fault(2, 2, 4, master())]), 1);
    }
}
