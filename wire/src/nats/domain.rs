//! JetStream domains: the registry of a fleet may be at another server than the connected one, behind a
//! leaf node. This is the only file that knows how a subject names a domain. Never decides where a
//! registry is.

use async_nats::{
    Client,
    jetstream::{
        Context,
        context::{AccountErrorKind, ContextBuilder, No},
    },
};
use std::{fmt, ops::Deref, str::FromStr};

/// The longest name of a domain, in bytes: as long as JetStream's other names may be.
const DOMAIN_SIZE_MAX: usize = 255;

/// The name of a JetStream domain: the option `domain` in the configuration of its nats-server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(String);

/// A text cannot be the name of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a JetStream domain has 1 to {DOMAIN_SIZE_MAX} characters, without spaces, `.`, `*` and `>`"
)]
pub struct DomainError;

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        // The name is one token of a subject.
        let is_refused =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>');
        match text.is_empty() || text.len() > DOMAIN_SIZE_MAX || text.contains(is_refused) {
            true => Err(DomainError),
            false => Ok(Domain(text.into())),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Domain {
    /// What each subject of its API begins with.
    pub fn api(&self) -> String {
        format!("$JS.{self}.API")
    }
}

/// A subject of the API of a domain: the domain, and the subject without it. `None` for other subjects.
pub(super) fn without_domain(subject: &str) -> Option<(&str, String)> {
    let (domain, rest) = subject.strip_prefix("$JS.")?.split_once(".API.")?;
    let is_key = rest.starts_with("$KV.");
    let local = if is_key { rest.into() } else { format!("$JS.API.{rest}") };
    (!domain.contains('.')).then_some((domain, local))
}

/// JetStream in one domain: the named one, or else that of the connected server.
#[derive(Clone, Debug)]
pub struct JetStream {
    context: Context,
    domain: Option<Domain>,
}

/// Nothing answers requests of JetStream. Says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoJetStream(String);

impl JetStream {
    /// With the client's own timeouts.
    pub fn new(client: Client, domain: Option<Domain>) -> Self {
        JetStream::tuned(domain, |builder| builder.build(client))
    }

    /// With what `build` chooses.
    pub fn tuned(
        domain: Option<Domain>,
        build: impl FnOnce(ContextBuilder<No>) -> Context,
    ) -> Self {
        let api = domain.as_ref().map_or_else(|| "$JS.API".into(), Domain::api);
        JetStream { context: build(ContextBuilder::new().api_prefix(api)), domain }
    }

    /// The subject to which a value of a key is written. It is read by the subject of the key itself.
    pub fn written_to(&self, key: &str) -> String {
        match &self.domain {
            None => key.into(),
            // A leaf node passes on no subject that begins with `$KV`.
            Some(domain) => format!("{}.{key}", domain.api()),
        }
    }

    /// What each subject of its API begins with.
    pub fn api(&self) -> String {
        self.domain.as_ref().map_or_else(|| "$JS.API".into(), Domain::api)
    }

    /// Whether the connected server itself is in the domain, as far as it says.
    pub fn is_local(&self) -> bool {
        let own = self.context.client().server_info().domain;
        self.domain.as_ref().is_none_or(|domain| Some(&domain.0) == own.as_ref())
    }

    /// Asks whether JetStream is there. An error other than silence is left to those who ask next.
    pub async fn look(&self) -> Result<(), NoJetStream> {
        match self.context.query_account().await {
            Err(error) if error.kind() == AccountErrorKind::JetStreamUnavailable => {
                Err(self.is_missing())
            }
            _ => Ok(()),
        }
    }

    /// The error for a request that no server listens for.
    pub fn is_missing(&self) -> NoJetStream {
        let own = self.context.client().server_info().domain;
        NoJetStream(missing(self.domain.as_ref(), own.as_deref()))
    }
}

impl Deref for JetStream {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

fn missing(domain: Option<&Domain>, own: Option<&str>) -> String {
    let Some(domain) = domain else {
        return "JetStream does not answer; start nats-server with JetStream on (`nats-server -js`)"
            .into();
    };
    let own = match own {
        Some(own) => format!("the domain of the connected server is {own}"),
        None => "the connected server has no domain".into(),
    };
    format!(
        "nothing answers in the JetStream domain {domain}; correct --nats-domain ({own}), or see \
         whether the leaf node that leads there is connected"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_one_token() {
        for name in ["hub", "shop-7", "Größe"] {
            assert!(name.parse::<Domain>().is_ok(), "{name}");
        }
        for name in ["", "a.b", "a b", "*", ">", "a\n", &"a".repeat(DOMAIN_SIZE_MAX + 1)] {
            assert!(name.parse::<Domain>().is_err(), "{name}");
        }
    }

    #[test]
    fn the_domain_of_a_subject_is_found() {
        for (subject, found) in [
            ("$JS.hub.API.INFO", Some(("hub", "$JS.API.INFO"))),
            ("$JS.hub.API.STREAM.INFO.s", Some(("hub", "$JS.API.STREAM.INFO.s"))),
            ("$JS.hub.API.$KV.b.k", Some(("hub", "$KV.b.k"))),
            ("$JS.API.INFO", None),
            ("$JS.ACK.s.c.API.1", None),
            ("muster.f.api.API.x", None),
        ] {
            let found = found.map(|(domain, local)| (domain, local.to_owned()));
            assert_eq!(without_domain(subject), found, "{subject}");
        }
    }

    #[test]
    fn a_silent_domain_is_named_with_that_of_the_server() {
        assert!(missing(None, Some("hub")).contains("nats-server -js"));
        let domain = "hup".parse().ok();
        let text = missing(domain.as_ref(), Some("hub"));
        assert!(text.contains("domain hup;") && text.contains("server is hub"), "{text}");
        assert!(missing(domain.as_ref(), None).contains("has no domain"));
    }
}
