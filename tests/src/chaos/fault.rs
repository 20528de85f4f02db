//! The kinds of faults, what each does to a fleet, and how it is undone. Never when or how often: the
//! nemesis chooses that.

use crate::{
    fleet::{Disk, DiskCopy, Fleet, Scarce},
    net,
};
use rustix::process::Signal;
use std::{collections::BTreeSet, time::Duration};

/// The names of the kinds.
pub const KINDS: [&str; 14] = [
    "kill",
    "crash",
    "end",
    "stop",
    "stutter",
    "cut",
    "isolate",
    "flap",
    "few_files",
    "few_processes",
    "forget",
    "full_log",
    "full_state",
    "full_registry",
];

/// A kind of fault, and whom it hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// SIGKILL, and a new start afterwards.
    Kill {
        /// The host that is struck.
        host: String,
    },
    /// SIGKILL to a worker's process alone; its supervisor starts another one.
    Crash {
        /// The host that is struck.
        host: String,
    },
    /// SIGTERM, and a new start afterwards.
    End {
        /// The host that is struck.
        host: String,
    },
    /// SIGSTOP, and SIGCONT afterwards.
    Stop {
        /// The host that is struck.
        host: String,
    },
    /// SIGSTOP and SIGCONT again and again, as one whose disk is slow: it lags behind and is not gone.
    Stutter {
        /// The host that is struck.
        host: String,
        /// How long it is stopped each time.
        stopped: Duration,
        /// How long it goes on in between.
        running: Duration,
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
        /// The host that is struck.
        host: String,
    },
    /// The connections to a node of the registry are broken and may be made again, several times.
    Flap {
        /// Who made them.
        host: String,
        /// The node.
        node: String,
        /// How long they are refused each time.
        broken: Duration,
        /// How long they may be made in between.
        whole: Duration,
    },
    /// A worker may open few files, or start few processes; its process may be killed with that, so
    /// that the next one begins so.
    Starve {
        /// The host that is struck.
        host: String,
        /// What there is little of.
        what: Scarce,
        /// How many of it at most.
        most: u64,
        /// Whether the worker's process is killed as well; its supervisor starts another one.
        crashes: bool,
    },
    /// No room on a host's disk. A node of the registry is started again when there is: it takes no
    /// writes any more once it has met a full disk.
    Fill {
        /// The host whose disk is filled.
        host: String,
        /// The disk that is filled.
        disk: Disk,
        /// Whether it is the registry's.
        is_registry: bool,
    },
    /// SIGKILL to the registry, whose disk has lost the newest writes when it is started again.
    Forget {
        /// What its disk still has.
        copy: DiskCopy,
    },
}

