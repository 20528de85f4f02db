//! The scratch directory of one run: empty at first, removed afterwards, and limited in size. Never
//! visible to another run.

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

/// Files and directories in a scratch directory. Each costs the host an inode, and the worker's memory
/// holds a listing of them for each handle that reads a directory: 80 MB for 250 handles.
pub const SCRATCH_ENTRIES_MAX: u64 = 1_024;

/// The backoff of measurements: the next one waits this many times as long as the last one took, so
/// that a guest with many files does not keep the worker busy with measuring.
const REST: u32 = 10;

/// A scratch directory; it is removed when this is dropped.
pub(crate) struct Scratch {
    path: PathBuf,
    /// Kept open, so that it can be measured even when the process cannot open more files.
    dir: OwnedFd,
    device: u64,
    bytes_max: u64,
    next: Instant,
}

impl Scratch {
    /// Makes a directory with this name below `place`.
    pub(crate) fn new(place: &Path, name: &str, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        // The path in the form in which the kernel reports open files.
        let path = place.canonicalize()?.join(name);
        fs::create_dir(&path)?;
        let dir = tree::open_at(&path)?;
        let device = rustix::fs::fstat(&dir)?.st_dev;
        Ok(Scratch { path, dir, device, bytes_max, next: Instant::now() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The limit that the directory exceeds, with its maximum; `None` if it exceeds none, or if the
    /// next measurement is not due yet.
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

/// Removes the scratch directories that a killed process has left behind; called at the start.
pub(crate) fn sweep(place: &Path) {
    let left = fs::read_dir(place).into_iter().flatten().flatten();
    let left: Vec<PathBuf> = left.map(|entry| entry.path()).collect();
    if !left.is_empty() {
        remove_aside(left);
    }
}

/// Removes directories on a thread of its own: on a slow disk, removal takes longer than guests and
/// leases can wait.
fn remove_aside(paths: Vec<PathBuf>) {
    let removing = move || {
        for path in paths {
            if let Err(error) = tree::remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a scratch directory cannot be removed");
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("sweep".into()).spawn(removing) {
        tracing::warn!(%error, "scratch directories cannot be removed before the worker starts again");
    }
}

#[cfg(test)]
mod tests;
