//! The options that say where NATS is and how to log in: the same for a master, a worker and the
//! command. Never connects.

use super::{
    Access,
    address::{Address, AddressError, Who},
    context::{ContextError, SavedContext},
    domain::{Domain, DomainError},
    identity::{Identity, Login, UnusableFile},
};
use clap::{ArgMatches, Args, FromArgMatches, parser::ValueSource};
use muster_protocol::subject::is_inbox;
use std::path::PathBuf;

/// The server if nothing names one: where nats-server listens by default.
pub const URL_DEFAULT: &str = "nats://127.0.0.1:4222";

/// Which NATS servers to connect to, and how. Holds no secret but those in [`Address`], which are not
/// shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsArgs {
    nats: Option<Address>,
    context: Option<String>,
    creds: Option<PathBuf>,
    nkey: Option<PathBuf>,
    ca: Option<PathBuf>,
    own: Option<(PathBuf, PathBuf)>,
    tls_first: bool,
    domain: Option<Domain>,
    inbox_prefix: Option<String>,
    /// Whether the command line says where NATS is, and not the environment alone.
    on_command_line: bool,
}

#[derive(Args)]
#[command(next_help_heading = "NATS")]
struct ParsedNatsArgs {
    /// NATS servers, separated by commas, or @FILE for a file with them. A master that is told none uses
    /// nats://127.0.0.1:4222; a command uses the selected NATS context, or else the same
    #[arg(
        long,
        value_name = "URL|@FILE",
        env = "MUSTER_NATS",
        global = true,
        hide_env_values = true
    )]
    nats: Option<Address>,
    /// A NATS context, as `nats context ls` lists them
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// The credentials file of the NATS user: its JWT and its key
    #[arg(
        long,
        value_name = "FILE",
        env = "MUSTER_NATS_CREDS",
        global = true,
        conflicts_with = "nats_nkey"
    )]
    nats_creds: Option<PathBuf>,
    /// A file with the nkey seed of the NATS user
    #[arg(long, value_name = "FILE", env = "MUSTER_NATS_NKEY", global = true)]
    nats_nkey: Option<PathBuf>,
    /// The authority that signed the certificates of NATS [default: those of the system]
    #[arg(long, value_name = "FILE", env = "MUSTER_NATS_CA", global = true)]
    nats_ca: Option<PathBuf>,
    /// The certificate to show to NATS
    #[arg(
        long,
        value_name = "FILE",
        env = "MUSTER_NATS_CERT",
        global = true,
        requires = "nats_key"
    )]
    nats_cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(
        long,
        value_name = "FILE",
        env = "MUSTER_NATS_KEY",
        global = true,
        requires = "nats_cert"
    )]
    nats_key: Option<PathBuf>,
    /// Begin with TLS, before NATS says anything (its option `handshake_first`)
    #[arg(long, env = "MUSTER_NATS_TLS_FIRST", global = true)]
    nats_tls_first: bool,
    /// The JetStream domain of the registry, if it is at another server than this one, behind a leaf node
    #[arg(long, value_name = "NAME", env = "MUSTER_NATS_DOMAIN", global = true)]
    nats_domain: Option<Domain>,
    /// What the subjects of answers begin with, if the NATS user may hear no others: such as _INBOX_alice
    #[arg(
        long,
        value_name = "PREFIX",
        env = "MUSTER_NATS_INBOX_PREFIX",
        global = true,
        value_parser = inbox_prefix
    )]
    nats_inbox_prefix: Option<String>,
}

fn inbox_prefix(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte));
    match is_plain && is_inbox(text) {
        true => Ok(text.into()),
        false => {
            Err("masters answer only where it begins with _INBOX, such as _INBOX_alice".into())
        }
    }
}

/// Why the options cannot be used. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The context cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The URL of the context cannot be used.
    #[error(
        "the url of the NATS context cannot be used: {0}; correct it with: nats context edit, or name a server with --nats URL"
    )]
    ContextUrl(AddressError),
    /// The domain of the context cannot be used.
    #[error(
        "the jetstream_domain of the NATS context cannot be used: {0}; correct it with: nats context edit, or name a domain with --nats-domain"
    )]
    ContextDomain(DomainError),
    /// The inboxes of the context are none for a master.
    #[error(
        "the inbox_prefix of the NATS context is {0}, where masters do not answer; correct it with: nats context edit, to one that begins with _INBOX, such as _INBOX_alice"
    )]
    ContextInbox(String),
    /// No server is named.
    #[error("--nats names no server; leave it out, or write nats://HOST:PORT")]
    NoServer,
    /// There are two users.
    #[error("--nats names a user, and --nats-creds or --nats-nkey another; leave one of them out")]
    TwoUsers,
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] UnusableFile),
}

