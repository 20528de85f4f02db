//! Grants: what a task may have besides its input, and what a worker's policy allows. By default: nothing.

mod address;
mod policy;
mod secret;

pub use address::is_public;
pub use policy::{ModuleRule, Policy, RequestedGrants};
pub use secret::{NotASecretName, SecretName, SecretRule, SecretTerms, check_value};

use address::{in_net, whole};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, net::IpAddr, str::FromStr, time::Duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The resolution of a guest's clock without a grant. Coarse enough to hide what the guest could learn
/// of its neighbours by timing, fine enough to measure its own work.
pub const CLOCK_DEFAULT: Duration = Duration::from_millis(1);

/// How many names and hosts one list of grants or of a policy may have: leases and records carry them,
/// and must stay small.
pub const GRANTS_MAX: usize = 64;

/// The longest name or value of an environment variable, and the longest host, in bytes. A record is
/// rewritten at every change, so longer values belong into the input.
pub const TEXT_MAX: usize = 4 * 1024;

/// The most scratch space that a task may ask for, in bytes: more than the disk of most edge hosts. A
/// worker's policy says what it really has.
pub const SCRATCH_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// The grants that a task asks for; none by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// Environment variables, with their values.
    pub env: BTreeMap<String, String>,
    /// Names of secrets that the worker has. Each becomes an environment variable of that name.
    pub secrets: BTreeSet<String>,
    /// Where it may send HTTP requests.
    pub http: BTreeSet<HttpRule>,
    /// The size in bytes of the run's scratch directory, which is empty at first and removed after the
    /// run; 0 for none.
    pub dir_bytes: u64,
    /// The resolution of its clock, in nanoseconds.
    pub clock_ns: u64,
    /// Whether its random numbers are the machine's. Without, they follow from the task's id: the
    /// same in each attempt, and no secret.
    pub random: bool,
}

impl Default for Grants {
    fn default() -> Self {
        Grants {
            env: BTreeMap::new(),
            secrets: BTreeSet::new(),
            http: BTreeSet::new(),
            dir_bytes: 0,
            clock_ns: CLOCK_DEFAULT.as_nanos() as u64,
            random: false,
        }
    }
}

impl Grants {
    /// Whether it asks for nothing.
    pub fn is_none(&self) -> bool {
        *self == Grants::default()
    }

    /// Whether it can be granted at all. The error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.env.len() > GRANTS_MAX
            || self.secrets.len() > GRANTS_MAX
            || self.http.len() > GRANTS_MAX
        {
            return Err(format!(
                "a task may have at most {GRANTS_MAX} variables, and as many secrets and hosts"
            ));
        }
        for name in self.env.keys().chain(&self.secrets) {
            let odd = |byte: u8| byte == b'=' || byte == 0;
            if name.is_empty() || name.len() > TEXT_MAX || name.bytes().any(odd) {
                return Err(format!("{name:?} cannot be the name of an environment variable"));
            }
        }
        if let Some((name, _)) =
            self.env.iter().find(|(_, value)| value.len() > TEXT_MAX || value.contains('\0'))
        {
            return Err(format!(
                "the variable {name} is longer than {TEXT_MAX} bytes or has a zero byte: give it as input"
            ));
        }
        if let Some(both) = self.secrets.iter().find(|name| self.env.contains_key(*name)) {
            return Err(format!("{both} is asked for as a variable and as a secret"));
        }
        if self.dir_bytes > SCRATCH_MAX {
            return Err(format!("a scratch directory may have at most {SCRATCH_MAX} bytes"));
        }
        if self.clock_ns == 0 {
            return Err("a clock's resolution is at least 1 ns".to_string());
        }
        Ok(())
    }
}

