//! The cache of compiled programs on disk, so that a worker that restarts does not compile again. Never
//! returns a byte that this worker did not write: every file is authenticated with a key that does not
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

/// The size of the MAC at the start of a file, in bytes: HMAC-SHA-256 over all that follows.
const MAC_SIZE: usize = 32;

/// The bytes after the MAC; the digit changes with the layout. After them come the engine and the
/// digest of the module that the code is for.
const MAGIC: &[u8; 8] = b"MUSTERC1";

/// The size of everything before the code, in bytes.
const HEADER_SIZE: usize = MAC_SIZE + MAGIC.len() + size_of::<u64>() + size_of::<Digest>();

/// The length of the key in bytes: that of the hash, as RFC 2104 advises.
const KEY_SIZE: usize = 32;

/// The file extension of files that are being written.
const DRAFT: &str = "draft";

/// Compiled code that this worker made itself. There are only two ways to get one: from
/// [`CodeCache::load`], after the MAC was verified, and from the output of a child of this very
/// process, over a pipe that no other process has.
pub struct OwnCode {
    bytes: Vec<u8>,
    /// Where the code begins, in bytes: after the header of a file.
    start: usize,
}

impl OwnCode {
    /// The compiled code.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl From<Compiled> for OwnCode {
    fn from(compiled: Compiled) -> Self {
        OwnCode { bytes: compiled.into_bytes(), start: 0 }
    }
}

/// The compiled programs of one worker. Clones share the cache.
#[derive(Clone)]
pub struct CodeCache(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    key: hmac::Key,
    /// The hash of the engine that the code is for: another version or another setting compiles
    /// differently.
    engine: u64,
    size_max: u64,
    drafts: AtomicU64,
    wants: Shortages,
}

impl CodeCache {
    /// Opens the cache in `state`, a directory that only this worker uses. `engine` is the hash of the
    /// engine that the code must fit; `size_max` is in bytes. Failed writes are reported to `wants`.
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

    /// The code that is stored for a module; `None` if there is none, or if this worker did not write
    /// it. Then the file is removed.
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
            tracing::warn!(?module, file = %path.display(), "compiled code is damaged, or not made \
                by this worker; compiling again");
            self.remove(module);
            return None;
        };
        // The time of use only orders the eviction: a wrong wall clock costs at most a compilation.
        let used = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = used {
            tracing::debug!(?module, %error, "the use of compiled code cannot be recorded");
        }
        Some(OwnCode { bytes, start: HEADER_SIZE })
    }

    /// Stores a module's code, replaces what was there, and evicts other code to make space. If the
    /// write fails the worker goes on without it.
    pub fn store(&self, module: Digest, code: &[u8]) {
        if let Err(error) = self.write(module, code) {
            tracing::warn!(?module, %error, "compiled code cannot be kept");
            self.0.wants.failed(&error);
        }
        self.sweep();
    }

    /// Removes a module's code.
    pub fn remove(&self, module: Digest) {
        let _ = fs::remove_file(self.path(module));
    }

    fn path(&self, module: Digest) -> PathBuf {
        self.0.dir.join(format!("{}.{:016x}", module.hex(), self.0.engine))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // This worker never wrote a larger file.
        let size = fs::metadata(path)?.len();
        if size > self.0.size_max {
            return Ok(Vec::new());
        }
        fs::read(path)
    }

    /// Whether this worker wrote the file for this module and this engine. The MAC covers both, so a
    /// file that was renamed is refused.
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
        // Not synced: if the machine crashes, an incomplete file fails its MAC.
        fs::rename(&draft, self.path(module))
    }

    /// Removes files that an engine like this one cannot use. Then evicts the least recently used files
    /// until the rest fits into `size_max`.
    fn sweep(&self) {
        let ours = format!("{:016x}", self.0.engine);
        let mut kept: Vec<(PathBuf, Metadata)> = Vec::new();
        for entry in fs::read_dir(&self.0.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() && ending == ours => kept.push((path, metadata)),
                // Drafts left by an earlier process are removed at the start. Once this process writes,
                // a draft may be in use.
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

/// Reads the key. Makes a new one if there is none or if others could have read it; then no stored file
/// is valid any more.
fn key(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(key) if key.len() == KEY_SIZE && fs::metadata(path)?.mode() & 0o077 == 0 => {
            return Ok(key);
        }
        Ok(_) => {
            tracing::warn!(file = %path.display(), "the key was damaged, or others could read it; a new one is made");
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
    // A torn key would cost all compilations again at each start, until it is replaced.
    file.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests;
