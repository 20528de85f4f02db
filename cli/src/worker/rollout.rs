//! The order of an upgrade of many workers: which are next, when it waits, and when it is undone. Never talks to a
//! master.

use muster_protocol::{Digest, WorkerId, api::WorkerView, upgrade::ProgramReport};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    str::FromStr,
    time::Duration,
};
use tokio::time::Instant;

/// The fewest runs that are judged, unless told otherwise.
const RUNS_MIN: u64 = 3;

/// When too many runs of upgraded workers have failed: `failed>5%,min=3`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AbortIf {
    /// The share of failed runs, in percent, that may not be exceeded.
    percent: f64,
    /// As long as fewer runs have ended, nothing is decided.
    min: u64,
}

impl AbortIf {
    fn is_met(self, runs: u64, failed: u64) -> bool {
        runs >= self.min.max(1) && failed as f64 * 100.0 > self.percent * runs as f64
    }
}

impl FromStr for AbortIf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || String::from("it is written failed>PERCENT% or failed>PERCENT%,min=RUNS");
        let (share, min) = text.split_once(',').unwrap_or((text, ""));
        let percent = share.trim().strip_prefix("failed>").and_then(|text| text.strip_suffix('%'));
        let percent = percent.and_then(|text| text.trim().parse().ok()).ok_or_else(form)?;
        let min = match min.trim() {
            "" => RUNS_MIN,
            min => min.strip_prefix("min=").and_then(|text| text.parse().ok()).ok_or_else(form)?,
        };
        match (0.0..=100.0).contains(&percent) {
            true => Ok(AbortIf { percent, min }),
            false => Err("a share has from 0 to 100 percent".into()),
        }
    }
}

impl fmt::Display for AbortIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed>{}%,min={}", self.percent, self.min)
    }
}

/// How the workers are upgraded.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many are upgraded first; the others follow when these run the program.
    pub canaries: usize,
    /// How many of the others are upgraded at once.
    pub at_once: usize,
    /// When to undo it.
    pub abort_if: Option<AbortIf>,
    /// How long the runs of the first ones are watched.
    pub watch: Duration,
    /// How long one worker may take.
    pub within: Duration,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Let these workers run the program.
    Upgrade(Vec<WorkerId>),
    /// Look again later.
    Wait,
    /// Every worker runs it.
    Done,
    /// Undo it on the workers that were upgraded, for this reason.
    Abort(String),
}

/// An upgrade that is under way.
#[derive(Debug)]
pub struct Rollout {
    program: Digest,
    pace: Pace,
    waiting: VecDeque<WorkerId>,
    /// The number of the upgrade that each of these carries out, and when it was told.
    under_way: BTreeMap<WorkerId, (u64, Instant)>,
    /// Those that run the program because they were told. Their runs since then are counted.
    done: BTreeSet<WorkerId>,
    /// Until when the first ones are watched.
    watched: Option<Instant>,
}

impl Rollout {
    /// Upgrades these workers in this order.
    pub fn new(program: Digest, pace: Pace, workers: Vec<WorkerId>) -> Self {
        let (waiting, under_way) = (workers.into(), BTreeMap::new());
        Rollout { program, pace, waiting, under_way, done: BTreeSet::new(), watched: None }
    }

    /// A worker was told to run the program, by the upgrade of this number.
    pub fn told(&mut self, now: Instant, worker: WorkerId, number: u64) {
        self.under_way.insert(worker, (number, now));
    }

    /// The workers that were told by this rollout, and may run the program.
    pub fn touched(&self) -> impl Iterator<Item = &WorkerId> {
        self.under_way.keys().chain(&self.done)
    }

    /// The workers that run the program.
    pub fn done(&self) -> impl Iterator<Item = &WorkerId> {
        self.done.iter()
    }

    /// How many run the program.
    pub fn upgraded(&self) -> usize {
        self.done.len()
    }

    /// Decides by what the workers' leases say.
    pub fn step(&mut self, now: Instant, views: &[WorkerView]) -> Step {
        let report = |worker: &WorkerId| {
            let view = views.iter().find(|view| view.lease.worker == *worker)?;
            view.lease.program.as_ref().filter(|_| view.lease.state.is_held())
        };
        let mut ended = Vec::new();
        for (worker, &(number, told)) in &self.under_way {
            match report(worker) {
                Some(report) if report.number > number => {
                    return Step::Abort(format!("{worker} was given another upgrade meanwhile"));
                }
                Some(ProgramReport { number: of, failed: Some(reason), .. }) if *of == number => {
                    return Step::Abort(format!("{worker} gave it up: {reason}"));
                }
                Some(report) if report.number == number && report.digest == Some(self.program) => {
                    ended.push(worker.clone());
                }
                _ if now > told + self.pace.within => {
                    let within = self.pace.within;
                    return Step::Abort(format!(
                        "{worker} has not carried it out within {within:?}"
                    ));
                }
                _ => {}
            }
        }
        for worker in ended {
            self.under_way.remove(&worker);
            self.done.insert(worker);
        }
        let counts = self
            .done
            .iter()
            .filter_map(report)
            .filter(|report| report.digest == Some(self.program));
        let (runs, failed) = counts.fold((0, 0), |(runs, failed), report| {
            (runs + report.runs, failed + report.runs_failed)
        });
        if let Some(abort_if) = self.pace.abort_if.filter(|abort| abort.is_met(runs, failed)) {
            return Step::Abort(format!(
                "{failed} of {runs} runs of upgraded workers failed ({abort_if})"
            ));
        }
        self.next(now)
    }

