//! NATS contexts as the `nats` command stores them: the server and the credentials. Never writes them,
//! and never shows a secret.

use crate::exit::Failure;
use anyhow::Context as _;
use async_nats::ConnectOptions;
use muster_wire::nats::{Address, Who};
use serde::Deserialize;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// The server if nothing names one: where nats-server listens by default.
pub const URL_DEFAULT: &str = "nats://127.0.0.1:4222";

/// The NATS servers and credentials of a client.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
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
    /// An account of the `nsc` tool, which this command does not call.
    nsc: String,
}

impl Settings {
    /// The server URLs.
    pub fn address(&self) -> anyhow::Result<Address> {
        let url = if self.url.is_empty() { URL_DEFAULT } else { &self.url };
        url.parse().map_err(|why| {
            Failure::user(format!("the url of the NATS context cannot be used: {why}"))
                .hint("correct it with: nats context edit, or name a server with --nats URL")
                .into()
        })
    }

    /// The context called `name`.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let dir = directory().ok_or_else(|| {
            Failure::user("there is no home directory to read NATS contexts from")
        })?;
        Settings::read(&dir, name)
    }

    /// The context that `nats context select` chose, if any.
    pub fn selected() -> anyhow::Result<Option<Self>> {
        match directory() {
            Some(dir) => Settings::selected_in(&dir),
            None => Ok(None),
        }
    }

    fn selected_in(dir: &Path) -> anyhow::Result<Option<Self>> {
        match fs::read_to_string(dir.join("context.txt")) {
            Ok(name) if name.trim().is_empty() => Ok(None),
            Ok(name) => Settings::read(dir, name.trim()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("cannot read the selected NATS context"),
        }
    }

    fn read(dir: &Path, name: &str) -> anyhow::Result<Self> {
        if name.contains('/') || name.contains("..") {
            return Err(Failure::user(format!("{name:?} is not the name of a context")).into());
        }
        let file = dir.join("context").join(format!("{name}.json"));
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let failure = Failure::user(format!("there is no NATS context {name:?}"))
                    .hint("list them with: nats context ls, or name a server with --nats URL");
                return Err(failure.into());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        let settings: Settings = serde_json::from_slice(&text)
            .map_err(|error| Failure::user(format!("{} is malformed: {error}", file.display())))?;
        if !settings.nsc.is_empty() {
            let failure =
                Failure::user(format!("the NATS context {name:?} asks nsc for credentials"))
                    .hint("give it a credentials file: nats context edit, field creds");
            return Err(failure.into());
        }
        Ok(settings)
    }

    /// How to connect. Credentials in a URL replace the context's user or token.
    pub async fn options(&self, who: &Who) -> anyhow::Result<ConnectOptions> {
        let mut options = ConnectOptions::new();
        if !self.creds.is_empty() {
            let file = expand(&self.creds);
            options = options
                .credentials_file(&file)
                .await
                .map_err(|error| unreadable("credentials", &file, &error))?;
        } else if !self.nkey.is_empty() {
            let file = expand(&self.nkey);
            let seed = fs::read_to_string(&file)
                .map_err(|error| unreadable("nkey seed", &file, &error))?;
            options = options.nkey(seed.trim().to_owned());
        } else if let Who::Token(token) = who {
            options = options.token(token.clone());
        } else if let Who::User(user, password) = who {
            options = options.user_and_password(user.clone(), password.clone());
        } else if !self.token.is_empty() {
            options = options.token(self.token.clone());
        } else if !self.user.is_empty() {
            options = options.user_and_password(self.user.clone(), self.password.clone());
        }
        if !self.ca.is_empty() {
            options = options.add_root_certificates(expand(&self.ca)).require_tls(true);
        }
        if !self.cert.is_empty() {
            options = options
                .add_client_certificate(expand(&self.cert), expand(&self.key))
                .require_tls(true);
        }
        if !self.inbox_prefix.is_empty() {
            options = options.custom_inbox_prefix(&self.inbox_prefix);
        }
        Ok(if self.tls_first { options.tls_first() } else { options })
    }
}

fn unreadable(what: &str, file: &Path, error: &io::Error) -> Failure {
    Failure::user(format!("cannot read the {what} file {}: {error}", file.display()))
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

    fn contexts(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("context")).expect("a new directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a new file");
        }
        dir
    }

    #[test]
    fn the_selected_context_is_found() {
        let dir = contexts(&[
            ("context.txt", "edge\n"),
            (
                "context/edge.json",
                r#"{"description":"","url":"nats://10.0.0.1:4222,nats://10.0.0.2:4222",
                    "user":"me","password":"s","color_scheme":"","jetstream_domain":""}"#,
            ),
        ]);
        let settings = Settings::selected_in(dir.path()).expect("readable").expect("selected");
        assert_eq!(settings.url, "nats://10.0.0.1:4222,nats://10.0.0.2:4222");
        assert_eq!((settings.user.as_str(), settings.password.as_str()), ("me", "s"));
    }

    #[test]
    fn without_a_selection_there_is_none() {
        assert!(Settings::selected_in(contexts(&[]).path()).expect("readable").is_none());
        let empty = contexts(&[("context.txt", "")]);
        assert!(Settings::selected_in(empty.path()).expect("readable").is_none());
    }

    #[test]
    fn a_context_without_url_means_the_default_server() {
        let dir = contexts(&[("context/plain.json", "{}")]);
        let settings = Settings::read(dir.path(), "plain").expect("readable");
        assert_eq!(settings.address().expect("a URL").to_string(), URL_DEFAULT);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let dir = contexts(&[
            ("context.txt", "gone"),
            ("context/bad.json", "{"),
            ("context/nsc.json", r#"{"nsc":"nsc://operator/account"}"#),
        ]);
        assert!(Settings::selected_in(dir.path()).is_err(), "selected, but not there");
        for name in ["bad", "nsc", "../context", "none"] {
            assert!(Settings::read(dir.path(), name).is_err(), "{name}");
        }
    }
}
