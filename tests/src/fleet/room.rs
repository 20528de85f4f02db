//! Small disks of the hosts, which can be filled: one for what a daemon logs, one for what it keeps. Only
//! where hosts are apart, since mounts are this program's own there and end with it. Never the disk that
//! anything else is on.

use super::{Fleet, text};
use crate::{net::Net, place};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// Room for what a daemon logs while it is struck for an hour.
const LOG_MIB: u64 = 16;

/// Room for what a worker compiles, and for what nats-server keeps.
const STATE_MIB: u64 = 256;

/// Room for the state of one worker that compiles little.
const OWN_STATE_MIB: u64 = 32;

/// What fills a disk.
const BALLAST: &str = "ballast";

/// What is written at once to fill it.
const CHUNK: usize = 64 * 1024;

/// What nats-server has to be told on a small disk: it would not promise streams more room than there is.
pub(super) const SMALL_DISK: &str = "jetstream { max_file_store: 16GB }\n";

/// A disk of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Where a daemon's standard error goes.
    Log,
    /// Its state directory; of a node of the registry, all that is stored.
    State,
}

impl Fleet {
    /// Whether hosts have disks of their own.
    pub fn has_disks(&self) -> bool {
        matches!(self.net, Net::Apart(_))
    }

    /// Leaves no room on a disk.
    ///
    /// # Errors
    ///
    /// When it cannot be written to for another reason than that it is full.
    pub fn fill(&self, name: &str, disk: Disk) -> io::Result<()> {
        fill(&self.disk(name, disk))
    }

    /// Makes room again.
    pub fn free(&self, name: &str, disk: Disk) {
        free(&self.disk(name, disk));
    }

    /// Starts a worker whose state directory is a small disk, in a mount namespace of its own that ends with
    /// it; where this process sees that disk. `None` where that is not possible.
    pub fn start_worker_on_a_small_disk(
        &mut self,
        name: &str,
        options: &[&str],
    ) -> Option<PathBuf> {
        let tried = Command::new("unshare").args(["--mount", "true"]).output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            return None;
        }
        let state = self.disk(name, Disk::State);
        let size = format!("size={OWN_STATE_MIB}m,mode=0700");
        let script = format!(
            "mkdir -p \"$0\" && mount -t tmpfs -o {size} muster-test \"$0\" && exec \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &script, text(&state)]);
        command.arg(place::program("muster")).arg("worker");
        let command = self.introduced(command, "worker", name);
        self.launch_as_worker(command, name, options);
        self.until_ready(name);
        Some(
            Path::new(&format!("/proc/{}/root", self.pid(name)))
                .join(state.strip_prefix("/").ok()?),
        )
    }

    /// Where a process' standard error goes.
    pub(super) fn log_path(&self, name: &str) -> PathBuf {
        let file = format!("{name}.log");
        let disk = self.disk(name, Disk::Log);
        if self.disks.contains(&disk) { disk.join(file) } else { self.path(&file) }
    }

    /// Gives a host its disks, once. A node's log stays where it is: tests read in it.
    pub(super) fn mount_disks(&mut self, name: &str) {
        if !self.has_disks() {
            return;
        }
        let is_node = self.is_node(name);
        let log = (!is_node).then_some((Disk::Log, LOG_MIB));
        for (disk, mib) in log.into_iter().chain([(Disk::State, STATE_MIB)]) {
            let dir = self.disk(name, disk);
            if !self.disks.contains(&dir) {
                mount(&dir, mib);
                self.disks.push(dir);
            }
        }
    }

    /// Takes the disks away; nothing may run any more. What was logged stays.
    pub(super) fn unmount_disks(&mut self) {
        for dir in std::mem::take(&mut self.disks) {
            for file in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if file.path().extension().is_some_and(|ending| ending == "log") {
                    let _ = fs::copy(file.path(), self.path(&file.file_name().to_string_lossy()));
                }
            }
            let _ = Command::new("umount").arg("--lazy").arg(&dir).status();
        }
    }

    fn disk(&self, name: &str, disk: Disk) -> PathBuf {
        match disk {
            Disk::Log => self.path(&format!("{name}.logs")),
            Disk::State if self.is_node(name) => self.store(name),
            Disk::State => self.path(&format!("{name}.state")),
        }
    }
}

/// Leaves no room on the disk that a directory is on, which is a test's own.
///
/// # Errors
///
/// When it cannot be written to for another reason than that it is full.
pub fn fill(dir: &Path) -> io::Result<()> {
    let mut ballast = File::create(dir.join(BALLAST))?;
    loop {
        match ballast.write(&[0; CHUNK]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Makes room again.
pub fn free(dir: &Path) {
    let _ = fs::remove_file(dir.join(BALLAST));
}

fn mount(dir: &Path, mib: u64) {
    fs::create_dir_all(dir).expect("a directory");
    let size = format!("size={mib}m,mode=0700");
    let mut command = Command::new("mount");
    let command = command.args(["-t", "tmpfs", "-o", &size, "muster-test", text(dir)]);
    let mounted = command.status().expect("mount is there");
    assert!(mounted.success(), "this program's own name space takes a mount");
}
