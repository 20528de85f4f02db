//! Hosts in network namespaces of their own, on one bridge; cuts by dropping what arrives, and broken
//! connections by resetting them. All of it is inside namespaces of this process (net, mount, pid), so that the kernel removes every trace
//! when it ends, however it ends; nothing here ever touches the machine's own network.

use crate::fleet::wait_for;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Says to this program that it is inside already.
const INSIDE: &str = "MUSTER_TESTS_APART";

/// The bridge, and this process' own place on it. The addresses are nobody else's: they exist only
/// in here.
const HUB: &str = "hub";
pub(super) const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// What a host drops: all that comes from an address in the first set. What it resets: every
/// connection with an address in the second one, at both ends; a reset itself must pass.
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

/// The hosts that were made.
pub struct Namespaces {
    hosts: BTreeMap<String, NetHost>,
    /// The hosts, and with whom their connections are reset.
    broken: BTreeSet<(String, String)>,
}

struct NetHost {
    address: Ipv4Addr,
    /// Does nothing but keep the namespace.
    keeper: Child,
}

impl Namespaces {
    /// Moves this program into namespaces of its own: it starts again, in there. To be called first
    /// of all, while there is nothing to lose.
    ///
    /// # Errors
    ///
    /// Why it is not possible here, as a sentence. Nothing was changed.
    pub fn enter() -> Result<Self, String> {
        if std::env::var_os(INSIDE).is_some() {
            run("ip", &["link", "set", "lo", "up"])?;
            run("ip", &["link", "add", HUB, "type", "bridge"])?;
            run("ip", &["address", "add", &format!("{OWN_ADDRESS}/24"), "dev", HUB])?;
            run("ip", &["link", "set", HUB, "up"])?;
            return Ok(Namespaces { hosts: BTreeMap::new(), broken: BTreeSet::new() });
        }
        let probe = format!("ip link add {HUB} type bridge && nft add table inet muster");
        let tried = unshare().args(["sh", "-ec", &probe]).output();
        let tried = tried.map_err(|error| format!("unshare: {error}"))?;
        if !tried.status.success() {
            return Err(String::from_utf8_lossy(&tried.stderr).trim().replace('\n', "; "));
        }
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let again =
            unshare().arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
        Err(format!("unshare: {again}"))
    }

    pub(super) fn address(&mut self, host: &str) -> Ipv4Addr {
        self.host(host).address
    }

    pub(super) fn command(&mut self, host: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(namespace(&self.host(host).keeper)).arg(program);
        command
    }

    /// One command for each host that is to hear less or more, all at once: a cut of many ways
    /// should be one moment.
    pub(super) fn set(&mut self, ways: &[(&str, &str)], lost: bool) {
        let verb = if lost { "add" } else { "delete" };
        let mut commands: BTreeMap<&str, String> = BTreeMap::new();
        for (from, to) in ways {
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

    /// Resets every connection of a host with another one and refuses new ones, or ends that.
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
            // A connection on which nobody sends would not notice the rule. Not every kernel can do
            // this; without it the next segment ends the connection.
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

/// Makes the host of this number, and joins it to the hub.
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

/// The start of a command line in new namespaces. What is in them ends with the first process.
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
