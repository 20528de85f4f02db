//! Starts, signals, kills and queries the processes of one fleet.

mod ask;
mod disk;
mod group;
mod limits;
mod master;
mod nats;
mod options;
mod room;
mod site;
mod worker;

pub use ask::{COMMAND, Ran};
pub use disk::{DiskCopy, STREAMS, StoreCopy};
pub use limits::Scarce;
pub use nats::NATS;
pub use room::{Disk, fill, free};
pub use site::HUB;

use crate::{net::Net, place};
use muster_protocol::subject::Names;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a process may take to become ready. Long, because the machine may be busy; a test that waits
/// longer fails and names what is missing.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How often a condition is checked while a test waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The environment variable that keeps the directories of fleets whose tests fail.
const KEEP: &str = "MUSTER_TEST_KEEP";

/// A fleet of real processes. All processes that it started are killed when it is dropped.
pub struct Fleet {
    dir: TempDir,
    net: Net,
    /// The profile of the leases, if it is not the default.
    lease: Option<String>,
    nats: nats::Nodes,
    children: BTreeMap<String, Child>,
    /// The standard error of processes that are not started yet, if it does not go to a file of this
    /// fleet.
    logs: BTreeMap<String, Stdio>,
    /// The address on which each master listens for workers.
    quic: BTreeMap<String, SocketAddr>,
    /// The program of a daemon, where it is not the one of this version.
    programs: BTreeMap<String, PathBuf>,
    /// The mount points of the hosts' own disks.
    disks: Vec<PathBuf>,
    groups: group::Groups,
    /// Variables in the environment of every process of Muster.
    environment: Vec<(String, PathBuf)>,
    /// How many replicas masters ask for, if not one at each node.
    replicas: Option<usize>,
    /// How long masters tolerate an outage of the registry, in seconds, if not the default.
    tolerance_s: Option<u64>,
}

impl Fleet {
    /// Starts nats-server, the master `m1`, and workers `w1` to `w<workers>` with `slots` slots each.
    pub fn start(workers: usize, slots: usize) -> Self {
        let mut fleet = Fleet::registry();
        fleet.start_master("m1");
        for number in 1..=workers {
            fleet.start_worker(&format!("w{number}"), &["--slots", &slots.to_string()]);
        }
        fleet
    }

    /// Starts only nats-server, and makes the certificates.
    pub fn registry() -> Self {
        Fleet::within(Net::Plain, None)
    }

    /// Like [`Fleet::registry`], with a nats-server that syncs every write to its disk before it
    /// acknowledges it.
    pub fn synced_registry() -> Self {
        Fleet::make(Net::Plain, None, nats::Nodes::new(1, "jetstream { sync_interval: always }\n"))
    }

    /// Like [`Fleet::registry`], with three nodes of the configuration `config`, and a replica of each stream
    /// at each node.
    pub fn replicated_registry(config: impl Into<String>) -> Self {
        Fleet::make(Net::Plain, None, nats::Nodes::new(3, config))
    }

    /// Like [`Fleet::registry`], with a nats-server that has the configuration `config`. The URLs
    /// contain `user`.
    pub fn registry_with(config: impl Into<String>, user: impl Into<String>) -> Self {
        let mut nats = nats::Nodes::new(1, config);
        nats.user = user.into();
        Fleet::make(Net::Plain, None, nats)
    }

    /// Like [`Fleet::registry`], with hosts on the network `net` and leases of the profile `lease`.
    pub fn within(net: Net, lease: Option<&str>) -> Self {
        Fleet::clustered(net, lease, 1)
    }

    /// Like [`Fleet::within`], with a registry of `nodes` nodes. Each node has a replica of what masters
    /// store.
    pub fn clustered(net: Net, lease: Option<&str>, nodes: usize) -> Self {
        Fleet::make(net, lease, nats::Nodes::new(nodes, ""))
    }

    /// Like [`Fleet::registry`], with a registry of three nodes. The replicas of the last node can be
    /// made to lag.
    pub fn with_a_late_replica() -> Self {
        Fleet::make(Net::Plain, None, nats::Nodes::with_a_late_one())
    }

