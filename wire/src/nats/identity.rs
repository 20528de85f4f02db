//! How a process logs in at NATS, and how its connections are encrypted. Files are read for each
//! connection, so that a renewed one is used by the next. Never shows a secret.

use super::address::{Address, Who};
use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// How a process logs in at NATS. It has no `Debug`, since it holds secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub(super) login: Login,
    pub(super) tls: TlsFiles,
    /// What the subjects of answers begin with; empty for the client's own.
    pub(super) inbox_prefix: String,
}

/// What a client presents to the server.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Nothing, a token, or a user and password.
    Who(Who),
    /// A file with a JWT and the seed of its key.
    Creds(PathBuf),
    /// A file with the seed of an nkey.
    Nkey(PathBuf),
}

impl Default for Login {
    fn default() -> Self {
        Login::Who(Who::Anybody)
    }
}

/// The files for TLS. Without any, a server is verified by the authorities of the system.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// The authority that has signed the server's certificate.
    pub ca: Option<PathBuf>,
    /// This client's certificate and its private key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// Whether the server expects TLS before it says anything.
    pub first: bool,
}

/// A file that is needed to connect and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} file {} cannot be used: {cause}", path.display())]
pub struct UnusableFile {
    what: &'static str,
    path: PathBuf,
    cause: String,
}

impl Identity {
    /// The files that are read for each connection.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let login = match &self.login {
            Login::Who(_) => None,
            Login::Creds(file) | Login::Nkey(file) => Some(file),
        };
        let own = self.tls.own.iter().flat_map(|(cert, key)| [cert, key]);
        login.into_iter().chain(&self.tls.ca).chain(own).map(PathBuf::as_path)
    }

    /// Reads every file once. An error says which one cannot be used.
    pub(super) fn check(&self) -> Result<(), UnusableFile> {
        self.auth(b"a nonce")?;
        let unusable = |what, path: &Path, cause: &dyn fmt::Display| UnusableFile {
            what,
            path: path.into(),
            cause: cause.to_string(),
        };
        let own = self.tls.own.as_ref();
        for (what, path) in [
            ("certificate authority", self.tls.ca.as_ref()),
            ("certificate", own.map(|(cert, _)| cert)),
        ] {
            let Some(path) = path else { continue };
            let read = CertificateDer::pem_file_iter(path)
                .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
                .map_err(|error| unusable(what, path, &error))?;
            if read.is_empty() {
                return Err(unusable(what, path, &"it has no certificate"));
            }
        }
        if let Some((_, key)) = own {
            PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unusable("private key", key, &error))?;
        }
        Ok(())
    }

    /// The options of a connection to `address`.
    pub(super) fn options(
        &self,
        address: &Address,
        may_log_in: impl Fn() -> bool + Send + Sync + 'static,
    ) -> ConnectOptions {
        let identity = self.clone();
        let mut options = ConnectOptions::with_auth_callback(move |nonce| {
            let auth = match may_log_in() {
                true => identity.auth(&nonce).map_err(|error| AuthError::new(error.to_string())),
                false => Err(AuthError::new("it is over")),
            };
            std::future::ready(auth)
        });
        if let Some(ca) = &self.tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((cert, key)) = &self.tls.own {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        if self.tls.first {
            options = options.tls_first();
        }
        if !self.inbox_prefix.is_empty() {
            options = options.custom_inbox_prefix(&self.inbox_prefix);
        }
        // Once one server has to be verified, all have to be: also those that the cluster names.
        let is_wanted = self.tls != TlsFiles::default();
        options.require_tls(is_wanted || address.servers().iter().any(|url| url.tls_required()))
    }

    /// What to present to a server that has sent this nonce.
    fn auth(&self, nonce: &[u8]) -> Result<Auth, UnusableFile> {
        let mut auth = Auth::new();
        match &self.login {
            Login::Who(Who::Anybody) => {}
            Login::Who(Who::Token(token)) => auth.token = Some(token.clone()),
            Login::Who(Who::User(user, password)) => {
                (auth.username, auth.password) = (Some(user.clone()), Some(password.clone()));
            }
            Login::Creds(file) => {
                let text = read("credentials", file)?;
                let jwt = between(&text, "NATS USER JWT");
                let seed = between(&text, "USER NKEY SEED");
                let (Some(jwt), Some(seed)) = (jwt, seed) else {
                    let cause =
                        "it does not have the parts NATS USER JWT and USER NKEY SEED".into();
                    return Err(UnusableFile { what: "credentials", path: file.clone(), cause });
                };
                auth.jwt = Some(jwt.into());
                auth.signature = Some(sign("credentials", file, seed, nonce)?.0);
            }
            Login::Nkey(file) => {
                let text = read("nkey", file)?;
                let (signature, key) = sign("nkey", file, text.trim(), nonce)?;
                (auth.signature, auth.nkey) = (Some(signature), Some(key.public_key()));
            }
        }
        Ok(auth)
    }
}

