//! Limits on the open files or processes of a running worker, as on a host where other programs use them
//! up. Never limits a process that this fleet did not start.

use super::{Fleet, group};
use rustix::process::{Pid, Resource, Rlimit, geteuid, getrlimit, prlimit};

/// A resource that can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// Open files, which include connections and pipes.
    Files,
    /// Processes and threads: those of the worker's user, or those of its control group if the kernel
    /// does not count the user's.
    Processes,
}

impl Scarce {
    /// Whether this program can limit the resource.
    pub fn can_be(self) -> bool {
        self == Scarce::Files || !is_exempt() || group::are_there()
    }

    fn resource(self) -> Resource {
        match self {
            Scarce::Files => Resource::Nofile,
            Scarce::Processes => Resource::Nproc,
        }
    }
}

impl Fleet {
    /// Limits a worker and its supervisor to `most` from now on; `None` restores the limit of this
    /// process. The processes keep what they have beyond the limit. Returns whether there was a process
    /// to limit.
    pub fn limit(&mut self, name: &str, what: Scarce, most: Option<u64>) -> bool {
        if what == Scarce::Processes && is_exempt() {
            return self.limit_group(name, most);
        }
        let own = getrlimit(what.resource());
        let limit = Rlimit { current: most.or(own.current), maximum: own.maximum };
        let set = |pid: Pid| prlimit(Some(pid), what.resource(), limit).is_ok();
        let all = self.family(name);
        // Each process is tried: one that has ended meanwhile must not prevent the limit of the others.
        let set = all.into_iter().map(set).filter(|is_set| *is_set).count();
        set > 0
    }

    /// The number of files that a worker's process has open. The process is the one that was ready last.
    pub fn open_files(&self, name: &str) -> Option<usize> {
        let pid = self.child_pid(name)?;
        Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
    }

    /// The process that this fleet started, and its children.
    pub(super) fn family(&self, name: &str) -> Vec<Pid> {
        let Some(supervisor) = self.children.get(name).map(Pid::from_child) else {
            return Vec::new();
        };
        let raw = supervisor.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{raw}/task/{raw}/children"));
        let children = children.unwrap_or_default();
        let children =
            children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        std::iter::once(supervisor).chain(children).collect()
    }
}

/// Whether the kernel does not limit this user's processes: the user is the superuser of the machine,
/// and not only of a user namespace.
fn is_exempt() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    geteuid().is_root() && map.split_whitespace().nth(1) == Some("0")
}
