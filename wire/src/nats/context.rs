//! NATS contexts as the `nats` command stores them: the server and the credentials. Never writes them,
//! and never shows a secret.

use super::{
    address::{Address, Who},
    domain::{Domain, DomainError},
    identity::{Identity, Login, TlsFiles},
};
use serde::Deserialize;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// What a context may contain of what is used here.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SavedContext {
    /// Servers, separated by commas.
    url: String,
    creds: String,
    nkey: String,
    user: String,
    password: String,
    token: String,
    ca: String,
    cert: String,
    key: String,
    inbox_prefix: String,
    tls_first: bool,
    jetstream_domain: String,
    /// An account of the `nsc` tool, which is not called here.
    nsc: String,
}

/// Why a context cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Contexts are kept in the home directory, and there is none.
    #[error("there is no home directory to read NATS contexts from; name a server with --nats URL")]
    NoHome,
    /// The name would lead out of the directory of contexts.
    #[error("{0:?} is not the name of a NATS context; list them with: nats context ls")]
    Name(String),
    /// There is no context of this name.
    #[error(
        "there is no NATS context {0:?}; list them with: nats context ls, or name a server with --nats URL"
    )]
    Missing(String),
    /// A file cannot be read.
    #[error("the NATS context in {} cannot be used: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: String,
    },
    /// It leaves the credentials to the `nsc` tool.
    #[error(
        "the NATS context {0:?} asks nsc for credentials; give it a credentials file: nats context edit, field creds"
    )]
    Nsc(String),
}

impl SavedContext {
    /// The context called `name`.
    pub fn named(name: &str) -> Result<Self, ContextError> {
        SavedContext::read(&directory().ok_or(ContextError::NoHome)?, name)
    }

    /// The context that `nats context select` chose, if any.
    pub fn selected() -> Result<Option<Self>, ContextError> {
        match directory() {
            Some(dir) => SavedContext::selected_in(&dir),
            None => Ok(None),
        }
    }

    fn selected_in(dir: &Path) -> Result<Option<Self>, ContextError> {
        let file = dir.join("context.txt");
        match fs::read_to_string(&file) {
            Ok(name) if name.trim().is_empty() => Ok(None),
            Ok(name) => SavedContext::read(dir, name.trim()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ContextError::Unreadable { file, cause: error.to_string() }),
        }
    }

    fn read(dir: &Path, name: &str) -> Result<Self, ContextError> {
        if name.contains('/') || name.contains("..") {
            return Err(ContextError::Name(name.into()));
        }
        let file = dir.join("context").join(format!("{name}.json"));
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ContextError::Missing(name.into()));
            }
            Err(error) => {
                return Err(ContextError::Unreadable { file, cause: error.to_string() });
            }
        };
        let context: SavedContext = serde_json::from_slice(&text)
            .map_err(|error| ContextError::Unreadable { file, cause: error.to_string() })?;
        if context.nsc.is_empty() { Ok(context) } else { Err(ContextError::Nsc(name.into())) }
    }

    /// The servers, with the credentials in their URLs; empty if it names none.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The JetStream domain, if it names one.
    pub fn domain(&self) -> Result<Option<Domain>, DomainError> {
        let name = Some(self.jetstream_domain.as_str()).filter(|name| !name.is_empty());
        name.map(str::parse).transpose()
    }

    /// How to log in and connect. Credentials in a URL come first.
    pub fn identity(&self, address: &Address) -> Identity {
        let login = if *address.who() != Who::Anybody {
            Login::Who(address.who().clone())
        } else if !self.creds.is_empty() {
            Login::Creds(expand(&self.creds))
        } else if !self.nkey.is_empty() {
            Login::Nkey(expand(&self.nkey))
        } else if !self.token.is_empty() {
            Login::Who(Who::Token(self.token.clone()))
        } else if !self.user.is_empty() {
            Login::Who(Who::User(self.user.clone(), self.password.clone()))
        } else {
            Login::default()
        };
        let file = |path: &str| (!path.is_empty()).then(|| expand(path));
        let own = file(&self.cert).zip(file(&self.key));
        let tls = TlsFiles { ca: file(&self.ca), own, first: self.tls_first };
        Identity { login, tls, inbox_prefix: self.inbox_prefix.clone() }
    }
}

/// Where the `nats` command keeps its contexts.
fn directory() -> Option<PathBuf> {
    let config = env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
    let config = config.map(PathBuf::from).or_else(|| Some(home()?.join(".config")))?;
    Some(config.join("nats"))
}

fn home() -> Option<PathBuf> {
    env::var_os("HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of contexts, removed when it is dropped.
    struct Dir(PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn contexts(name: &str, files: &[(&str, &str)]) -> Dir {
        let dir = env::temp_dir().join(format!("muster-contexts-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("context")).expect("a new directory");
        for (name, text) in files {
            fs::write(dir.join(name), text).expect("a new file");
        }
        Dir(dir)
    }

    #[test]
    fn the_selected_context_is_found() {
        let dir = contexts(
            "selected",
            &[
                ("context.txt", "edge\n"),
                (
                    "context/edge.json",
                    r#"{"description":"","url":"nats://10.0.0.1:4222,nats://10.0.0.2:4222",
                    "user":"me","password":"s","color_scheme":"","jetstream_domain":"hub",
                    "ca":"/ca.pem","tls_first":true}"#,
                ),
            ],
        );
        let context = SavedContext::selected_in(&dir.0).expect("readable").expect("selected");
        assert_eq!(context.url(), "nats://10.0.0.1:4222,nats://10.0.0.2:4222");
        assert_eq!(context.domain(), Ok("hub".parse().ok()));
        assert_eq!(SavedContext::default().domain(), Ok(None), "that of the server");
        let address = context.url().parse().expect("a URL");
        let identity = context.identity(&address);
        assert!(identity.login == Login::Who(Who::User("me".into(), "s".into())));
        assert!(identity.tls.ca == Some("/ca.pem".into()) && identity.tls.first);
        let by_url = "nats://you:t@h".parse().expect("a URL");
        let login = context.identity(&by_url).login;
        assert!(login == Login::Who(Who::User("you".into(), "t".into())));
    }

    #[test]
    fn without_a_selection_there_is_none() {
        assert!(SavedContext::selected_in(&contexts("none", &[]).0).expect("readable").is_none());
        let empty = contexts("empty", &[("context.txt", "")]);
        assert!(SavedContext::selected_in(&empty.0).expect("readable").is_none());
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let dir = contexts(
            "bad",
            &[
                ("context.txt", "gone"),
                ("context/bad.json", "{"),
                ("context/nsc.json", r#"{"nsc":"nsc://operator/account"}"#),
            ],
        );
        assert!(SavedContext::selected_in(&dir.0).is_err(), "selected, but not there");
        for name in ["bad", "nsc", "../context", "none"] {
            assert!(SavedContext::read(&dir.0, name).is_err(), "{name}");
        }
    }
}
