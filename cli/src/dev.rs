//! `muster dev`: runs a whole fleet on this machine, in one command and one directory. Never listens
//! beyond loopback, and never leaves a process behind.

mod child;
mod nats_server;

use crate::{
    cert,
    exit::{self, Failure},
    init::{self, Made},
    nats::Users,
    output::{self, Format},
};
use anyhow::Context as _;
use child::Child;
use clap::Args;
use muster_protocol::{GroupName, WorkerId, entitlement::Entitlement, subject::Names};
use muster_wire::config_file;
use rustix::{
    fs::{FlockOperation, flock},
    io::{FdFlags, fcntl_setfd},
};
use serde::{Deserialize, Serialize};
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a daemon may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long a daemon may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How often the processes of an earlier start are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Days that a worker's certificate is valid: they are made anew at each start.
const CERT_DAYS: u32 = 365;

/// What to start.
#[derive(Args)]
#[command(after_help = "Examples:
  muster dev
  muster dev --workers 4 --slots 2 --dir /tmp/fleet
  muster dev --http 127.0.0.1:8480        with a page that shows the fleet

Then, in another terminal: export MUSTER_NATS=… as printed, and muster task run …
When all processes are ready, DIR/dev.json lists them.
nats-server is $MUSTER_NATS_SERVER, or else the one in PATH, or else .muster/bin/nats-server in this folder
or one above it, or in the folder of this executable or one above it.")]
pub struct Dev {
    /// How many workers to start
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// How many tasks each worker runs at once [default: that of `muster worker`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// A TOML file that says which grants tasks may have [default: that of `muster worker`]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The group of the workers
    #[arg(long, default_value = "default")]
    group: GroupName,
    /// Where everything is kept between starts
    #[arg(long, default_value = ".muster/dev")]
    dir: PathBuf,
    /// Serve the page of the master at this address of this machine, such as 127.0.0.1:8480 [default: not at all]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
}

/// What stands in `dev.json`.
#[derive(Serialize)]
struct Summary {
    nats: String,
    master: MasterSummary,
    workers: Vec<WorkerSummary>,
    nats_server: Process,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
}

#[derive(Serialize)]
struct MasterSummary {
    pid: u32,
    quic: String,
}

#[derive(Serialize)]
struct WorkerSummary {
    id: String,
    pid: u32,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
}

/// What a master writes into its ready-file.
#[derive(Deserialize)]
struct MasterReady {
    quic: String,
}

/// The processes, in the order in which they were started.
struct Fleet {
    dir: PathBuf,
    name: GroupName,
    exe: PathBuf,
    children: Vec<Child>,
}

/// What ends the command.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Dev {
    /// Starts everything, and waits.
    pub async fn run(self, fleet: &GroupName, format: Format) -> anyhow::Result<ExitCode> {
        let mut signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        let dir = directory(&self.dir)?;
        let _lock = lock(&dir)?;
        let _shared = outlive(&dir).await?;
        let nats_server = nats_server::find()?;
        let mut processes = Fleet {
            exe: env::current_exe().context("cannot find this executable")?,
            name: fleet.clone(),
            children: Vec::new(),
            dir,
        };
        let ended = processes.serve(&self, &nats_server, format, &mut signals).await;
        // Stop all processes, also after an error.
        let _ = fs::remove_file(processes.dir.join("dev.json"));
        processes.stop(&mut signals).await;
        ended
    }
}

impl Fleet {
    async fn serve(
        &mut self,
        dev: &Dev,
        nats_server: &Path,
        format: Format,
        signals: &mut Signals,
    ) -> anyhow::Result<ExitCode> {
        let summary = tokio::select! {
            summary = self.start(dev, nats_server) => summary?,
            () = signals.next() => return Ok(ExitCode::from(exit::CANCELLED)),
        };
        let text = serde_json::to_vec_pretty(&summary).context("a summary is always JSON")?;
        let new = self.dir.join("dev.json.new");
        fs::write(&new, text).context("cannot write dev.json")?;
        fs::rename(&new, self.dir.join("dev.json")).context("cannot write dev.json")?;
        match format {
            Format::Json => output::json(&summary)?,
            Format::Table => self.tell(&summary)?,
        }
        self.watch(signals).await
    }