impl FaultKind {
    /// The name of the kind, one word.
    pub fn kind(&self) -> &'static str {
        match self {
            FaultKind::Kill { .. } => "kill",
            FaultKind::Crash { .. } => "crash",
            FaultKind::End { .. } => "end",
            FaultKind::Stop { .. } => "stop",
            FaultKind::Stutter { .. } => "stutter",
            FaultKind::Cut { .. } => "cut",
            FaultKind::Isolate { .. } => "isolate",
            FaultKind::Flap { .. } => "flap",
            FaultKind::Starve { what: Scarce::Files, .. } => "few_files",
            FaultKind::Starve { what: Scarce::Processes, .. } => "few_processes",
            FaultKind::Forget { .. } => "forget",
            FaultKind::Fill { is_registry: true, .. } => "full_registry",
            FaultKind::Fill { disk: Disk::Log, .. } => "full_log",
            FaultKind::Fill { disk: Disk::State, .. } => "full_state",
        }
    }

    /// Whom it strikes.
    pub fn strikes(&self) -> Vec<&str> {
        match self {
            FaultKind::Kill { host }
            | FaultKind::Crash { host }
            | FaultKind::End { host }
            | FaultKind::Stop { host }
            | FaultKind::Stutter { host, .. }
            | FaultKind::Starve { host, .. }
            | FaultKind::Fill { host, .. }
            | FaultKind::Isolate { host } => vec![host],
            FaultKind::Cut { from, to, .. } => vec![from, to],
            FaultKind::Flap { host, node, .. } => vec![host, node],
            FaultKind::Forget { copy } => vec![&copy.node],
        }
    }

    /// Whether it changes the rights of every worker, whoever it strikes.
    pub fn concerns_all(&self) -> bool {
        matches!(self, FaultKind::Forget { .. })
    }

    /// Whom nobody hears any more, if that is what it does.
    pub fn silences(&self) -> Option<&str> {
        match self {
            FaultKind::Kill { host } | FaultKind::Stop { host } | FaultKind::Isolate { host } => {
                Some(host)
            }
            _ => None,
        }
    }

    /// Who does not run before it is started again.
    pub fn ends(&self) -> Option<&str> {
        match self {
            FaultKind::Kill { host } | FaultKind::End { host } => Some(host),
            FaultKind::Forget { copy } => Some(&copy.node),
            _ => None,
        }
    }

    /// Who is killed and started again where it is healed.
    pub fn restarts(&self) -> Option<&str> {
        match self {
            FaultKind::Fill { host, is_registry: true, .. } => Some(host),
            _ => None,
        }
    }

    /// Strikes; `partners` are those that workers talk to.
    pub fn strike(&self, fleet: &mut Fleet, partners: &[String]) {
        match self {
            FaultKind::Kill { host } => fleet.kill(host),
            FaultKind::Crash { host } => fleet.crash(host),
            FaultKind::End { host } => fleet.signal(host, Signal::TERM),
            FaultKind::Stop { host } => fleet.signal(host, Signal::STOP),
            FaultKind::Stutter { .. } | FaultKind::Flap { .. } => self.beat(fleet, true),
            FaultKind::Cut { .. } | FaultKind::Isolate { .. } => {
                fleet.net().cut(&self.lost_ways(partners));
            }
            FaultKind::Starve { host, what, most, crashes } => {
                fleet.limit(host, *what, Some(*most));
                if *crashes {
                    fleet.crash(host);
                }
            }
            FaultKind::Fill { host, disk, .. } => {
                fleet.fill(host, *disk).expect("the disks of the test can be written");
            }
            FaultKind::Forget { copy } => {
                fleet.kill(&copy.node);
                fleet.put_back(copy).expect("the folders of the test can be written");
            }
        }
    }

    /// Ends what lasts. Who was killed is started again by the nemesis.
    pub fn heal(&self, fleet: &mut Fleet, partners: &[String]) {
        match self {
            FaultKind::Kill { .. }
            | FaultKind::Crash { .. }
            | FaultKind::End { .. }
            | FaultKind::Forget { .. } => {}
            FaultKind::Stop { host } => {
                // The kernel may have killed it in the meantime.
                if fleet.runs(host) {
                    fleet.signal(host, Signal::CONT);
                }
            }
            FaultKind::Stutter { .. } | FaultKind::Flap { .. } => self.beat(fleet, false),
            FaultKind::Cut { .. } | FaultKind::Isolate { .. } => {
                fleet.net().heal(&self.lost_ways(partners));
            }
            FaultKind::Fill { host, disk, .. } => {
                fleet.free(host, *disk);
                if self.restarts().is_some() && fleet.runs(host) {
                    fleet.kill(host);
                }
            }
            // It may be another process by now, which never was limited.
            FaultKind::Starve { host, what, .. } => drop(fleet.limit(host, *what, None)),
        }
    }

    /// How long one beat lasts of what comes and goes: struck, or healed in between.
    pub fn beats(&self, is_struck: bool) -> Option<Duration> {
        match self {
            FaultKind::Stutter { stopped, running, .. } => {
                Some(if is_struck { *stopped } else { *running })
            }
            FaultKind::Flap { broken, whole, .. } => Some(if is_struck { *broken } else { *whole }),
            _ => None,
        }
    }

    /// Begins a beat of what comes and goes.
    pub fn beat(&self, fleet: &mut Fleet, is_struck: bool) {
        match self {
            FaultKind::Stutter { host, .. } if fleet.runs(host) => {
                fleet.signal(host, if is_struck { Signal::STOP } else { Signal::CONT });
            }
            FaultKind::Flap { host, node, .. } if is_struck => fleet.net().sever(host, node),
            FaultKind::Flap { host, node, .. } => fleet.net().mend(host, node),
            _ => {}
        }
    }

    fn lost_ways<'a>(&'a self, partners: &'a [String]) -> Vec<(&'a str, &'a str)> {
        match self {
            FaultKind::Cut { from, to, both: false } => vec![(from, to)],
            FaultKind::Cut { from, to, both: true } => net::around(from, [to.as_str()]),
            FaultKind::Isolate { host } => net::around(host, partners.iter().map(String::as_str)),
            _ => Vec::new(),
        }
    }

    /// Whether this and another can be at the same time: a host is struck by one fault at a time, but
    /// more than one of its ways may be cut or broken.
    pub fn goes_with(&self, other: &FaultKind) -> bool {
        let hosts = |fault: &FaultKind| {
            fault.strikes().into_iter().map(String::from).collect::<BTreeSet<_>>()
        };
        let (mine, others) = (hosts(self), hosts(other));
        if self.is_of_ways() && other.is_of_ways() {
            mine != others
        } else {
            mine.is_disjoint(&others)
        }
    }

    /// Whether it strikes what is between two hosts and neither of them.
    pub fn is_of_ways(&self) -> bool {
        matches!(self, FaultKind::Cut { .. } | FaultKind::Flap { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_struck_once_at_a_time_and_its_ways_one_by_one() {
        let stop = |host: &str| FaultKind::Stop { host: host.into() };
        let cut = |a: &str, b: &str| FaultKind::Cut { from: a.into(), to: b.into(), both: true };
        let flap = |a: &str, b: &str| {
            let (broken, whole) = (Duration::ZERO, Duration::ZERO);
            FaultKind::Flap { host: a.into(), node: b.into(), broken, whole }
        };
        assert!(stop("w1").goes_with(&stop("w2")));
        assert!(!stop("w1").goes_with(&stop("w1")));
        assert!(!stop("w1").goes_with(&flap("w1", "n")));
        assert!(cut("w1", "m1").goes_with(&flap("w1", "n")));
        assert!(!cut("n", "w1").goes_with(&flap("w1", "n")));
    }
}
