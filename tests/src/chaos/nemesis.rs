//! The nemesis: a seeded random choice of which fault strikes when. Never strikes a process that the
//! fleet did not start, and always heals its faults.

use super::{FaultKind, Rng, between, now_ns};
use crate::fleet::{Disk, DiskCopy, Fleet, STREAMS, Scarce};
use std::{collections::BTreeMap, time::Duration};

/// The most faults at the same time.
const ACTIVE_MAX: usize = 3;

/// The probability, in percent, that a node of the registry stays down for long.
const LONG_PERCENT: u64 = 15;

/// How long such a node stays down.
const LONG: Duration = Duration::from_secs(30);

/// How long a process that ended by itself stays down: the usual pause of a service manager.
const AGAIN: Duration = Duration::from_millis(500);

/// The age of the copy to which a disk is put back: the least and the most.
const FORGOTTEN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The least time from one loss of the registry's disk to the next. Masters that notice a loss dispatch
/// nothing for 65 s, and faults in an idle fleet show little.
const FORGET_EVERY: Duration = Duration::from_secs(150);

/// The probability, in percent, that all streams are put back instead of one.
const FORGETS_ALL_PERCENT: u64 = 25;

/// How long a node of a cluster is lost, at least and at most.
const NODE_AWAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));

/// The least and the longest phase of a fault that breaks connections several times.
const FLAP: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// The least and the longest phase of a node that is stopped again and again.
const STUTTER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// The most random choices that are discarded, where only one kind of fault is wanted.
const CHOICES_MAX: usize = 1_000;

/// How often the registry's log is checked for restored streams.
const READ_EVERY: Duration = Duration::from_millis(250);

/// A fault that was injected, with its times by the boot clock.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The number of the fault, from 1.
    pub number: usize,
    /// When it struck.
    pub at_ns: u64,
    /// When the injection was complete: a killed process was dead by then.
    pub struck_ns: u64,
    /// When it is due to be healed.
    pub until_ns: u64,
    /// When it was healed; `u64::MAX` until then.
    pub healed_ns: u64,
    /// How often it struck: more than once if the fault recurs.
    pub times: usize,
    /// The kind of the fault.
    pub kind: FaultKind,
}

/// What the nemesis strikes, and how long.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The nodes of the registry. No two of them are struck at the same time.
    pub nodes: Vec<String>,
    /// The masters' names.
    pub masters: Vec<String>,
    /// The workers' names.
    pub workers: Vec<String>,
    /// The options with which each worker is started.
    pub options: BTreeMap<String, Vec<String>>,
    /// The longest duration of a stop or a cut.
    pub longest: Duration,
    /// The probability, in percent, that the next fault waits until the last one has no more
    /// consequences. Only then can a failover be measured.
    pub alone_percent: u64,
    /// How long a fault may have consequences after it was healed.
    pub settle: Duration,
    /// If set, the only kind of fault that is injected.
    pub only: Option<String>,
}

/// The nemesis.
pub struct Nemesis {
    rng: Rng,
    targets: Targets,
    partners: Vec<String>,
    faults: Vec<Fault>,
    began_ns: u64,
    next_ns: u64,
    /// When each host that does not run may be started again, by the boot clock.
    again: BTreeMap<String, u64>,
    /// For each recurring fault: whether it strikes now, and until when.
    beats: BTreeMap<usize, (bool, u64)>,
    /// The copy to which the disk of the registry will be put back, and when.
    planned: Option<(DiskCopy, u64)>,
    /// The copy to which the disk was put back, until the registry has logged that it restored the
    /// streams. With the time of the next check.
    unconfirmed: Option<(DiskCopy, u64)>,
    restored: usize,
}

impl Nemesis {
    /// A nemesis that has not injected anything yet.
    pub fn new(rng: Rng, field: Targets) -> Self {
        let hosts = field.nodes.iter().chain(&field.masters).chain(&field.workers);
        let partners = hosts.cloned().collect();
        let now = now_ns();
        let next_ns = now + nanos(field.settle);
        Nemesis {
            rng,
            targets: field,
            partners,
            faults: Vec::new(),
            began_ns: now,
            next_ns,
            again: BTreeMap::new(),
            beats: BTreeMap::new(),
            planned: None,
            unconfirmed: None,
            restored: 0,
        }
    }