    /// Starts nats-server, the master and the workers, each when it can be reached by the next.
    async fn start(&mut self, dev: &Dev, nats_server: &Path) -> anyhow::Result<Summary> {
        let names = Names::new(self.name.clone());
        let name = "m1".parse().context("m1 is a name")?;
        let workers = (1..=dev.workers).map(|number| format!("w{number}").parse());
        let workers: Vec<WorkerId> =
            workers.collect::<Result<_, _>>().context("a letter and a number are a name")?;
        let users = Users { workers: workers.clone(), ..Users::default() };
        let made = init::make(&self.dir, &names, &self.name, &name, &[], &users)?;
        let (child, nats) =
            nats_server::start(&self.exe, nats_server, &self.dir, &made.nats).await?;
        let nats_pid = child.pid();
        self.children.push(child);
        let Made { master: files, nats: login, .. } = &made;
        let mut command = self.daemon("master", name.as_str(), &nats, files);
        command.arg("--nats-nkey").arg(login.key("master"));
        // Whoever reaches this fleet is on this machine.
        command.args(["--listen", "127.0.0.1:0", "--default-role", "admin"]);
        command.arg("--state-dir").arg(self.dir.join("m1").join("state"));
        if let Some(address) = dev.http {
            command.args(["--http", &address.to_string()]);
        }
        let ready = self.spawn("m1", &mut command)?;
        let master_pid = self.children.last().map_or(0, Child::pid);
        let text = self.await_ready("m1", &ready).await?;
        let MasterReady { quic } =
            serde_json::from_str(&text).context("the master's ready-file is malformed")?;

        let mut starting = Vec::new();
        let tls = self.dir.join("tls");
        for name in &workers {
            let files = cert::worker(&tls, &tls, &names, name, &Entitlement::any(), CERT_DAYS)?;
            let name = name.as_str();
            let mut command = self.daemon("worker", name, &nats, &files);
            command.arg("--nats-nkey").arg(login.key(&format!("worker-{name}")));
            command.args(["--master", &quic, "--group", dev.group.as_str()]);
            // These workers run for the person who starts them and has no other user to give.
            command.arg("--allow-root");
            command.arg("--state-dir").arg(self.dir.join(name).join("state"));
            if let Some(slots) = dev.slots {
                command.args(["--slots", &slots.to_string()]);
            }
            if let Some(policy) = &dev.policy {
                command.arg("--policy").arg(policy);
            }
            let ready = self.spawn(name, &mut command)?;
            let pid = self.children.last().map_or(0, Child::pid);
            starting.push((WorkerSummary { id: name.to_owned(), pid }, ready));
        }
        let mut workers = Vec::new();
        for (worker, ready) in starting {
            self.await_ready(&worker.id, &ready).await?;
            workers.push(worker);
        }
        Ok(Summary {
            nats,
            master: MasterSummary { pid: master_pid, quic },
            workers,
            nats_server: Process { pid: nats_pid },
            page: dev.http.map(|address| format!("http://{address}/")),
        })
    }

    /// What both daemons are told.
    fn daemon(&self, what: &str, name: &str, nats: &str, files: &cert::Files) -> Command {
        let mut command = Command::new(&self.exe);
        command.arg(what).args(["--name", name, "--fleet", self.name.as_str(), "--nats", nats]);
        command.arg("--ca").arg(&files.ca);
        command.arg("--cert").arg(&files.cert);
        command.arg("--key").arg(&files.key);
        command.arg("--until-stdin-closes");
        // The credentials of the person's own NATS are not for this one.
        for variable in ["CREDS", "NKEY", "CA", "CERT", "KEY", "TLS_FIRST"] {
            command.env_remove(format!("MUSTER_NATS_{variable}"));
        }
        // Neither are the options of another daemon.
        command.env_remove(config_file::VARIABLE);
        command
    }