impl Args for NatsArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        // The options that follow have a heading of their own.
        ParsedNatsArgs::augment_args(command).next_help_heading(None)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        ParsedNatsArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for NatsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let parsed = ParsedNatsArgs::from_arg_matches(matches)?;
        let is_given = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        // A context from the command line takes precedence over a server from the environment. A server
        // from the command line takes precedence over the context's server.
        let by_environment = parsed.context.is_some() && !is_given("nats");
        Ok(NatsArgs {
            nats: parsed.nats.filter(|_| !by_environment),
            context: parsed.context,
            creds: parsed.nats_creds,
            nkey: parsed.nats_nkey,
            ca: parsed.nats_ca,
            own: parsed.nats_cert.zip(parsed.nats_key),
            tls_first: parsed.nats_tls_first,
            domain: parsed.nats_domain,
            inbox_prefix: parsed.nats_inbox_prefix,
            on_command_line: is_given("nats") || is_given("context"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = NatsArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

impl From<Address> for NatsArgs {
    fn from(address: Address) -> Self {
        NatsArgs { nats: Some(address), ..NatsArgs::default() }
    }
}

impl NatsArgs {
    /// Whether the command line says where NATS is.
    pub fn is_on_command_line(&self) -> bool {
        self.on_command_line
    }

    /// The access of a daemon: to the servers or the context that it was told, else to
    /// [`URL_DEFAULT`]. What a person has selected is not used: it may be another NATS tomorrow.
    pub fn access(&self) -> Result<Access, AccessError> {
        if self.nats.as_ref().is_some_and(Address::is_empty) {
            return Err(AccessError::NoServer);
        }
        let context = self.context.as_deref().map(SavedContext::named).transpose()?;
        self.access_with(context.unwrap_or_default())
    }

    /// The access of a person: the same, but for the selected NATS context where nothing names a
    /// server.
    pub fn access_of_person(&self) -> Result<Access, AccessError> {
        let is_named = self.nats.as_ref().is_some_and(|address| !address.is_empty());
        let context = match &self.context {
            Some(name) => Some(SavedContext::named(name)?),
            None if is_named => None,
            None => SavedContext::selected()?,
        };
        self.access_with(context.unwrap_or_default())
    }

    fn access_with(&self, context: SavedContext) -> Result<Access, AccessError> {
        let address = match self.nats.as_ref().filter(|address| !address.is_empty()) {
            Some(address) => address.clone(),
            None => {
                let url = if context.url().is_empty() { URL_DEFAULT } else { context.url() };
                url.parse().map_err(AccessError::ContextUrl)?
            }
        };
        let domain = match &self.domain {
            Some(domain) => Some(domain.clone()),
            None => context.domain().map_err(AccessError::ContextDomain)?,
        };
        let Identity { mut login, mut tls, inbox_prefix } = context.identity(&address);
        if !inbox_prefix.is_empty() && !is_inbox(&inbox_prefix) {
            return Err(AccessError::ContextInbox(inbox_prefix));
        }
        let inbox_prefix = self.inbox_prefix.clone().unwrap_or(inbox_prefix);
        let own = match (&self.creds, &self.nkey) {
            (Some(file), _) => Some(Login::Creds(file.clone())),
            (None, Some(file)) => Some(Login::Nkey(file.clone())),
            (None, None) => None,
        };
        if let Some(own) = own {
            if *address.who() != Who::Anybody {
                return Err(AccessError::TwoUsers);
            }
            login = own;
        }
        tls.ca = self.ca.clone().or(tls.ca);
        tls.own = self.own.clone().or(tls.own);
        tls.first |= self.tls_first;
        let identity = Identity { login, tls, inbox_prefix };
        identity.check()?;
        Ok(Access::new(address, identity, domain))
    }
}
