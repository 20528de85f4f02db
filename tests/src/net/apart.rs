//! Hosts in their own network namespaces, on one bridge. A cut drops the packets that arrive, and a
//! broken connection is reset. Everything is inside namespaces of this process (net, mount, pid), so the
//! kernel removes all of it when this process ends for any reason. Never changes the machine's own
//! network.

use super::cuts::Cuts;
use crate::fleet::wait_for;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The environment variable that tells this program that it is inside the namespaces.
const INSIDE: &str = "MUSTER_TESTS_APART";

/// The bridge, and the address of this process on it. The addresses exist only inside the namespaces.
const HUB: &str = "hub";
pub(super) const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// How far the next address of a host is from the one before.
const READDRESSED: u8 = 100;

/// The rules of a host. It drops every packet from an address in the first set. It resets every
/// connection with an address in the second set, at both ends; the reset itself must pass.
const RULES: &str = "
table inet muster {
    set lost { type ipv4_addr; }
    set broken { type ipv4_addr; }
    chain arrivals {
        type filter hook input priority 0;
        ip saddr @lost drop;
        ip saddr @broken tcp flags & rst == 0 reject with tcp reset;
    }
    chain departures {
        type filter hook output priority 0;
        ip daddr @broken tcp flags & rst == 0 reject with tcp reset;
    }
}
";

/// The namespaces of all hosts.
pub struct Namespaces {
    hosts: BTreeMap<String, NetHost>,
    /// Pairs of hosts whose connections are reset.
    broken: BTreeSet<(String, String)>,
    cuts: Cuts,
}

struct NetHost {
    address: Ipv4Addr,
    /// A process that only keeps the namespace alive.
    keeper: Child,
}

impl Namespaces {
    /// Moves this program into its own namespaces: the program starts again inside them. Call this first
    /// in `main`, while the program has no state.
    ///
    /// # Errors
    ///
    /// A sentence that says why this is not possible here. Nothing was changed.
    pub fn enter() -> Result<Self, String> {
        if std::env::var_os(INSIDE).is_some() {
            run("ip", &["link", "set", "lo", "up"])?;
            run("ip", &["link", "add", HUB, "type", "bridge"])?;
            run("ip", &["address", "add", &format!("{OWN_ADDRESS}/24"), "dev", HUB])?;
            run("ip", &["link", "set", HUB, "up"])?;
            return Ok(Namespaces {
                hosts: BTreeMap::new(),
                broken: BTreeSet::new(),
                cuts: Cuts::default(),
            });
        }
        probe()?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let again =
            unshare().arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
        Err(format!("unshare: {again}"))
    }

    /// Runs a test again, in a process of its own inside the namespaces. In that process, returns them. In the
    /// process that has started it, returns nothing once the test has succeeded there.
    ///
    /// # Errors
    ///
    /// A sentence that says why this is not possible here.
    ///
    /// # Panics
    ///
    /// When the test failed there.
    pub fn enter_for_test(name: &str) -> Result<Option<Self>, String> {
        if std::env::var_os(INSIDE).is_some() {
            return Namespaces::enter().map(Some);
        }
        probe()?;
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut again = unshare();
        again.arg(program).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
        let ended = again.status().map_err(|error| format!("unshare: {error}"))?;
        assert!(ended.success(), "{name} failed inside its namespaces");
        Ok(None)
    }

    /// Gives a host another address in the place of the one that it has, as another network would.
    pub(super) fn readdress(&mut self, host: &str) {
        let NetHost { address: old, keeper } = self.host(host);
        let [a, b, c, d] = old.octets();
        let new = Ipv4Addr::new(a, b, c, d + READDRESSED);
        let there = namespace(keeper);
        let script =
            format!("ip address delete {old}/24 dev eth0 && ip address add {new}/24 dev eth0");
        run("nsenter", &[&there, "sh", "-ec", &script]).expect("the host's own address can change");
        if let Some(host) = self.hosts.get_mut(host) {
            host.address = new;
        }
    }

    pub(super) fn address(&mut self, host: &str) -> Ipv4Addr {
        self.host(host).address
    }

    pub(super) fn command(&mut self, host: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(namespace(&self.host(host).keeper)).arg(program);
        command
    }

