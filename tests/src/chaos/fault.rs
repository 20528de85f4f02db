//! The kinds of faults: what each does to a fleet, and how it is healed. Never decides when a fault
//! strikes or how often: the nemesis does.

use crate::{
    fleet::{Disk, DiskCopy, Fleet, NATS, Scarce},
    net,
};
use rustix::process::Signal;
use std::{collections::BTreeSet, time::Duration};

/// The names of the kinds.
pub const KINDS: [&str; 18] = [
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
    "kill_node",
    "stop_node",
    "isolate_node",
    "part_node",
];

fn is_node(host: &str) -> bool {
    host.starts_with(NATS)
}

/// A kind of fault, with the hosts that it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// SIGKILL to a host, which is started again afterwards.
    Kill {
        /// The host that is struck.
        host: String,
    },
    /// SIGKILL to a worker's process alone; its supervisor starts another one.
    Crash {
        /// The host that is struck.
        host: String,
    },
    /// SIGTERM to a host, which is started again afterwards.
    End {
        /// The host that is struck.
        host: String,
    },
    /// SIGSTOP, and SIGCONT afterwards.
    Stop {
        /// The host that is struck.
        host: String,
    },
    /// SIGSTOP and SIGCONT again and again, as on a host with a slow disk: the process lags but stays
    /// alive.
    Stutter {
        /// The host that is struck.
        host: String,
        /// How long it is stopped each time.
        stopped: Duration,
        /// How long it runs in between.
        running: Duration,
    },
    /// All messages in one direction, or in both, are lost between two hosts.
    Cut {
        /// The host whose messages are lost.
        from: String,
        /// The host that does not receive them.
        to: String,
        /// Whether the messages in the other direction are lost too.
        both: bool,
    },
    /// All messages to and from a worker, or a node of the registry, are lost.
    Isolate {
        /// The host that is struck.
        host: String,
    },
    /// All messages between a node of the registry and the other nodes are lost. Clients still reach it.
    Part {
        /// The host that is struck.
        host: String,
    },
    /// The connections to a node of the registry are broken several times, and can be made again in
    /// between.
    Flap {
        /// The host that made the connections.
        host: String,
        /// The node of the registry.
        node: String,
        /// How long new connections are refused each time.
        broken: Duration,
        /// How long connections can be made in between.
        whole: Duration,
    },
    /// A worker may open few files, or start few processes. Its process may also be killed, so that the
    /// next one starts under the limit.
    Starve {
        /// The host that is struck.
        host: String,
        /// The resource that is limited.
        what: Scarce,
        /// The limit.
        most: u64,
        /// Whether the worker's process is also killed; its supervisor starts another one.
        crashes: bool,
    },
    /// A host's disk is full. A node of the registry is restarted when there is space again, because it
    /// accepts no writes after it has met a full disk.
    Fill {
        /// The host whose disk is filled.
        host: String,
        /// The disk that is filled.
        disk: Disk,
        /// Whether the host is a node of the registry.
        is_registry: bool,
    },
    /// SIGKILL to the registry, whose disk has lost the newest writes when it starts again.
    Forget {
        /// The copy of the disk that remains.
        copy: DiskCopy,
    },
}

