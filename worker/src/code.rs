//! Compiled programs on disk, so that a worker that restarts does not compile again. Never hands out
//! a byte that was not written by this worker: every file is authenticated with a key that does not
//! leave the state directory.

use crate::{compile::Compiled, shortage::Shortages};
use anyhow::Context as _;
use muster_protocol::Digest;
use muster_wire::process;
use ring::hmac;
use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// What a file begins with: the MAC of all that follows, an HMAC of SHA-256.
const MAC_SIZE: usize = 32;

/// What follows the MAC; the digit changes with the layout. Then what the code is for: the engine
/// and the module's digest.
const MAGIC: &[u8; 8] = b"MUSTERC1";

/// All that stands before the code.
const HEADER_SIZE: usize = MAC_SIZE + MAGIC.len() + size_of::<u64>() + size_of::<Digest>();

/// The length of the key: as long as the hash, as RFC 2104 advises.
const KEY_SIZE: usize = 32;

/// The ending of files that are being written.
const DRAFT: &str = "draft";

/// Compiled code that this worker made itself. It can be had in two ways alone: from
/// [`CodeCache::load`], after the MAC was found right, and from what a child of this very process
/// has compiled, which came through a pipe that nobody else has.
pub struct OwnCode {
    bytes: Vec<u8>,
    /// Where the code begins: after the header of a file.
    start: usize,
}

impl OwnCode {
    /// What was compiled.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl From<Compiled> for OwnCode {
    fn from(compiled: Compiled) -> Self {
        OwnCode { bytes: compiled.into_bytes(), start: 0 }
    }
}

/// The compiled programs of one worker. Clones are the same one.
#[derive(Clone)]
pub struct CodeCache(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    key: hmac::Key,
    /// The engine that the code is for: another version or setting compiles differently.
    engine: u64,
    size_max: u64,
    drafts: AtomicU64,
    wants: Shortages,
}

impl CodeCache {
    /// Opens the cache in `state`, a directory that only this worker uses. `engine` is the hash of
    /// what the code must fit to; `size_max` in bytes; `wants` hears where the host does not let it.
    pub(crate) fn open(
        state: &Path,
        engine: u64,
        size_max: u64,
        wants: Shortages,
    ) -> anyhow::Result<Self> {
        let dir = state.join("code");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
        let path = state.join("code.key");
        let key = key(&path).with_context(|| format!("{} cannot be used", path.display()))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let drafts = AtomicU64::new(0);
        let cache = CodeCache(Arc::new(Inner { dir, key, engine, size_max, drafts, wants }));
        cache.sweep();
        Ok(cache)
    }

    /// The code stored for a module, if there is any and it is this worker's own. What is not is
    /// removed.
    pub fn load(&self, module: Digest) -> Option<OwnCode> {
        let path = self.path(module);
        let bytes = match self.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(?module, %error, "compiled code cannot be read; compiling again");
                return None;
            }
        };
        if !self.is_own(module, &bytes) {
            tracing::warn!(?module, file = %path.display(), "compiled code is damaged or not this \
                worker's own; compiling again");
            self.remove(module);
            return None;
        };
        // For the order of eviction alone: a wrong wall clock costs a compilation.
        let used = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = used {
            tracing::debug!(?module, %error, "its use is not noted");
        }
        Some(OwnCode { bytes, start: HEADER_SIZE })
    }

    /// Stores a module's code, in the place of what was there, and makes room for it. A cache that
    /// cannot be written to is none.
    pub fn store(&self, module: Digest, code: &[u8]) {
        if let Err(error) = self.write(module, code) {
            tracing::warn!(?module, %error, "compiled code cannot be kept");
            self.0.wants.failed(&error);
        }
        self.sweep();
    }

    /// Forgets a module's code.
    pub fn remove(&self, module: Digest) {
        let _ = fs::remove_file(self.path(module));
    }

    fn path(&self, module: Digest) -> PathBuf {
        self.0.dir.join(format!("{}.{:016x}", module.hex(), self.0.engine))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Nothing larger was ever written, whoever put it there.
        let size = fs::metadata(path)?.len();
        if size > self.0.size_max {
            return Ok(Vec::new());
        }
        fs::read(path)
    }

    /// Whether this worker wrote the file, for this module and this engine: the MAC covers both, so
    /// that a file under another name is worth nothing.
    fn is_own(&self, module: Digest, file: &[u8]) -> bool {
        let Some((mac, signed)) = file.split_at_checked(MAC_SIZE) else { return false };
        hmac::verify(&self.0.key, signed, mac).is_ok() && signed.starts_with(&self.about(module))
    }

    fn about(&self, module: Digest) -> Vec<u8> {
        [&MAGIC[..], &self.0.engine.to_le_bytes(), &module.0].concat()
    }

    fn write(&self, module: Digest, code: &[u8]) -> io::Result<()> {
        if (HEADER_SIZE + code.len()) as u64 > self.0.size_max {
            return Ok(());
        }
        let about = self.about(module);
        let mut context = hmac::Context::with_key(&self.0.key);
        context.update(&about);
        context.update(code);
        let number = self.0.drafts.fetch_add(1, Ordering::Relaxed);
        let draft = self.0.dir.join(format!("{number}.{DRAFT}"));
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(context.sign().as_ref())?;
        file.write_all(&about)?;
        file.write_all(code)?;
        // Not synced: what a crash of the machine leaves of it fails its MAC.
        fs::rename(&draft, self.path(module))
    }

    /// Removes what no engine like this one can use, and then what was not used for longest, until
    /// the rest is within bounds.
    fn sweep(&self) {
        let ours = format!("{:016x}", self.0.engine);
        let mut kept: Vec<(PathBuf, Metadata)> = Vec::new();
        for entry in fs::read_dir(&self.0.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() && ending == ours => kept.push((path, metadata)),
                // Those of this very moment are renamed before they are swept: see `write`.
                _ if ending == DRAFT && self.0.drafts.load(Ordering::Relaxed) > 0 => {}
                _ => drop(fs::remove_file(&path)),
            }
        }
        kept.sort_by_key(|(_, metadata)| (metadata.mtime(), metadata.mtime_nsec()));
        let mut size: u64 = kept.iter().map(|(_, metadata)| metadata.len()).sum();
        for (path, metadata) in kept {
            if size <= self.0.size_max {
                break;
            }
            size -= metadata.len();
            let _ = fs::remove_file(path);
        }
    }
}

/// The key, made anew where there is none or others could have read it: then no file fits any more.
fn key(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(key) if key.len() == KEY_SIZE && fs::metadata(path)?.mode() & 0o077 == 0 => {
            return Ok(key);
        }
        Ok(_) => {
            tracing::warn!(file = %path.display(), "the key was damaged or open to others; a new one");
            fs::remove_file(path)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = Vec::with_capacity(KEY_SIZE);
    while key.len() < KEY_SIZE {
        key.extend_from_slice(&process::random()?.to_ne_bytes());
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    // A torn key only costs compilations, but costs them at each start if it is never replaced.
    file.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests;
