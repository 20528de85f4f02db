//! What strikes a fleet: kills, stops and cuts, chosen by a seed, and their end. It strikes only what
//! the fleet started, and always heals what it struck.

use super::{Chance, now_ns};
use crate::{
    fleet::{Fleet, NATS},
    net,
};
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Faults at the same time.
const ACTIVE_MAX: usize = 3;

/// How often in a hundred nats-server stays away for long.
const LONG_PERCENT: u64 = 15;

/// How long that is.
const LONG: Duration = Duration::from_secs(30);

/// How long what ended by itself stays away: a service manager's usual pause.
const AGAIN: Duration = Duration::from_millis(500);

/// A kind of fault, and whom it hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL, and a new start afterwards.
    Kill {
        /// Whom.
        host: String,
    },
    /// SIGKILL to a worker's process alone; its supervisor starts another one.
    Crash {
        /// Whom.
        host: String,
    },
    /// SIGTERM, and a new start afterwards.
    End {
        /// Whom.
        host: String,
    },
    /// SIGSTOP, and SIGCONT afterwards.
    Stop {
        /// Whom.
        host: String,
    },
    /// Everything in one direction, or in both, is lost between two hosts.
    Cut {
        /// Who is not heard.
        from: String,
        /// By whom.
        to: String,
        /// Nor the other way.
        both: bool,
    },
    /// Everything to and from a worker is lost.
    Isolate {
        /// Whom.
        host: String,
    },
}

impl Blow {
    /// Whom it strikes.
    pub fn strikes(&self) -> Vec<&str> {
        match self {
            Blow::Kill { host }
            | Blow::Crash { host }
            | Blow::End { host }
            | Blow::Stop { host }
            | Blow::Isolate { host } => vec![host],
            Blow::Cut { from, to, .. } => vec![from, to],
        }
    }

    /// Whom nobody hears any more, if that is what it does.
    pub fn silences(&self) -> Option<&str> {
        match self {
            Blow::Kill { host } | Blow::Stop { host } | Blow::Isolate { host } => Some(host),
            Blow::Crash { .. } | Blow::End { .. } | Blow::Cut { .. } => None,
        }
    }

    /// Strikes; `partners` are those that workers talk to.
    pub fn strike(&self, fleet: &mut Fleet, partners: &[String]) {
        match self {
            Blow::Kill { host } => fleet.kill(host),
            Blow::Crash { host } => fleet.crash(host),
            Blow::End { host } => fleet.signal(host, Signal::TERM),
            Blow::Stop { host } => fleet.signal(host, Signal::STOP),
            Blow::Cut { .. } | Blow::Isolate { .. } => {
                fleet.net().cut(&self.lost_ways(partners));
            }
        }
    }

    /// Ends a stop or a cut. Who was killed is started again by [`Nemesis::tend`].
    pub fn heal(&self, fleet: &mut Fleet, partners: &[String]) {
        match self {
            Blow::Kill { .. } | Blow::Crash { .. } | Blow::End { .. } => {}
            Blow::Stop { host } => {
                // The kernel may have killed it in the meantime.
                if fleet.runs(host) {
                    fleet.signal(host, Signal::CONT);
                }
            }
            Blow::Cut { .. } | Blow::Isolate { .. } => {
                fleet.net().heal(&self.lost_ways(partners));
            }
        }
    }

    fn lost_ways<'a>(&'a self, partners: &'a [String]) -> Vec<(&'a str, &'a str)> {
        match self {
            Blow::Cut { from, to, both: false } => vec![(from, to)],
            Blow::Cut { from, to, both: true } => net::around(from, [to.as_str()]),
            Blow::Isolate { host } => net::around(host, partners.iter().map(String::as_str)),
            _ => Vec::new(),
        }
    }

    /// Whether this and another can be at the same time: a host is struck by one fault at a time, but
    /// more than one of its ways may be cut.
    fn goes_with(&self, other: &Blow) -> bool {
        let hosts =
            |blow: &Blow| blow.strikes().into_iter().map(String::from).collect::<BTreeSet<_>>();
        let (mine, others) = (hosts(self), hosts(other));
        let cuts = matches!((self, other), (Blow::Cut { .. }, Blow::Cut { .. }));
        if cuts { mine != others } else { mine.is_disjoint(&others) }
    }
}

/// A blow, and when.
#[derive(Clone, Debug)]
pub struct Fault {
    /// 1 for the first.
    pub number: usize,
    /// When it struck.
    pub at_ns: u64,
    /// When it is to be healed.
    pub until_ns: u64,
    /// When it was; for ever in the future where it was not.
    pub healed_ns: u64,
    /// What.
    pub blow: Blow,
}

/// Who it strikes, and in what times.
#[derive(Clone, Debug)]
pub struct Field {
    /// The masters' names.
    pub masters: Vec<String>,
    /// The workers' names.
    pub workers: Vec<String>,
    /// How the workers are started.
    pub options: BTreeMap<String, Vec<String>>,
    /// The longest stop or cut.
    pub longest: Duration,
    /// How often in a hundred the next fault waits until the last one has no consequences any more:
    /// only then can a failover be measured.
    pub alone_percent: u64,
    /// How long a fault may have consequences after it was healed.
    pub settle: Duration,
}

/// The one who strikes.
pub struct Nemesis {
    chance: Chance,
    field: Field,
    partners: Vec<String>,
    faults: Vec<Fault>,
    began_ns: u64,
    next_ns: u64,
    /// When each host that does not run may be started again.
    again: BTreeMap<String, u64>,
}

