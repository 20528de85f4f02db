//! Small disks of the hosts, which can be filled: one for a daemon's log, one for its state. Only if the
//! hosts are in namespaces, because the mounts then belong to this program and end with it. Never a disk
//! that other programs use.

use super::{Fleet, text};
use crate::{net::Net, place};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// The size of a log disk, in MiB: enough for a daemon under faults for an hour.
const LOG_MIB: u64 = 16;

/// The size of a state disk, in MiB: enough for what a worker compiles, and for what nats-server stores.
const STATE_MIB: u64 = 256;

/// The size of a worker's own state disk, in MiB: enough for a worker that compiles little.
const OWN_STATE_MIB: u64 = 32;

/// The file that fills a disk.
const BALLAST: &str = "ballast";

/// The bytes of one write that fills a disk.
const CHUNK: usize = 64 * 1024;

/// The configuration of nats-server on a small disk. By default nats-server does not let streams reserve
/// more space than the disk has.
pub(super) const SMALL_DISK: &str = "jetstream { max_file_store: 16GB }\n";

/// A disk of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// The disk of a daemon's standard error.
    Log,
    /// The disk of its state directory. A node of the registry stores everything there.
    State,
}

impl Fleet {
    /// Whether hosts have disks of their own.
    pub fn has_disks(&self) -> bool {
        matches!(self.net, Net::Apart(_))
    }

    /// Fills a disk completely.
    ///
    /// # Errors
    ///
    /// When a write fails for another reason than a full disk.
    pub fn fill(&self, name: &str, disk: Disk) -> io::Result<()> {
        fill(&self.disk(name, disk))
    }

    /// Frees the space again.
    pub fn free(&self, name: &str, disk: Disk) {
        free(&self.disk(name, disk));
    }

    /// Starts a worker whose state directory is a small disk, in its own mount namespace, which ends
    /// with the worker. Returns the path at which this process sees that disk; `None` if this is not
    /// possible.
    pub fn start_worker_on_a_small_disk(
        &mut self,
        name: &str,
        options: &[&str],
    ) -> Option<PathBuf> {
        let state = self.disk(name, Disk::State);
        let size = format!("size={OWN_STATE_MIB}m,mode=0700");
        let script = format!(
            "mkdir -p \"$0\" && mount -t tmpfs -o {size} muster-test \"$0\" && exec \"$@\""
        );
        self.start_worker_among_own_mounts(name, options, &script, &state)?;
        Some(
            Path::new(&format!("/proc/{}/root", self.pid(name)))
                .join(state.strip_prefix("/").ok()?),
        )
    }

    /// Starts a worker that sees a copy of `/etc` in its place. Returns the path of that copy; `None` if
    /// this is not possible.
    pub fn start_worker_with_its_own_etc(
        &mut self,
        name: &str,
        options: &[&str],
    ) -> Option<PathBuf> {
        let etc = self.path(&format!("{name}.etc"));
        let script = "cp -a /etc \"$0\" && mount --bind \"$0\" /etc && exec \"$@\"";
        self.start_worker_among_own_mounts(name, options, script, &etc)?;
        Some(etc)
    }

    /// Starts a worker in its own mount namespace. First the shell runs `script` there with `path` as `$0`;
    /// the script has to execute `"$@"`.
    fn start_worker_among_own_mounts(
        &mut self,
        name: &str,
        options: &[&str],
        script: &str,
        path: &Path,
    ) -> Option<()> {
        let tried = Command::new("unshare").args(["--mount", "true"]).output();
        if !tried.is_ok_and(|tried| tried.status.success()) {
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script, text(path)]);
        command.arg(place::program("muster")).arg("worker");
        let command = self.introduced(command, "worker", name);
        self.launch_as_worker(command, name, options);
        self.until_ready(name);
        Some(())
    }

    /// The file that receives a process's standard error.
    pub(super) fn log_path(&self, name: &str) -> PathBuf {
        let file = format!("{name}.log");
        let disk = self.disk(name, Disk::Log);
        if self.disks.contains(&disk) { disk.join(file) } else { self.path(&file) }
    }

    /// Mounts the disks of a host, once. The log of a registry node is not on its small disk, because
    /// tests read it.
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

    /// Unmounts the disks. No process may run any more. The logs are kept.
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

/// Completely fills the disk of a directory. The disk must be the test's own.
///
/// # Errors
///
/// When a write fails for another reason than a full disk.
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

/// Frees the space again.
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