    fn next(&mut self, now: Instant) -> Step {
        let begun = self.done.len() + self.under_way.len();
        if self.under_way.is_empty() && (begun >= self.pace.canaries || self.waiting.is_empty()) {
            let watch = self.pace.abort_if.map_or(Duration::ZERO, |_| self.pace.watch);
            let until = *self.watched.get_or_insert(now + watch);
            if now < until {
                return Step::Wait;
            }
        }
        let most = match begun < self.pace.canaries || self.watched.is_none() {
            true => self.pace.canaries.saturating_sub(begun),
            false => self.pace.at_once.saturating_sub(self.under_way.len()),
        };
        let next: Vec<WorkerId> = self.waiting.drain(..most.min(self.waiting.len())).collect();
        match (next.is_empty(), self.under_way.is_empty() && self.waiting.is_empty()) {
            (false, _) => Step::Upgrade(next),
            (true, true) => Step::Done,
            (true, false) => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{SessionId, lease::Lease};

    const NEW: Digest = Digest([7; 32]);

    fn name(worker: &str) -> WorkerId {
        worker.parse().expect("a name")
    }

    /// A worker that has carried out an upgrade, with the runs since.
    fn view(worker: &str, number: u64, runs: u64, runs_failed: u64) -> WorkerView {
        let mut lease = Lease::new(name(worker), SessionId(1));
        let (digest, failed) = ((number > 0).then_some(NEW), None);
        lease.program = Some(ProgramReport { digest, number, failed, runs, runs_failed });
        let (transport, denied, upgrade) = (None, None, None);
        WorkerView {
            lease,
            revision: 1,
            linked: true,
            transport,
            denied,
            attempts: vec![],
            upgrade,
        }
    }

    fn rollout(workers: &[&str], abort_if: Option<&str>) -> Rollout {
        let pace = Pace {
            canaries: 1,
            at_once: 2,
            abort_if: abort_if.map(|text| text.parse().expect("a condition")),
            watch: Duration::from_secs(60),
            within: Duration::from_secs(100),
        };
        Rollout::new(NEW, pace, workers.iter().map(|worker| name(worker)).collect())
    }

    fn upgrade(workers: &[&str]) -> Step {
        Step::Upgrade(workers.iter().map(|worker| name(worker)).collect())
    }

    #[test]
    fn the_others_follow_when_the_canary_runs_and_was_watched() {
        let now = Instant::now();
        let mut rollout = rollout(&["a", "b", "c", "d"], Some("failed>5%"));
        assert_eq!(rollout.step(now, &[]), upgrade(&["a"]));
        rollout.told(now, name("a"), 1);
        assert_eq!(rollout.step(now, &[view("a", 0, 0, 0)]), Step::Wait);
        assert_eq!(rollout.step(now, &[view("a", 1, 2, 1)]), Step::Wait, "too few runs to judge");
        let later = now + Duration::from_secs(59);
        assert_eq!(rollout.step(later, &[view("a", 1, 100, 5)]), Step::Wait, "it is watched");
        let later = now + Duration::from_secs(60);
        assert_eq!(rollout.step(later, &[view("a", 1, 100, 5)]), upgrade(&["b", "c"]));
        rollout.told(later, name("b"), 1);
        rollout.told(later, name("c"), 1);
        let views = [view("a", 1, 100, 5), view("b", 1, 0, 0), view("c", 0, 0, 0)];
        assert_eq!(rollout.step(later, &views), upgrade(&["d"]));
        rollout.told(later, name("d"), 9);
        let views =
            [view("a", 1, 0, 0), view("b", 1, 0, 0), view("c", 1, 0, 0), view("d", 9, 0, 0)];
        assert_eq!(rollout.step(later, &views), Step::Done);
        assert_eq!(rollout.upgraded(), 4);
    }

    #[test]
    fn it_is_undone_where_it_went() {
        let aborts = |view: WorkerView, after: u64, why: &str| {
            let now = Instant::now();
            let mut rollout = rollout(&["a", "b"], Some("failed>5%,min=3"));
            assert_eq!(rollout.step(now, &[]), upgrade(&["a"]));
            rollout.told(now, name("a"), 1);
            let step = rollout.step(now + Duration::from_secs(after), &[view]);
            assert!(
                matches!(&step, Step::Abort(reason) if reason.contains(why)),
                "{why}: {step:?}"
            );
            assert_eq!(rollout.touched().collect::<Vec<_>>(), [&name("a")]);
        };
        aborts(view("a", 1, 3, 1), 0, "1 of 3 runs");
        aborts(view("a", 2, 0, 0), 0, "another upgrade");
        aborts(view("a", 0, 0, 0), 101, "within");
        let mut failed = view("a", 1, 0, 0);
        failed.lease.program.as_mut().expect("a report").fails(1, "no link");
        aborts(failed, 0, "a gave it up: no link");
    }

    #[test]
    fn a_condition_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("failed>5%", "failed>5%,min=3"),
            ("failed>0.5%,min=10", "failed>0.5%,min=10"),
            ("failed>0%, min=1", "failed>0%,min=1"),
        ] {
            assert_eq!(text.parse::<AbortIf>().map(|abort| abort.to_string()), Ok(shown.into()));
        }
        for text in ["", "failed>5", "failed>x%", "failed>5%,3", "failed>101%", "lost>5%"] {
            assert!(text.parse::<AbortIf>().is_err(), "{text}");
        }
    }
}
