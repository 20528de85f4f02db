//! A limit on a worker's processes that also binds the superuser: the kernel's control group `pids`.
//! Never uses a group that it did not make, or a process that the fleet did not start.

use super::Fleet;
use rustix::process::Pid;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the kernel shows such control groups: in version 1, and in version 2.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];

/// The control groups of a fleet.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<PathBuf>);

/// The directory in which this process can make such groups, if there is one.
fn root() -> Option<&'static Path> {
    let has_limit = |root: &&Path| {
        let probe = root.join(format!("muster-test-{}-probe", std::process::id()));
        let made = fs::create_dir(&probe).is_ok();
        let has = made && probe.join("pids.max").exists();
        let _ = fs::remove_dir(&probe);
        has
    };
    ROOTS.iter().map(Path::new).find(has_limit)
}

/// Whether this process can make such groups.
pub(super) fn are_there() -> bool {
    root().is_some()
}

impl Groups {
    /// Limits the number of these processes and of all that they start to `most`. `None` removes the
    /// limit.
    pub(super) fn limit(&mut self, name: &str, all: &[Pid], most: Option<u64>) -> io::Result<()> {
        let root = root().ok_or(io::ErrorKind::Unsupported)?;
        let group = root.join(format!("muster-test-{}-{name}", std::process::id()));
        if !group.exists() {
            fs::create_dir(&group)?;
            self.0.push(group.clone());
        }
        let text = most.map_or("max".into(), |most| most.to_string());
        fs::write(group.join("pids.max"), text)?;
        for pid in all {
            // A process that has ended meanwhile must not prevent the limit of the others.
            let _ = fs::write(group.join("cgroup.procs"), pid.as_raw_nonzero().to_string());
        }
        Ok(())
    }

    /// Removes the groups. No process may run in them any more.
    pub(super) fn remove(&mut self) {
        for group in self.0.drain(..) {
            let _ = fs::remove_dir(group);
        }
    }
}

impl Fleet {
    pub(super) fn limit_group(&mut self, name: &str, most: Option<u64>) -> bool {
        let all = self.family(name);
        !all.is_empty() && self.groups.limit(name, &all, most).is_ok()
    }
}