fn read(what: &'static str, file: &Path) -> Result<String, UnusableFile> {
    fs::read_to_string(file).map_err(|error| UnusableFile {
        what,
        path: file.into(),
        cause: error.to_string(),
    })
}

/// Signs a nonce with the key of a seed; also returns the key.
fn sign(
    what: &'static str,
    file: &Path,
    seed: &str,
    nonce: &[u8],
) -> Result<(Vec<u8>, KeyPair), UnusableFile> {
    let unusable = |_| UnusableFile {
        what,
        path: file.into(),
        cause: "its seed is not the seed of an nkey".into(),
    };
    let key = KeyPair::from_seed(seed).map_err(unusable)?;
    let signature = key.sign(nonce).map_err(unusable)?;
    Ok((signature, key))
}

/// The text of a part of a credentials file: between a line `-----BEGIN <part>-----` and the next
/// line of dashes.
fn between<'a>(text: &'a str, part: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("BEGIN {part}-"))?;
    let (_, rest) = rest.split_once('\n')?;
    let (found, _) = rest.split_once("---")?;
    Some(found.trim()).filter(|found| !found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("muster-{name}-{}", std::process::id()));
        fs::write(&path, text).expect("a file");
        path
    }

    fn by(login: Login) -> Identity {
        Identity { login, ..Identity::default() }
    }

    #[test]
    fn credentials_and_nkeys_sign_the_nonce() {
        let key = KeyPair::new_user();
        let seed = key.seed().expect("a seed");
        let creds = file(
            "creds",
            &format!(
                "-----BEGIN NATS USER JWT-----\nthe.jwt\n------END NATS USER JWT------\n\n\
                 ***\nkeep it\n***\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n\
                 ------END USER NKEY SEED------\n"
            ),
        );
        let auth = by(Login::Creds(creds.clone())).auth(b"n").expect("usable");
        assert_eq!(auth.jwt.as_deref(), Some("the.jwt"));
        key.verify(b"n", &auth.signature.expect("signed")).expect("by this key");
        let nkey = file("nkey", &format!("{seed}\n"));
        let auth = by(Login::Nkey(nkey.clone())).auth(b"n").expect("usable");
        assert_eq!(auth.nkey, Some(key.public_key()));
        key.verify(b"n", &auth.signature.expect("signed")).expect("by this key");
        for path in [creds, nkey] {
            fs::remove_file(path).expect("it is there");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_its_content_is_not_shown() {
        let wrong = file("wrong", "SUsecret");
        for identity in [
            by(Login::Creds(wrong.clone())),
            by(Login::Nkey(wrong.clone())),
            by(Login::Nkey("/nowhere/at/all".into())),
            Identity {
                tls: TlsFiles { ca: Some(wrong.clone()), ..TlsFiles::default() },
                ..Identity::default()
            },
            Identity {
                tls: TlsFiles { own: Some((wrong.clone(), wrong.clone())), ..TlsFiles::default() },
                ..Identity::default()
            },
        ] {
            let error = identity.check().expect_err("unusable").to_string();
            assert!(error.contains("/nowhere") || error.contains("muster-wrong"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        fs::remove_file(wrong).expect("it is there");
    }
}
