//! The address of NATS and the credentials in it, parsed from URLs in the same way for the daemons and
//! the command. Never shows a secret, not even of a malformed URL.

use async_nats::ServerAddr;
use clap::builder::{TypedValueParser, ValueParserFactory};
use percent_encoding::percent_decode_str;
use std::{ffi::OsStr, fmt, str::FromStr};

/// The servers of one cluster (or a single server), and the credentials for them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Address {
    servers: Vec<ServerAddr>,
    who: Who,
}

/// The credentials that a client presents to NATS. It has no `Debug`, since it holds secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Who {
    /// No credentials.
    #[default]
    Anybody,
    /// A token.
    Token(String),
    /// A user and a password.
    User(String, String),
}

/// Why a text is no [`Address`]. The errors do not repeat the text, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// One of the URLs is malformed.
    #[error(
        "it is not a URL of NATS, which has the form nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT]: {0}"
    )]
    Malformed(String),
    /// The URLs hold different credentials.
    #[error("its URLs name different users or tokens; the servers of a list must have the same")]
    Disagree,
    /// The named file cannot be read.
    #[error("the file {0} cannot be read: {1}")]
    File(String, String),
}

impl Address {
    /// Parses an address from a command line: URLs separated by commas, or `@FILE` for a file with such
    /// URLs. Everyone on a machine can read the command lines of its processes, but not the file.
    pub fn given(text: &str) -> Result<Self, AddressError> {
        let Some(file) = text.strip_prefix('@') else { return text.parse() };
        let read = std::fs::read_to_string(file);
        read.map_err(|error| AddressError::File(file.into(), error.to_string()))?.parse()
    }

    /// The servers to connect to, without credentials.
    pub fn servers(&self) -> &[ServerAddr] {
        &self.servers
    }

    /// The credentials for NATS.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Whether the address names no server, as an empty text does.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut address = Address::default();
        for url in text.trim().split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            let (server, who) = one(url)?;
            if who != Who::Anybody && address.who != Who::Anybody && who != address.who {
                return Err(AddressError::Disagree);
            }
            if who != Who::Anybody {
                address.who = who;
            }
            address.servers.push(server);
        }
        Ok(address)
    }
}

fn one(url: &str) -> Result<(ServerAddr, Who), AddressError> {
    let malformed = |error: &dyn fmt::Display| AddressError::Malformed(error.to_string());
    let server: ServerAddr = url.parse().map_err(|error| malformed(&error))?;
    if server.host().is_empty() {
        return Err(malformed(&"it names no host"));
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let who = match (server.username().map(decoded), server.password().map(decoded)) {
        (Some(user), Some(password)) => Who::User(user, password),
        (Some(token), None) => Who::Token(token),
        (None, Some(_)) => return Err(malformed(&"it has a password but no user")),
        (None, None) => Who::Anybody,
    };
    let mut bare = server.into_inner();
    if bare.set_username("").and_then(|()| bare.set_password(None)).is_err() {
        return Err(malformed(&"a URL of this form cannot have a user"));
    }
    Ok((ServerAddr::from_url(bare).map_err(|error| malformed(&error))?, who))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.servers.iter().map(ServerAddr::as_url_str);
        f.write_str(&servers.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ValueParserFactory for Address {
    type Parser = Given;

    fn value_parser() -> Given {
        Given
    }
}

/// Parses an [`Address`] from a command line. clap's own parser for [`Address::given`] would repeat a
/// malformed value, with its password, in the error.
#[derive(Clone)]
pub struct Given;

impl TypedValueParser for Given {
    type Value = Address;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Address, clap::Error> {
        let text = value.to_str().ok_or(AddressError::Malformed("it is not UTF-8".into()));
        text.and_then(Address::given).map_err(|why| {
            let name = arg.and_then(clap::Arg::get_long).unwrap_or("nats");
            let variable = arg
                .and_then(clap::Arg::get_env)
                .map_or_else(String::new, |variable| format!(" or {}", variable.display()));
            let text = format!("the value of --{name}{variable} cannot be used: {why}\n");
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, Who) {
        let address: Address = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        (address.to_string(), address.who)
    }

    #[test]
    fn a_url_says_where_nats_is_and_who_asks() {
        let user = |user: &str, password: &str| Who::User(user.into(), password.into());
        let token = |token: &str| Who::Token(token.into());
        for (text, shown, who) in [
            ("nats://host:4222", "nats://host:4222", Who::Anybody),
            ("host", "nats://host", Who::Anybody),
            ("nats://[::1]:4222", "nats://[::1]:4222", Who::Anybody),
            ("nats://me:secret@host:4222", "nats://host:4222", user("me", "secret")),
            ("tls://me:p%40s%2Fs%s@host", "tls://host", user("me", "p@s/s%s")),
            ("nats://me:p@ss@host:1", "nats://host:1", user("me", "p@ss")),
            ("nats://t0ken@host", "nats://host", token("t0ken")),
            ("nats://t%2Fk@a, nats://b:2", "nats://a,nats://b:2", token("t/k")),
            ("nats://a,nats://me:x@b,nats://me:x@c", "nats://a,nats://b,nats://c", user("me", "x")),
            ("", "", Who::Anybody),
        ] {
            let read = read(text);
            assert_eq!(read.0, shown);
            assert!(read.1 == who, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_not_shown() {
        for text in [
            "nats://me:secret@host:port",
            "http://me:secret@host",
            "nats://me:secret@",
            "nats://:secret@host",
            "nats://me:sec,secret@host",
            "nats://a:secret@h,nats://b:secret@h",
            "nats://secret@h,",
        ] {
            let error = text.parse::<Address>().err().unwrap_or_else(|| panic!("{text} is none"));
            assert!(!format!("{error} {error:?}").contains("sec"), "{text}: {error}");
            let line = clap::Command::new("x").arg(
                clap::Arg::new("nats").long("nats").value_parser(clap::value_parser!(Address)),
            );
            let error = line.try_get_matches_from(["x", "--nats", text]).expect_err("refused");
            assert_eq!(error.exit_code(), 2);
            assert!(!error.to_string().contains("sec"), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_keeps_it_off_the_command_line() {
        let file = std::env::temp_dir().join(format!("muster-address-{}", std::process::id()));
        std::fs::write(&file, "nats://me:secret@host\n").expect("a file");
        let address = Address::given(&format!("@{}", file.display())).expect("readable");
        assert!(*address.who() == Who::User("me".into(), "secret".into()));
        std::fs::remove_file(&file).expect("it is there");
        assert!(Address::given("@/nowhere/at/all").is_err());
    }
}