    fn make(net: Net, lease: Option<&str>, nats: nats::Nodes) -> Self {
        let dir = tempfile::Builder::new().prefix("muster-test-").tempdir().expect("a directory");
        let (children, logs, quic) = Default::default();
        let lease = lease.map(Into::into);
        let (programs, disks, groups, environment, replicas, tolerance_s) = Default::default();
        let mut fleet = Fleet {
            dir,
            net,
            lease,
            nats,
            children,
            logs,
            quic,
            programs,
            disks,
            groups,
            environment,
            replicas,
            tolerance_s,
        };
        fleet.start_nats();
        let tls = fleet.path("tls");
        fleet.run(&["cert", "ca", "--dir", text(&tls)]).ok();
        fleet
    }

    /// The path of a file or directory in the fleet's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Keeps the directory after the fleet is dropped. Returns the path of the directory.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().into()
    }

    /// Sets a variable in the environment of every process that is started from now on.
    pub fn set_variable(&mut self, name: &str, path: PathBuf) {
        self.environment.push((name.into(), path));
    }

    /// The fleet's names in NATS.
    pub fn names(&self) -> Names {
        Names::new(Default::default())
    }

    /// The network between the hosts.
    pub fn net(&mut self) -> &mut Net {
        &mut self.net
    }

    /// Waits until a worker that was launched holds a lease and has a link.
    pub fn until_ready(&self, name: &str) {
        wait_for("the worker to hold a lease", || self.is_ready(name).then_some(()));
    }

    /// Whether a daemon's present process has begun to serve.
    pub fn is_ready(&self, name: &str) -> bool {
        self.path(&format!("{name}.ready")).exists()
    }

    /// Makes the certificate of a daemon, unless it has one. Launching the daemon does so too.
    pub fn certificate(&self, role: &str, name: &str) {
        let tls = self.path("tls");
        if !tls.join(format!("{name}.pem")).exists() {
            // Tests that are not about permits use any group, label and secret.
            let all: &[&str] = match role {
                "worker" => &["--group", "*", "--label", "*", "--secret", "*"],
                _ => &[],
            };
            self.run(&[&["cert", role, name, "--dir", text(&tls)], all].concat()).ok();
        }
    }

    /// The daemon `name`, or the [`COMMAND`], is another version's program from its next start on.
    pub fn run_by(&mut self, name: &str, program: &Path) {
        self.programs.insert(name.into(), program.into());
    }

    /// It is this version's program again.
    pub fn run_by_this(&mut self, name: &str) {
        self.programs.remove(name);
    }

    /// The command line of a daemon. Makes its certificate and removes its old ready file.
    fn daemon(&mut self, role: &str, name: &str) -> Command {
        let command = match place::other_worker().filter(|_| role == "worker") {
            Some(worker) => self.net.command(name, &worker),
            None => {
                let own = self.programs.get(name).cloned();
                let program = own.unwrap_or_else(|| place::program("muster"));
                let mut command = self.net.command(name, &program);
                command.arg(role);
                command
            }
        };
        self.introduced(command, role, name)
    }

    fn introduced(&self, command: Command, role: &str, name: &str) -> Command {
        self.certificate(role, name);
        self.introduced_as(command, name, name)
    }

    /// Adds the daemon's name and certificate to its command line, and a ready file called `alias`.
    fn introduced_as(&self, mut command: Command, name: &str, alias: &str) -> Command {
        let ready = self.path(&format!("{alias}.ready"));
        let _ = std::fs::remove_file(&ready);
        let file = |ending: &str| self.path("tls").join(format!("{name}.{ending}"));
        command
            .env_remove("MUSTER_NATS")
            .envs(self.environment.iter().map(|(name, path)| (name, path)))
            .args(["--name", name, "--until-stdin-closes"])
            .args(["--ca", text(&self.path("tls/ca.pem")), "--cert", text(&file("pem"))])
            .args(["--key", text(&file("key")), "--ready-file", text(&ready)]);
        if let Some(lease) = &self.lease {
            command.args(["--lease", lease]);
        }
        command
    }

    /// The address on which a master listens for workers.
    pub fn quic(&self, master: &str) -> String {
        self.quic[master].to_string()
    }

    /// Starts a process of this fleet. Returns its id.
    pub fn spawn(&mut self, name: &str, mut command: Command) -> u32 {
        self.mount_disks(name);
        let log = self.log_path(name);
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let out = log.try_clone().expect("a second handle");
        let child = command
            // The process and its children can then be killed and stopped together, like a whole host.
            .process_group(0)
            // A daemon ends when this process ends for any reason, because that closes the daemon's
            // standard input.
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(self.logs.remove(name).unwrap_or_else(|| log.into()))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let pid = child.id();
        self.children.insert(name.into(), child);
        pid
    }

    /// Sets the log of a process that is not started yet.
    pub fn log_to(&mut self, name: &str, log: Stdio) {
        self.logs.insert(name.into(), log);
    }

    /// Kills a process that this fleet started, as if its host had crashed, and waits until it is gone.
    pub fn kill(&mut self, name: &str) {
        self.signal(name, Signal::KILL);
        let mut child = self.children.remove(name).unwrap_or_else(|| panic!("{name} does not run"));
        child.wait().expect("it is this process' child");
    }

    /// Sends a signal to a process that this fleet started, and to its children.
    pub fn signal(&self, name: &str, signal: Signal) {
        kill_process_group(Pid::from_child(&self.children[name]), signal).expect("it runs");
    }

    /// Sends a signal to a worker's process, and not to its supervisor.
    pub fn signal_child(&self, name: &str, signal: Signal) {
        let pid = self.child_pid(name).and_then(Pid::from_raw).expect("it was ready");
        kill_process(pid, signal).expect("it runs");
    }

    /// Whether a process runs, as far as this fleet has noticed.
    pub fn runs(&self, name: &str) -> bool {
        self.children.contains_key(name)
    }

    /// Removes the processes that have ended by themselves, and returns them with their exit status.
    pub fn bury(&mut self) -> Vec<(String, ExitStatus)> {
        let ended = |(name, child): (&String, &mut Child)| {
            child.try_wait().expect("a child").map(|status| (name.clone(), status))
        };
        let ended: Vec<_> = self.children.iter_mut().filter_map(ended).collect();
        for (name, _) in &ended {
            self.children.remove(name);
        }
        ended
    }

    /// Kills a worker's process that was ready last, if it still runs. Its supervisor stays.
    pub fn crash(&self, name: &str) {
        let Some(pid) = self.child_pid(name) else { return };
        // The ready file may be older than the process: only a child of the supervisor is killed.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = format!("PPid:\t{}\n", self.children[name].id());
        if status.contains(&parent)
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// The id of a process that this fleet started; for a worker, that of its supervisor.
    pub fn pid(&self, name: &str) -> u32 {
        self.children[name].id()
    }

    /// The id of the worker's process that was ready last; a different one after each restart.
    pub fn child_pid(&self, name: &str) -> Option<i32> {
        let ready = std::fs::read(self.path(&format!("{name}.ready"))).ok()?;
        let ready: Value = serde_json::from_slice(&ready).ok()?;
        ready["pid"].as_i64()?.try_into().ok()
    }

    /// The lines in the journal of a worker that was started with `--journal`, in their order. An
    /// incomplete last line is left out.
    pub fn journal(&self, path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until a process has ended by itself. Returns its exit code, or -1 after a signal.
    pub fn ended(&mut self, name: &str) -> i32 {
        self.status(name).code().unwrap_or(-1)
    }

    /// Waits until a process has ended. Returns the signal that ended it, if any.
    pub fn ended_by(&mut self, name: &str) -> Option<i32> {
        self.status(name).signal()
    }

    /// Waits for the end of a process. Until then the fleet keeps the process, and kills it if the test
    /// fails.
    fn status(&mut self, name: &str) -> ExitStatus {
        let child = self.children.get_mut(name).unwrap_or_else(|| panic!("{name} does not run"));
        let status = wait_for("it to end", || child.try_wait().expect("a child"));
        self.children.remove(name);
        status
    }

    /// The contents of a process's log.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Workers end first, so that no master declares them lost; nats-server ends last.
        for name in ["w", "m", "nats"] {
            for (_, child) in self.children.iter_mut().filter(|(key, _)| key.starts_with(name)) {
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
                let _ = child.wait();
            }
        }
        self.groups.remove();
        self.unmount_disks();
        if std::thread::panicking() {
            if std::env::var_os(KEEP).is_some() {
                eprintln!("kept: {}", self.keep().display());
            }
            for entry in std::fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|ending| ending == "log") {
                    let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    let tail: Vec<&str> = log.lines().rev().take(15).collect();
                    eprintln!("--- the end of {}", entry.file_name().to_string_lossy());
                    tail.iter().rev().for_each(|line| eprintln!("{line}"));
                }
            }
        }
    }
}

/// A path as a command line argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("tests use paths in UTF-8")
}

/// Waits until `look` returns a value. Panics after the timeout and names `what`.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {READY_WITHIN:?} in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