    /// Starts a daemon; gives the file that it writes when it is ready.
    fn spawn(&mut self, name: &str, command: &mut Command) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let ready = dir.join("ready.json");
        // Remove the file of an earlier start: it would report this one as ready too soon.
        let _ = fs::remove_file(&ready);
        command.arg("--ready-file").arg(&ready);
        self.children.push(Child::spawn(name, command, &dir.join("log"))?);
        Ok(ready)
    }

    async fn await_ready(&mut self, name: &str, file: &Path) -> anyhow::Result<String> {
        let child = self.children.iter_mut().find(|child| child.name() == name);
        let child = child.with_context(|| format!("{name} was not started"))?;
        child.await_file(file, READY_WITHIN).await
    }

    fn tell(&self, summary: &Summary) -> anyhow::Result<()> {
        let bold = anstyle::Style::new().bold();
        let line = |name: &str, pid: u32, more: &str| {
            output::line(&format!("  {name:12} pid {pid:<8} {more}"))
        };
        output::pieces(&[(bold, &format!("fleet {} is ready", self.name))])?;
        line("nats-server", summary.nats_server.pid, &summary.nats)?;
        line("master m1", summary.master.pid, &format!("quic {}", summary.master.quic))?;
        for worker in &summary.workers {
            line(&format!("worker {}", worker.id), worker.pid, "")?;
        }
        if let Some(page) = &summary.page {
            output::line(&format!("  page         {page}"))?;
        }
        output::line(&format!("  logs         {}/*/log", self.dir.display()))?;
        let observer = self.dir.join("nats").join("observer.nk");
        output::line(&format!("  registry     nats --nkey {} …", observer.display()))?;
        ["", "In another terminal:", ""].iter().try_for_each(|text| output::line(text))?;
        output::pieces(&[(bold, &format!("  export MUSTER_NATS={}", summary.nats))])?;
        if self.name != GroupName::default() {
            output::pieces(&[(bold, &format!("  export MUSTER_FLEET={}", self.name))])?;
        }
        let rest = ["  muster worker ls", "", "Ctrl-C stops everything."];
        rest.iter().try_for_each(|text| output::line(text))
    }

    /// Waits for the end: of the command, or of what the others cannot do without.
    async fn watch(&mut self, signals: &mut Signals) -> anyhow::Result<ExitCode> {
        loop {
            let at = tokio::select! {
                at = child::first_to_end(&mut self.children) => at,
                () = signals.next() => return Ok(ExitCode::SUCCESS),
            };
            let child = self.children.remove(at);
            let is_worker = child.name().starts_with('w');
            let text = format!("{} (pid {}) {}", child.name(), child.pid(), child.how_it_ended());
            if !is_worker {
                let hint = format!("see {}", child.log().display());
                return Err(Failure::new(format!("{text}; stopping")).hint(hint).into());
            }
            exit::warn(&format!("{text}; the others go on"));
        }
    }

    /// Stops workers, then the master, then nats-server; a second signal kills what is left.
    async fn stop(&mut self, signals: &mut Signals) {
        while let Some(last) = self.children.last() {
            let stage = stage(last.name());
            let mut stopping: Vec<Child> = Vec::new();
            while let Some(child) = self.children.pop_if(|child| stage == self::stage(child.name()))
            {
                child.terminate();
                stopping.push(child);
            }
            let all = async {
                while !stopping.is_empty() {
                    let at = child::first_to_end(&mut stopping).await;
                    stopping.remove(at);
                }
            };
            tokio::select! {
                () = all => {}
                () = tokio::time::sleep(STOP_WITHIN) => {}
                () = signals.next() => {}
            }
            for child in &mut stopping {
                exit::warn(&format!("{} did not stop in time and is killed", child.name()));
                child.kill().await;
            }
        }
    }
}

/// Those that are stopped together.
fn stage(name: &str) -> Option<char> {
    name.chars().next()
}

fn directory(dir: &Path) -> anyhow::Result<PathBuf> {
    let made = fs::create_dir_all(dir).and_then(|()| fs::canonicalize(dir));
    made.map_err(|error| {
        Failure::user(format!("cannot use {}: {error}", dir.display()))
            .hint("choose another directory: muster dev --dir DIR")
            .into()
    })
}

/// Waits until every process of an earlier `muster dev` in this directory has ended. What is returned is
/// inherited by all that this one starts, and so is held until the last of them has ended, however this
/// process ends.
async fn outlive(dir: &Path) -> anyhow::Result<fs::File> {
    let path = dir.join("lock.shared");
    let file =
        fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let until = Instant::now() + READY_WITHIN;
    let mut told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    exit::warn("waiting for the processes of an earlier `muster dev` to end");
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let text = "processes of an earlier `muster dev` do not end".to_owned();
                let hint = format!("find the process that holds {}: fuser -v FILE", path.display());
                return Err(Failure::user(text).hint(hint).into());
            }
            Err(error) => return Err(error).context("cannot lock the directory"),
        }
    }
    fcntl_setfd(&file, FdFlags::empty()).context("cannot share the lock")?;
    Ok(file)
}

/// Holds the directory for this process alone.
fn lock(dir: &Path) -> anyhow::Result<fs::File> {
    let file = dir.join("lock");
    let file =
        fs::File::create(&file).with_context(|| format!("cannot make {}", file.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let text = format!("another `muster dev` runs in {}", dir.display());
            let hint = "use that one (see dev.json there), or choose another directory with --dir";
            Err(Failure::user(text).hint(hint).into())
        }
        Err(error) => Err(error).context("cannot lock the directory"),
    }
}
