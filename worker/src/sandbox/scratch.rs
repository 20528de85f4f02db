//! A directory of one run's own: empty at first, gone afterwards, and bounded. Never seen by another
//! run.

mod tree;

pub use tree::SCRATCH_DEPTH_MAX;

use muster_protocol::task::LimitName;
use rustix::fd::{AsFd as _, OwnedFd};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tree::{Count, TooMuch};

/// Files and directories in it. Each costs the host an inode, and a listing of them all is kept in
/// the worker's memory for each handle that reads one: 80 MB for 250 of them.
pub const SCRATCH_ENTRIES_MAX: u64 = 1_024;

/// How much longer the next measurement waits than the last one took: a guest with many files must
/// not make its worker look at them all the time.
const REST: u32 = 10;

/// A scratch directory, removed when this is dropped.
pub(crate) struct Scratch {
    path: PathBuf,
    /// Kept open, so that it can be measured when nothing more can be opened by its path.
    dir: OwnedFd,
    device: u64,
    bytes_max: u64,
    next: Instant,
}

impl Scratch {
    /// Makes a directory of this name below `place`.
    pub(crate) fn new(place: &Path, name: &str, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        // As the kernel names what is open in it.
        let path = place.canonicalize()?.join(name);
        fs::create_dir(&path)?;
        let dir = tree::open_at(&path)?;
        let device = rustix::fs::fstat(&dir)?.st_dev;
        Ok(Scratch { path, dir, device, bytes_max, next: Instant::now() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Of what it holds more than it may, and how much that is, as far as that was looked at.
    pub(crate) fn over(&mut self) -> Option<(LimitName, u64)> {
        let began = Instant::now();
        if began < self.next {
            return None;
        }
        let (bytes_max, entries_max) = (self.bytes_max, SCRATCH_ENTRIES_MAX);
        let mut count = Count { bytes_max, entries_max, bytes: 0, entries: 0 };
        let within = count.below(self.dir.as_fd(), 0);
        let over = within.and_then(|()| count.nameless(&self.path, self.device)).err();
        self.next = Instant::now() + began.elapsed().max(Duration::from_micros(100)) * REST;
        over.map(|over| match over {
            TooMuch::Bytes => (LimitName::DirBytes, self.bytes_max),
            TooMuch::Entries => (LimitName::DirEntries, SCRATCH_ENTRIES_MAX),
            TooMuch::Depth => (LimitName::DirDepth, SCRATCH_DEPTH_MAX),
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_aside(vec![self.path.clone()]);
    }
}

/// Removes what a life that was killed has left, while this one begins.
pub(crate) fn sweep(place: &Path) {
    let left = fs::read_dir(place).into_iter().flatten().flatten();
    let left: Vec<PathBuf> = left.map(|entry| entry.path()).collect();
    if !left.is_empty() {
        remove_aside(left);
    }
}

/// Removes directories on a thread of its own: on a slow disk that takes longer than guests and leases
/// can wait.
fn remove_aside(paths: Vec<PathBuf>) {
    let removing = move || {
        for path in paths {
            if let Err(error) = tree::remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a scratch directory stays behind");
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("sweep".into()).spawn(removing) {
        tracing::warn!(%error, "scratch directories stay behind until the worker begins anew");
    }
}

#[cfg(test)]
mod tests;