    /// All faults so far.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// How many streams the registry has restored from the copies.
    pub fn restored(&self) -> usize {
        self.restored
    }

    /// Injects or heals faults that are due.
    pub fn go_on(&mut self, fleet: &mut Fleet) {
        let now = now_ns();
        for at in 0..self.faults.len() {
            if self.faults[at].healed_ns == u64::MAX && self.faults[at].until_ns <= now {
                self.heal(at, fleet);
            }
        }
        self.beat(fleet);
        self.tend(fleet);
        if let Some((copy, _)) = self.planned.take_if(|(_, due)| *due <= now) {
            self.forget(copy, fleet);
        }
        if now >= self.next_ns && self.active().count() < ACTIVE_MAX {
            self.strike(fleet);
        }
    }

    /// Heals everything at once.
    pub fn relent(&mut self, fleet: &mut Fleet) {
        for at in 0..self.faults.len() {
            if self.faults[at].healed_ns == u64::MAX {
                self.heal(at, fleet);
            }
        }
        self.planned = None;
        self.again.values_mut().for_each(|at| *at = 0);
        self.tend(fleet);
    }

    /// Starts hosts that have ended again, when they are due.
    pub fn tend(&mut self, fleet: &mut Fleet) {
        let now = now_ns();
        for (name, status) in fleet.bury() {
            let meant = self.active().any(|fault| fault.kind.strikes().contains(&name.as_str()));
            if !meant {
                self.say(&format!("{name} has ended by itself: {status}"));
            }
            self.again.entry(name).or_insert(now + nanos(AGAIN));
        }
        let due: Vec<String> =
            self.again.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.again.remove(&name);
            if self.targets.nodes.contains(&name) {
                fleet.launch_nats(&name);
            } else if let Some(options) = self.targets.options.get(&name) {
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                fleet.launch_worker(&name, &options);
            } else {
                fleet.launch_master(&name);
            }
        }
        self.confirm(fleet);
    }

    /// Whether all hosts run.
    pub fn is_whole(&self, fleet: &Fleet) -> bool {
        self.partners.iter().all(|host| fleet.runs(host))
    }

    fn active(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.healed_ns == u64::MAX)
    }

    fn beat(&mut self, fleet: &mut Fleet) {
        let now = now_ns();
        for (number, (is_struck, until_ns)) in &mut self.beats {
            let fault = &mut self.faults[number - 1];
            if *until_ns <= now {
                *is_struck = !*is_struck;
                fault.kind.beat(fleet, *is_struck);
                fault.times += usize::from(*is_struck);
                *until_ns = now + fault.kind.beats(*is_struck).map_or(0, nanos);
            }
        }
    }

    /// Counts the streams that were put back and that the registry has restored.
    fn confirm(&mut self, fleet: &Fleet) {
        let Some((copy, at_ns)) = &mut self.unconfirmed else { return };
        let now = now_ns();
        if *at_ns > now || !fleet.runs(&copy.node) {
            return;
        }
        *at_ns = now + nanos(READ_EVERY);
        let found = fleet.restored(copy);
        if found == copy.streams.len() {
            self.restored += found;
            self.unconfirmed = None;
        }
    }

    fn strike(&mut self, fleet: &mut Fleet) {
        let only = self.targets.only.clone();
        let mut choices = (0..CHOICES_MAX).map(|_| self.choose(fleet));
        let wanted = choices.find(|(kind, ..)| only.as_ref().is_none_or(|only| only == kind));
        let (kind, fault, lasts) = wanted.unwrap_or(("none", None, Duration::ZERO));
        let Some(fault) = fault else {
            if kind == "forget" {
                self.plan(fleet);
            }
            self.next_ns = now_ns() + nanos(AGAIN);
            return;
        };
        if !self.is_free(&fault, fleet) {
            self.next_ns = now_ns() + nanos(AGAIN);
            return;
        }
        self.land(fault, lasts, fleet);
    }

    /// Whether no other active fault strikes the same hosts, and none strikes another node of the
    /// registry.
    fn is_free(&self, fault: &FaultKind, fleet: &Fleet) -> bool {
        let is_of_node = |fault: &FaultKind| {
            let strikes = fault.strikes();
            !fault.is_of_ways() && self.targets.nodes.iter().any(|node| strikes.contains(&&**node))
        };
        let mut active = self.active().map(|fault| &fault.kind);
        active.all(|other| fault.goes_with(other) && !(is_of_node(fault) && is_of_node(other)))
            && fault.strikes().into_iter().all(|host| fleet.runs(host))
    }

    fn land(&mut self, fault: FaultKind, lasts: Duration, fleet: &mut Fleet) {
        let number = self.faults.len() + 1;
        self.say(&format!("#{number} {fault:?} for {lasts:.1?}"));
        let at_ns = now_ns();
        fault.strike(fleet, &self.partners);
        let struck_ns = now_ns();
        let until_ns = at_ns + nanos(lasts);
        if let Some(host) = fault.ends() {
            self.again.insert(host.into(), until_ns);
        }
        if let Some(beat) = fault.beats(true) {
            self.beats.insert(number, (true, struck_ns + nanos(beat)));
        }
        if let FaultKind::Forget { copy } = &fault {
            self.unconfirmed = Some((copy.clone(), until_ns));
        }
        let (healed_ns, times) = (u64::MAX, 1);
        self.faults.push(Fault {
            number,
            at_ns,
            struck_ns,
            until_ns,
            healed_ns,
            times,
            kind: fault,
        });
        let pause = self.rng.time(Duration::from_millis(300), Duration::from_secs(4));
        self.next_ns = if self.rng.percent(self.targets.alone_percent) {
            // A killed process also needs time to start again.
            let all = self.active().map(|fault| fault.until_ns).max().unwrap_or(at_ns);
            all + nanos(self.targets.settle + pause)
        } else {
            at_ns + nanos(pause)
        };
    }

    fn heal(&mut self, at: usize, fleet: &mut Fleet) {
        let Fault { number, kind: fault, times, .. } = self.faults[at].clone();
        self.beats.remove(&number);
        fault.heal(fleet, &self.partners);
        self.faults[at].healed_ns = now_ns();
        if let Some(host) = fault.restarts() {
            self.again.entry(host.into()).or_insert_with(now_ns);
        }
        let often =
            if times > 1 { format!(", having struck {times} times") } else { String::new() };
        self.say(&format!("#{number} is over{often}"));
    }

    /// Copies what the registry's disk has now. Later the disk is put back to this copy.
    fn plan(&mut self, fleet: &Fleet) {
        let stream = *self.rng.one(&STREAMS);
        let stream = (!self.rng.percent(FORGETS_ALL_PERCENT)).then_some(stream);
        let age = self.rng.time(FORGOTTEN.0, FORGOTTEN.1);
        let node = &self.targets.nodes[0];
        let latest = self.faults.iter().rfind(|fault| fault.kind.concerns_all());
        let is_early = self.targets.only.is_none()
            && latest.is_some_and(|fault| between(fault.at_ns, now_ns()) < FORGET_EVERY);
        if self.planned.is_some() || is_early || !fleet.runs(node) {
            return;
        }
        match fleet.copy_disk(node, stream) {
            Ok(copy) => self.planned = Some((copy, now_ns() + nanos(age))),
            Err(error) => self.say(&format!("the disk of {node} could not be copied: {error}")),
        }
    }

    fn forget(&mut self, copy: DiskCopy, fleet: &mut Fleet) {
        let away = self.rng.time(Duration::ZERO, self.targets.longest * 2 / 3);
        let fault = FaultKind::Forget { copy };
        let FaultKind::Forget { copy } = &fault else { return };
        if fleet.is_of(copy) && self.is_free(&fault, fleet) {
            self.land(fault, away, fleet);
        } else {
            fleet.discard(copy);
        }
    }

    /// Draws the next fault: its kind, the fault, and its duration. There is no fault if it cannot
    /// strike now, or if it has to be prepared first.
    fn choose(&mut self, fleet: &Fleet) -> (&'static str, Option<FaultKind>, Duration) {
        let Targets { nodes, masters, workers, longest, .. } = &self.targets;
        let rng = &mut self.rng;
        let lasts = rng.time(*longest / 12, *longest);
        let away = rng.time(Duration::ZERO, *longest * 2 / 3);
        let worker = rng.one(workers).clone();
        let master = rng.one(masters).clone();
        let node = rng.one(nodes).clone();
        let away_node = if rng.percent(LONG_PERCENT) { LONG } else { away };
        let (one, two) = (rng.time(FLAP.0, FLAP.1), rng.time(FLAP.0, FLAP.1));
        let is_alone = nodes.len() == 1;
        let (fault, lasts) = match rng.within(0, 100) {
            0..10 => (FaultKind::Kill { host: worker }, away),
            10..13 => (FaultKind::Crash { host: worker }, Duration::ZERO),
            13..26 => (FaultKind::Stop { host: worker }, lasts),
            26..39 => (FaultKind::Isolate { host: worker }, lasts),
            39..46 => (FaultKind::Kill { host: master }, away),
            46..52 => (FaultKind::Stop { host: master }, lasts),
            52..56 if is_alone => (FaultKind::Kill { host: node }, away_node),
            // Longer than the cluster needs to elect another leader.
            52..64 if !is_alone => {
                let fault = match rng.within(0, 5) {
                    0 => FaultKind::Kill { host: node },
                    1 => FaultKind::Stop { host: node },
                    2 => FaultKind::Part { host: node },
                    3 => FaultKind::End { host: node },
                    _ => FaultKind::Isolate { host: node },
                };
                (fault, rng.time(NODE_AWAY.0, NODE_AWAY.1))
            }
            56..60 => (FaultKind::End { host: node }, away_node),
            60..67 if is_alone => return ("forget", None, Duration::ZERO),
            60..67 => {
                let stopped = rng.time(STUTTER.0, STUTTER.1);
                let running = rng.time(STUTTER.0, STUTTER.1);
                (FaultKind::Stutter { host: node, stopped, running }, lasts)
            }
            67..76 => {
                let host = if rng.percent(50) { worker } else { master };
                (FaultKind::Flap { host, node, broken: one, whole: two }, lasts / 2)
            }
            76..83 => {
                let crashes = rng.percent(50);
                let share = rng.within(0, 120);
                let what = if rng.percent(50) { Scarce::Processes } else { Scarce::Files };
                let what = if what.can_be() { what } else { Scarce::Files };
                let Some(open) = fleet.open_files(&worker) else {
                    return ("few_files", None, Duration::ZERO);
                };
                // The limit lies between no new files at all and a few more than the process has open.
                let most = if what == Scarce::Files { open as u64 * share / 100 } else { 1 };
                (FaultKind::Starve { host: worker, what, most, crashes }, lasts)
            }
            83..88 if !fleet.has_disks() => return ("full_log", None, Duration::ZERO),
            83..88 => {
                let is_registry = rng.percent(40);
                let disk = if is_registry || rng.percent(50) { Disk::State } else { Disk::Log };
                let other = if rng.percent(50) { worker } else { master };
                let host = if is_registry { node } else { other };
                (FaultKind::Fill { host, disk, is_registry }, lasts)
            }
            _ => {
                let mut pairs = vec![
                    (worker.clone(), master.clone()),
                    (worker, node.clone()),
                    (master, node.clone()),
                ];
                let other = rng.one(nodes).clone();
                if other != node {
                    pairs.push((other, node));
                }
                let (a, b) = rng.one(&pairs).clone();
                let (from, to) = if rng.percent(50) { (a, b) } else { (b, a) };
                (FaultKind::Cut { from, to, both: rng.percent(40) }, lasts)
            }
        };
        (fault.kind(), Some(fault), lasts)
    }

    fn say(&self, what: &str) {
        let at = between(self.began_ns, now_ns());
        println!("[{:>6.1} s] {what}", at.as_secs_f64());
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