impl Nemesis {
    /// One that has not struck yet.
    pub fn new(chance: Chance, field: Field) -> Self {
        let nats = std::iter::once(NATS.to_string());
        let partners = nats.chain(field.masters.iter().cloned()).collect();
        let (faults, again) = (Vec::new(), BTreeMap::new());
        let now = now_ns();
        let next_ns = now + nanos(field.settle);
        Nemesis { chance, field, partners, faults, began_ns: now, next_ns, again }
    }

    /// All that was done.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Strikes or heals, if it is time to.
    pub fn go_on(&mut self, fleet: &mut Fleet) {
        let now = now_ns();
        for at in 0..self.faults.len() {
            if self.faults[at].healed_ns == u64::MAX && self.faults[at].until_ns <= now {
                self.heal(at, fleet);
            }
        }
        self.tend(fleet);
        if now >= self.next_ns && self.active().count() < ACTIVE_MAX {
            self.strike(fleet);
        }
    }

    /// Heals everything, at once.
    pub fn relent(&mut self, fleet: &mut Fleet) {
        for at in 0..self.faults.len() {
            if self.faults[at].healed_ns == u64::MAX {
                self.heal(at, fleet);
            }
        }
        self.again.values_mut().for_each(|at| *at = 0);
        self.tend(fleet);
    }

    /// Starts whoever has ended, once its time has come.
    pub fn tend(&mut self, fleet: &mut Fleet) {
        let now = now_ns();
        for (name, status) in fleet.bury() {
            let meant = self.active().any(|fault| fault.blow.strikes().contains(&name.as_str()));
            if !meant {
                self.say(&format!("{name} has ended by itself: {status}"));
            }
            self.again.entry(name).or_insert(now + nanos(AGAIN));
        }
        let due: Vec<String> =
            self.again.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.again.remove(&name);
            if name == NATS {
                fleet.launch_nats();
            } else if let Some(options) = self.field.options.get(&name) {
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                fleet.launch_worker(&name, &options);
            } else {
                fleet.launch_master(&name);
            }
        }
    }

    /// Whether everybody runs.
    pub fn is_whole(&self, fleet: &Fleet) -> bool {
        self.partners.iter().chain(&self.field.workers).all(|host| fleet.runs(host))
    }

    fn active(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.healed_ns == u64::MAX)
    }

    fn strike(&mut self, fleet: &mut Fleet) {
        let (blow, lasts) = self.choose();
        let now = now_ns();
        let free = self.active().all(|fault| fault.blow.goes_with(&blow));
        if !free || blow.strikes().into_iter().any(|host| !fleet.runs(host)) {
            self.next_ns = now + nanos(AGAIN);
            return;
        }
        let number = self.faults.len() + 1;
        self.say(&format!("#{number} {blow:?} for {lasts:.1?}"));
        let at_ns = now_ns();
        blow.strike(fleet, &self.partners);
        let until_ns = at_ns + nanos(lasts);
        if let Blow::Kill { host } | Blow::End { host } = &blow {
            self.again.insert(host.clone(), until_ns);
        }
        self.faults.push(Fault { number, at_ns, until_ns, healed_ns: u64::MAX, blow });
        let pause = self.chance.time(Duration::from_millis(300), Duration::from_secs(4));
        self.next_ns = if self.chance.percent(self.field.alone_percent) {
            // A killed process needs its time to begin again, too.
            let all = self.active().map(|fault| fault.until_ns).max().unwrap_or(at_ns);
            all + nanos(self.field.settle + pause)
        } else {
            at_ns + nanos(pause)
        };
    }

    fn heal(&mut self, at: usize, fleet: &mut Fleet) {
        let Fault { number, blow, .. } = self.faults[at].clone();
        blow.heal(fleet, &self.partners);
        self.faults[at].healed_ns = now_ns();
        self.say(&format!("#{number} is over"));
    }

    fn choose(&mut self) -> (Blow, Duration) {
        let Field { masters, workers, longest, .. } = &self.field;
        let chance = &mut self.chance;
        let lasts = chance.time(*longest / 12, *longest);
        let away = chance.time(Duration::ZERO, *longest * 2 / 3);
        let worker = chance.one(workers).clone();
        let master = chance.one(masters).clone();
        let nats = NATS.to_string();
        let away_nats = if chance.percent(LONG_PERCENT) { LONG } else { away };
        match chance.within(0, 100) {
            0..12 => (Blow::Kill { host: worker }, away),
            12..15 => (Blow::Crash { host: worker }, Duration::ZERO),
            15..32 => (Blow::Stop { host: worker }, lasts),
            32..49 => (Blow::Isolate { host: worker }, lasts),
            49..57 => (Blow::Kill { host: master }, away),
            57..65 => (Blow::Stop { host: master }, lasts),
            65..69 => (Blow::Kill { host: nats }, away_nats),
            69..73 => (Blow::End { host: nats }, away_nats),
            _ => {
                let pairs =
                    [(worker.clone(), master.clone()), (worker, nats.clone()), (master, nats)];
                let (a, b) = chance.one(&pairs).clone();
                let (from, to) = if chance.percent(50) { (a, b) } else { (b, a) };
                (Blow::Cut { from, to, both: chance.percent(40) }, lasts)
            }
        }
    }

    fn say(&self, what: &str) {
        let at = super::between(self.began_ns, now_ns());
        println!("[{:>6.1} s] {what}", at.as_secs_f64());
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