/// A place that HTTP requests may go to: `HOST[:PORT]`.
///
/// `HOST` is a name, `*.` and a domain (any name below it), `*` (any name and any public address),
/// an address, or a network (`10.1.0.0/16`, `[fd00::]/8`). Without a port, 80 and 443 are allowed; `:*`
/// allows every port. If a name resolves to a private or loopback address, another rule must name that
/// address as well; `localhost` also names the loopback addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpRule {
    host: HostPattern,
    port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostPattern {
    Any,
    Below(String),
    Name(String),
    Net(IpAddr, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    Web,
    One(u16),
    Any,
}

/// Why a text is no [`HttpRule`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST[:PORT]: give a name, *.DOMAIN, an address or a network, and no scheme")]
pub struct HttpRuleError(String);

/// The ports of `http` and `https`.
const WEB_PORTS: [u16; 2] = [80, 443];

impl HttpRule {
    /// Whether this rule allows everything that the other one allows.
    pub fn covers(&self, other: &HttpRule) -> bool {
        let host = match (&self.host, &other.host) {
            (HostPattern::Any, HostPattern::Net(address, bits)) => {
                *bits == whole(address) && is_public(*address)
            }
            (HostPattern::Any, HostPattern::Name(name)) => name != LOCALHOST,
            (HostPattern::Any, _) => true,
            (HostPattern::Below(mine), HostPattern::Below(other)) => {
                mine == other || is_below(other, mine)
            }
            (HostPattern::Below(domain), HostPattern::Name(name)) => is_below(name, domain),
            (HostPattern::Name(mine), HostPattern::Name(name)) => mine == name,
            (HostPattern::Net(net, bits), HostPattern::Net(address, finer)) => {
                bits <= finer && in_net(*address, *net, *bits)
            }
            _ => false,
        };
        let port = match (self.port, other.port) {
            (Port::Any, _) | (Port::Web, Port::Web) => true,
            (Port::Web, Port::One(port)) => WEB_PORTS.contains(&port),
            (mine, other) => mine == other,
        };
        host && port
    }

    /// The ports that it allows; `None` for every port.
    pub fn ports(&self) -> Option<Vec<u16>> {
        match self.port {
            Port::Any => None,
            Port::Web => Some(WEB_PORTS.into()),
            Port::One(port) => Some([port].into()),
        }
    }

    fn has_port(&self, port: u16) -> bool {
        match self.port {
            Port::Any => true,
            Port::Web => WEB_PORTS.contains(&port),
            Port::One(mine) => mine == port,
        }
    }

    fn has_name(&self, name: &str) -> bool {
        match &self.host {
            HostPattern::Any => name != LOCALHOST,
            HostPattern::Below(domain) => is_below(name, domain),
            HostPattern::Name(mine) => mine == name,
            HostPattern::Net(..) => false,
        }
    }

    fn names(&self, address: IpAddr) -> bool {
        match &self.host {
            HostPattern::Net(net, bits) => in_net(address, *net, *bits),
            HostPattern::Name(name) => name == LOCALHOST && address.is_loopback(),
            _ => false,
        }
    }
}

/// Whether a request to a host (an address or a name, as in a URL) may be made at all.
pub fn may_ask(rules: &BTreeSet<HttpRule>, host: &str, port: u16) -> bool {
    let host = lowercase(host);
    match bare(&host).parse::<IpAddr>() {
        Ok(address) => may_reach(rules, address, port, true),
        Err(_) => rules.iter().any(|rule| rule.has_port(port) && rule.has_name(&host)),
    }
}

/// Whether a connection to an address may be made. `literal`: the request names the address itself, not
/// a name that resolves to it.
pub fn may_reach(rules: &BTreeSet<HttpRule>, address: IpAddr, port: u16, literal: bool) -> bool {
    let address = address.to_canonical();
    let named = rules.iter().any(|rule| rule.has_port(port) && rule.names(address));
    let any = rules.iter().any(|rule| rule.has_port(port) && rule.host == HostPattern::Any);
    named || (is_public(address) && (!literal || any))
}

const LOCALHOST: &str = "localhost";

fn lowercase(host: &str) -> String {
    let mut host = host.to_ascii_lowercase();
    if host.ends_with('.') {
        host.pop();
    }
    host
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

impl FromStr for HttpRule {
    type Err = HttpRuleError;

    fn from_str(text: &str) -> Result<Self, HttpRuleError> {
        let refuse = || HttpRuleError(text.to_string());
        if text.len() > TEXT_MAX {
            return Err(refuse());
        }
        let lower = text.to_ascii_lowercase();
        let (host, port) = split(&lower).ok_or_else(refuse)?;
        let port = match port {
            None => Port::Web,
            Some("*") => Port::Any,
            Some(port) => Port::One(port.parse().ok().filter(|&port| port > 0).ok_or_else(refuse)?),
        };
        Ok(HttpRule { host: host_of(host).ok_or_else(refuse)?, port })
    }
}

/// The host and the port of `HOST[:PORT]`, `[ADDRESS]:PORT`, `ADDRESS/BITS:PORT`.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    // An IPv6 address without brackets contains colons.
    if text.parse::<IpAddr>().is_ok() {
        return Some((text, None));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(['/', ']']) => Some((host, Some(port))),
        _ => Some((text, None)),
    }
}

fn host_of(host: &str) -> Option<HostPattern> {
    if host == "*" {
        return Some(HostPattern::Any);
    }
    // A trailing dot names the root: the name, or the address, is the same without it.
    let name = host.strip_suffix('.').unwrap_or(host);
    let (address, bits) = match name.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (name, None),
    };
    if let Ok(written) = bare(address).parse::<IpAddr>() {
        let address = written.to_canonical();
        // An IPv4 address written as IPv6 has 96 bits before its own.
        let before = whole(&written) - whole(&address);
        let bits = match bits {
            None => whole(&address),
            Some(bits) => bits.parse::<u8>().ok()?.checked_sub(before)?,
        };
        return (bits <= whole(&address)).then_some(HostPattern::Net(address, bits));
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            })
    };
    match name.strip_prefix("*.") {
        Some(domain) if is_name(domain) => Some(HostPattern::Below(domain.into())),
        None if is_name(name) => Some(HostPattern::Name(name.into())),
        _ => None,
    }
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Below(domain) => write!(f, "*.{domain}")?,
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Net(address, bits) => {
                match address {
                    IpAddr::V4(address) => write!(f, "{address}")?,
                    IpAddr::V6(address) => write!(f, "[{address}]")?,
                }
                if *bits != whole(address) {
                    write!(f, "/{bits}")?;
                }
            }
        }
        match self.port {
            Port::Web => Ok(()),
            Port::One(port) => write!(f, ":{port}"),
            Port::Any => f.write_str(":*"),
        }
    }
}

impl Serialize for HttpRule {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HttpRule {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// A list of grants, for tables and messages: `http api.example.com, random`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.env.keys().map(|name| format!("env {name}")));
        words.extend(self.secrets.iter().map(|name| format!("secret {name}")));
        words.extend(self.http.iter().map(|rule| format!("http {rule}")));
        if self.dir_bytes > 0 {
            words.push(format!("dir of {} bytes", self.dir_bytes));
        }
        if self.clock_ns != CLOCK_DEFAULT.as_nanos() as u64 {
            words.push(format!("clock of {} ns", self.clock_ns));
        }
        if self.random {
            words.push("random".into());
        }
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests;