impl FaultKind {
    /// The name of the kind, one word.
    pub fn kind(&self) -> &'static str {
        match self {
            FaultKind::Kill { host } if is_node(host) => "kill_node",
            FaultKind::Stop { host } if is_node(host) => "stop_node",
            FaultKind::Isolate { host } if is_node(host) => "isolate_node",
            FaultKind::Part { .. } => "part_node",
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

    /// The hosts that it strikes.
    pub fn strikes(&self) -> Vec<&str> {
        match self {
            FaultKind::Kill { host }
            | FaultKind::Crash { host }
            | FaultKind::End { host }
            | FaultKind::Stop { host }
            | FaultKind::Stutter { host, .. }
            | FaultKind::Starve { host, .. }
            | FaultKind::Fill { host, .. }
            | FaultKind::Part { host }
            | FaultKind::Isolate { host } => vec![host],
            FaultKind::Cut { from, to, .. } => vec![from, to],
            FaultKind::Flap { host, node, .. } => vec![host, node],
            FaultKind::Forget { copy } => vec![&copy.node],
        }
    }

    /// Whether it affects the leases of all workers.
    pub fn concerns_all(&self) -> bool {
        matches!(self, FaultKind::Forget { .. })
    }

    /// The host from which nothing is received any more, if the fault has that effect.
    pub fn silences(&self) -> Option<&str> {
        match self {
            FaultKind::Kill { host } | FaultKind::Stop { host } | FaultKind::Isolate { host } => {
                Some(host)
            }
            _ => None,
        }
    }

    /// The host that does not run until it is started again.
    pub fn ends(&self) -> Option<&str> {
        match self {
            FaultKind::Kill { host } | FaultKind::End { host } => Some(host),
            FaultKind::Forget { copy } => Some(&copy.node),
            _ => None,
        }
    }

    /// The host that is killed and started again when the fault is healed.
    pub fn restarts(&self) -> Option<&str> {
        match self {
            FaultKind::Fill { host, is_registry: true, .. } => Some(host),
            _ => None,
        }
    }

    /// Injects the fault. `partners` are all hosts of the fleet.
    pub fn strike(&self, fleet: &mut Fleet, partners: &[String]) {
        match self {
            FaultKind::Kill { host } => fleet.kill(host),
            FaultKind::Crash { host } => fleet.crash(host),
            FaultKind::End { host } => fleet.signal(host, Signal::TERM),
            FaultKind::Stop { host } => fleet.signal(host, Signal::STOP),
            FaultKind::Stutter { .. } | FaultKind::Flap { .. } => self.beat(fleet, true),
            FaultKind::Cut { .. } | FaultKind::Isolate { .. } | FaultKind::Part { .. } => {
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

    /// Heals a fault that lasts. The nemesis starts killed hosts again.
    pub fn heal(&self, fleet: &mut Fleet, partners: &[String]) {
        match self {
            FaultKind::Kill { .. }
            | FaultKind::Crash { .. }
            | FaultKind::End { .. }
            | FaultKind::Forget { .. } => {}
            FaultKind::Stop { host } => {
                // The kernel may have killed the process meanwhile.
                if fleet.runs(host) {
                    fleet.signal(host, Signal::CONT);
                }
            }
            FaultKind::Stutter { .. } | FaultKind::Flap { .. } => self.beat(fleet, false),
            FaultKind::Cut { .. } | FaultKind::Isolate { .. } | FaultKind::Part { .. } => {
                fleet.net().heal(&self.lost_ways(partners));
            }
            FaultKind::Fill { host, disk, .. } => {
                fleet.free(host, *disk);
                if self.restarts().is_some() && fleet.runs(host) {
                    fleet.kill(host);
                }
            }
            // This may be another process by now, on which no limit was ever set.
            FaultKind::Starve { host, what, .. } => drop(fleet.limit(host, *what, None)),
        }
    }

    /// How long one phase of a recurring fault lasts: struck, or healed in between. `None` if the fault
    /// does not recur.
    pub fn beats(&self, is_struck: bool) -> Option<Duration> {
        match self {
            FaultKind::Stutter { stopped, running, .. } => {
                Some(if is_struck { *stopped } else { *running })
            }
            FaultKind::Flap { broken, whole, .. } => Some(if is_struck { *broken } else { *whole }),
            _ => None,
        }
    }

    /// Begins a phase of a recurring fault.
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
            FaultKind::Isolate { host } => {
                let others = partners.iter().filter(|other| *other != host);
                net::around(host, others.map(String::as_str))
            }
            FaultKind::Part { host } => {
                let others = partners.iter().filter(|other| *other != host && is_node(other));
                net::around(host, others.map(String::as_str))
            }
            _ => Vec::new(),
        }
    }

    /// Whether two faults may be active at the same time. Only one fault strikes a host at a time, but
    /// several of its network paths may be cut or broken.
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

    /// Whether it strikes the network between two hosts, and neither of the hosts.
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