    /// Runs one command for each affected host, all at once, so that a cut of many paths happens at
    /// nearly one moment.
    pub(super) fn set(&mut self, ways: &[(&str, &str)], lost: bool) {
        let verb = if lost { "add" } else { "delete" };
        let mut commands: BTreeMap<&str, String> = BTreeMap::new();
        for (from, to) in self.cuts.change(ways, lost) {
            let from = self.host(from).address;
            let element = format!("{verb} element inet muster lost {{ {from} }}; ");
            commands.entry(to).or_default().push_str(&element);
        }
        let spawn = |(to, rules): (&str, String)| {
            let mut command = Command::new("nsenter");
            command.arg(namespace(&self.host(to).keeper)).args(["nft", &rules]);
            command.stdin(Stdio::null()).spawn().expect("it was there a moment ago")
        };
        let under_way: Vec<Child> = commands.into_iter().map(spawn).collect();
        for mut command in under_way {
            let status = command.wait().expect("it is this process' child");
            assert!(status.success(), "the hosts' own rules can be changed: {ways:?}");
        }
    }

    /// Resets every connection between two hosts and refuses new ones, or ends that.
    pub(super) fn set_broken(&mut self, host: &str, other: &str, is_broken: bool) {
        let way = (host.to_string(), other.to_string());
        let is_new = if is_broken { self.broken.insert(way) } else { self.broken.remove(&way) };
        if !is_new {
            return;
        }
        let address = self.host(other).address;
        let there = namespace(&self.host(host).keeper);
        let verb = if is_broken { "add" } else { "delete" };
        let rule = format!("{verb} element inet muster broken {{ {address} }}");
        run("nsenter", &[&there, "nft", &rule]).expect("the host's own rules can be changed");
        if is_broken {
            // A connection on which nothing is sent would not meet the rule. Not every kernel supports
            // this command; without it the next packet ends the connection.
            let _ = run("nsenter", &[&there, "ss", "-K", "dst", &address.to_string()]);
        }
    }

    fn host(&mut self, name: &str) -> &NetHost {
        if !self.hosts.contains_key(name) {
            let host =
                make(self.hosts.len() + 1).expect("what worked for the hub works for a host");
            self.hosts.insert(name.into(), host);
        }
        &self.hosts[name]
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for host in self.hosts.values_mut() {
            let _ = host.keeper.kill();
            let _ = host.keeper.wait();
        }
    }
}

/// Tries whether this user may make namespaces.
fn probe() -> Result<(), String> {
    let probe = format!("ip link add {HUB} type bridge && nft add table inet muster");
    let tried = unshare().args(["sh", "-ec", &probe]).output();
    let tried = tried.map_err(|error| format!("unshare: {error}"))?;
    if tried.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&tried.stderr).trim().replace('\n', "; "))
}

/// Makes the host with this number, and connects it to the bridge.
fn make(number: usize) -> Result<NetHost, String> {
    let keeper = Command::new("unshare")
        .args(["--net", "sleep", "infinity"])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("unshare: {error}"))?;
    let pid = keeper.id().to_string();
    let own = fs::read_link("/proc/self/ns/net").map_err(|error| error.to_string())?;
    wait_for("a namespace of its own", || {
        let its = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
        (its != own).then_some(())
    });
    let address = Ipv4Addr::new(10, 77, 0, u8::try_from(number).expect("a fleet is small"));
    let (port, there) = (format!("host{number}"), namespace(&keeper));
    run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    run("ip", &["link", "set", &port, "master", HUB, "up"])?;
    run("nsenter", &[&there, "ip", "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    run("nsenter", &[&there, "ip", "link", "set", "eth0", "up"])?;
    run("nsenter", &[&there, "ip", "link", "set", "lo", "up"])?;
    run("nsenter", &[&there, "nft", RULES])?;
    Ok(NetHost { address, keeper })
}

fn namespace(keeper: &Child) -> String {
    format!("--net=/proc/{}/ns/net", keeper.id())
}

/// The start of a command line in new namespaces. All processes in them end with the first one.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(args).stdin(Stdio::null()).output();
    let ran = ran.map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&ran.stderr).trim()))
}
