//! How long a task was without a worker, and where that time went: to the wait for the lease, to the
//! choice of a slot, and to the start of the code. Never judges what happened meanwhile.
//!
//! The slot takes about a millisecond, with one master as with several: the master that declared the
//! worker lost dispatches its tasks again at once. If the next process of the killed worker takes over
//! the lease, there is no wait for the lease.

use super::{
    FaultKind, between, checker::struck, nemesis::Fault, observer::Seen, percentile,
    run_log::RunLog,
};
use muster_protocol::lease::LeaseTiming;
use std::time::Duration;

/// A run that a fault silenced, and its replacement.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The fault's number.
    pub fault: usize,
    /// The task that was moved.
    pub task: String,
    /// From the fault to the first effect of the replacement.
    pub whole: Duration,
    /// The parts of that time. `None` if no master declared the worker lost, because its next process
    /// took over the lease first, or if the declaration was not observed.
    pub parts: Option<Parts>,
}

/// The parts of a failover, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// From the last observed renewal to the observation of `lost`.
    pub lease: Duration,
    /// From there to the observation of the task's record with the new attempt.
    pub slot: Duration,
    /// From there to the first effect of the new attempt's guest.
    pub code: Duration,
}

impl Parts {
    /// The limit of each part for 99 of 100 failovers. The lease may take `L_m` and the delay of one
    /// renewal. Together the parts may take half a second more than `L_m` with leases as long as
    /// `standard`, and a quarter of a second more with shorter ones.
    pub fn target(timing: LeaseTiming) -> Parts {
        let beyond = beyond(timing);
        Parts { lease: timing.master() + beyond / 2, slot: beyond / 5, code: beyond * 3 / 10 }
    }

    /// The parts of the failover from `worker` to an attempt of a task that began at `began_ns`.
    pub fn of(
        seen: &Seen,
        worker: &str,
        (task, attempt): (&str, &str),
        (struck_ns, began_ns): (u64, u64),
    ) -> Option<Parts> {
        let (_, stored_ns) = seen.dispatches.get(&(task.into(), attempt.into()))?;
        let within = |at_ns: &&u64| (struck_ns..=began_ns).contains(*at_ns);
        let lost_ns = seen.losses.get(worker)?.iter().find(within)?;
        let renewed_ns = seen.renewals.get(worker)?.iter().rfind(|at_ns| *at_ns <= lost_ns)?;
        Some(Parts {
            lease: between(*renewed_ns, *lost_ns),
            slot: between(*lost_ns, *stored_ns),
            code: between(*stored_ns, began_ns),
        })
    }
}

/// The limit for 99 of 100 failovers, from the fault to the first effect of the replacement.
pub fn target(timing: LeaseTiming) -> Duration {
    timing.master() + beyond(timing)
}

fn beyond(timing: LeaseTiming) -> Duration {
    Duration::from_millis(if timing.master() < Duration::from_secs(1) { 250 } else { 500 })
}

/// Every run that one fault silenced, with no other fault near it, and that was replaced. `settle` is
/// how long an earlier fault may have consequences after it was healed.
pub fn failovers(
    run_log: &RunLog,
    faults: &[Fault],
    seen: &Seen,
    settle: Duration,
) -> Vec<Failover> {
    let mut found = Vec::new();
    for fault in faults.iter().filter(|fault| fault.kind.silences().is_some()) {
        for (task, old) in struck(run_log, fault) {
            let later = run_log.runs(task).iter().filter(|run| run.first_ns > fault.at_ns);
            let Some(new) = later.min_by_key(|run| run.first_ns) else { continue };
            let alone = faults.iter().all(|other| {
                other.number == fault.number
                    || other.at_ns > new.began_ns()
                    || between(other.healed_ns, fault.at_ns) > settle
            });
            // A run that outlived the fault was replaced for another reason.
            if alone && old.last_ns < fault.healed_ns {
                let times = (fault.at_ns, new.began_ns());
                found.push(Failover {
                    fault: fault.number,
                    task: task.into(),
                    whole: between(times.0, times.1),
                    parts: Parts::of(seen, &old.worker, (task, &new.attempt), times),
                });
            }
        }
    }
    found.sort_by_key(|failover| failover.whole);
    found
}

