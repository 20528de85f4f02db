//! Limits that also bind the superuser: the kernel's control groups, of version 1 or 2. Never uses a
//! group that it did not make, or a process that the fleet did not start.

use super::{Fleet, text};
use rustix::process::Pid;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The file of a limit, below each directory in which the kernel may show such groups: of version 1 and
/// of version 2.
type Limit = [(&'static str, &'static str); 2];

const PROCESSES: Limit = [("/sys/fs/cgroup/pids", "pids.max"), ("/sys/fs/cgroup", "pids.max")];

const MEMORY: Limit =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// Moves itself into the group that its first argument names, and becomes the program of the others.
const ENTER: &str = "echo 0 > \"$0/cgroup.procs\" && exec \"$@\"";

/// The control groups of a fleet.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<PathBuf>);

/// The directory in which this process can make groups with such a limit, and the file of the limit.
fn root(limit: Limit) -> Option<(&'static Path, &'static str)> {
    let has_limit = |&(root, file): &(&'static str, &'static str)| {
        let probe = Path::new(root).join(format!("muster-test-{}-probe", std::process::id()));
        let made = fs::create_dir(&probe).is_ok();
        let has = made && probe.join(file).exists();
        let _ = fs::remove_dir(&probe);
        has
    };
    limit.into_iter().find(has_limit).map(|(root, file)| (Path::new(root), file))
}

/// Whether this process can make groups that limit processes.
pub(super) fn are_there() -> bool {
    root(PROCESSES).is_some()
}

impl Groups {
    /// The group `name` with a limit; it is made unless it is there.
    fn make(&mut self, name: &str, limit: Limit, most: &str) -> io::Result<PathBuf> {
        let (root, file) = root(limit).ok_or(io::ErrorKind::Unsupported)?;
        let group = root.join(format!("muster-test-{}-{name}", std::process::id()));
        if !group.exists() {
            fs::create_dir(&group)?;
            self.0.push(group.clone());
        }
        fs::write(group.join(file), most)?;
        Ok(group)
    }

    /// Limits the number of these processes and of all that they start to `most`. `None` removes the
    /// limit.
    pub(super) fn limit(&mut self, name: &str, all: &[Pid], most: Option<u64>) -> io::Result<()> {
        let most = most.map_or("max".into(), |most| most.to_string());
        let group = self.make(name, PROCESSES, &most)?;
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

    /// Starts a worker on a host with so many bytes of memory, and waits until it is ready. Returns
    /// whether this process can make such a host; if not, nothing is started.
    pub fn start_worker_with_memory(&mut self, name: &str, bytes: u64, options: &[&str]) -> bool {
        let Ok(group) = self.groups.make(name, MEMORY, &bytes.to_string()) else { return false };
        let plain = self.daemon("worker", name);
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, text(&group)]).arg(plain.get_program()).args(plain.get_args());
        for (variable, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        self.launch_as_worker(command, name, options);
        self.until_ready(name);
        true
    }
}
