//! `muster module key`, and the signing of modules. A secret key leaves its file nowhere.

use super::Wasm;
use crate::{
    exit::Failure,
    output::{self, Format},
};
use anyhow::Context as _;
use muster_module::signing::{SecretKey, SecretKeyError};
use muster_protocol::signature::Signature;
use serde_json::json;
use std::{
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// More than a file with a key has, in bytes.
const KEY_FILE_MAX: u64 = 4 * 1024;

/// Makes a key and writes it to two new files.
pub(super) fn make(file: &Path, format: Format) -> anyhow::Result<()> {
    let key = SecretKey::generate().context("the operating system gives no random bytes")?;
    let (public, public_file) = (key.public(), public_file(file));
    write(file, &key.text(), 0o600)?;
    write(
        &public_file,
        &format!("untrusted comment: public key {}\n{public}\n", public.id),
        0o644,
    )?;
    if format == Format::Json {
        return output::json(&json!({ "id": public.id, "public": public }));
    }
    output::line(&format!(
        "key {}: {} is secret, {} is not",
        public.id,
        file.display(),
        public_file.display()
    ))?;
    output::line(&format!("In the policy of a worker: signers = [\"{public}\"]"))
}

fn public_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Writes a new file. One that exists stays as it is.
fn write(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let failed =
        |error: io::Error| Failure::user(format!("cannot write {}: {error}", file.display()));
    let mut new = OpenOptions::new();
    let new = new.write(true).create_new(true).mode(mode).open(file);
    Ok(new.and_then(|mut new| new.write_all(text.as_bytes())).map_err(failed)?)
}

/// Signs a module with the key in a file. The signed comment has its name and digest, for people.
pub(super) fn sign(file: &Path, wasm: &Wasm, name: &str) -> anyhow::Result<Signature> {
    sign_bytes(file, &wasm.bytes, &format!("module:{name}\tdigest:{}", wasm.digest))
}

/// Signs bytes and a comment with the key in a file.
pub fn sign_bytes(file: &Path, bytes: &[u8], comment: &str) -> anyhow::Result<Signature> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::user(format!("cannot sign with {}: {error}", file.display()))
    };
    let mut text = String::new();
    let opened = OpenOptions::new().read(true).open(file);
    opened
        .and_then(|file| file.take(KEY_FILE_MAX).read_to_string(&mut text))
        .map_err(|error| failed(&error))?;
    let key = SecretKey::read(&text).map_err(|error| {
        let failure = failed(&error);
        match error {
            SecretKeyError::Malformed => failure.hint("make a key: muster module key FILE"),
            SecretKeyError::Encrypted => {
                failure.hint("make a key without a password: minisign -G -W")
            }
        }
    })?;
    Ok(key.sign(bytes, comment).map_err(|error| failed(&error))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn a_key_is_secret_and_replaces_none() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("shop.key");
        make(&file, Format::Json).expect("a key");
        let mode = fs::metadata(&file).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let key = SecretKey::read(&fs::read_to_string(&file).expect("text")).expect("a key");
        let public = fs::read_to_string(dir.path().join("shop.key.pub")).expect("made");
        assert_eq!(public.lines().nth(1), Some(&key.public().to_string()[..]));
        assert!(make(&file, Format::Json).is_err(), "never replaced");
    }
}