/// Prints each part with its limit. Returns whether all parts are within their limits.
pub fn tell(name: &str, parts: &[Parts], timing: LeaseTiming) -> bool {
    let target = Parts::target(timing);
    type Part = fn(&Parts) -> Duration;
    let rows: [(&str, Part); 3] = [
        ("lease: last renewal to the lease seen lost", |parts| parts.lease),
        ("slot: lost to the new attempt stored", |parts| parts.slot),
        ("code: stored to the first effect", |parts| parts.code),
    ];
    let mut is_within = true;
    for (what, of) in rows {
        let mut times: Vec<Duration> = parts.iter().map(of).collect();
        times.sort();
        let at = |percent| percentile(&times, percent).unwrap_or_default();
        let is_met = at(99) <= of(&target);
        is_within &= is_met;
        println!(
            "{name}: {what:<44} n={} p50={:.3}s p99={:.3}s target={:.3}s{}",
            times.len(),
            at(50).as_secs_f64(),
            at(99).as_secs_f64(),
            of(&target).as_secs_f64(),
            if is_met { "" } else { " MISSED" },
        );
    }
    is_within
}

/// The name of the fault that silenced a worker.
pub fn cause(faults: &[Fault], number: usize) -> &'static str {
    faults
        .iter()
        .find(|fault| fault.number == number)
        .map_or("?", |fault| FaultKind::kind(&fault.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn fault(number: usize, at: u64, healed: u64, fault: FaultKind) -> Fault {
        Fault {
            number,
            at_ns: at * S,
            struck_ns: at * S,
            until_ns: healed * S,
            healed_ns: healed * S,
            times: 1,
            kind: fault,
        }
    }

    fn run_log() -> RunLog {
        RunLog::of(&[
            (S, "started", "t", "a", "w1"),
            (10 * S - 1, "called", "t", "a", "w1"),
            (14 * S, "started", "t", "b", "w2"),
            (15 * S, "called", "t", "b", "w2"),
        ])
    }

    fn stop(host: &str) -> FaultKind {
        FaultKind::Stop { host: host.into() }
    }

    #[test]
    fn it_is_measured_where_one_fault_alone_silenced_a_run() {
        let (run_log, seen) = (run_log(), Seen::default());
        let settle = Duration::from_secs(5);
        let check = |faults: &[Fault]| {
            let found = failovers(&run_log, faults, &seen, settle);
            found.into_iter().map(|failover| failover.whole).collect::<Vec<_>>()
        };
        assert_eq!(check(&[fault(1, 10, 20, stop("w1"))]), [Duration::from_secs(5)]);
        assert!(check(&[fault(1, 10, 20, stop("m1"))]).is_empty(), "no run was silenced");
        let with =
            |at, healed| check(&[fault(1, 10, 20, stop("w1")), fault(2, at, healed, stop("m1"))]);
        assert!(with(3, 6).is_empty(), "it was healed just before");
        assert!(with(12, 13).is_empty(), "it struck meanwhile");
        assert_eq!(with(2, 4).len(), 1);
        assert_eq!(with(16, 18).len(), 1);
    }

    #[test]
    fn its_parts_follow_each_other() {
        let mut seen = Seen::default();
        seen.renewals.insert("w1".into(), vec![8 * S, 9 * S, 16 * S]);
        seen.losses.insert("w1".into(), vec![3 * S, 12 * S]);
        seen.dispatches.insert(("t".into(), "b".into()), ("w2".into(), 13 * S));
        let found = failovers(&run_log(), &[fault(1, 10, 20, stop("w1"))], &seen, Duration::ZERO);
        let seconds = Duration::from_secs;
        let parts = Parts { lease: seconds(3), slot: seconds(1), code: seconds(2) };
        assert_eq!(found[0].parts, Some(parts));
        seen.losses.clear();
        let found = failovers(&run_log(), &[fault(1, 10, 20, stop("w1"))], &seen, Duration::ZERO);
        assert_eq!(found[0].parts, None, "its next life had the lease");
    }
}
