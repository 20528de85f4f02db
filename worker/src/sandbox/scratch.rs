//! A directory of one run's own: empty at first, gone afterwards, and bounded. Never seen by another
//! run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Files and directories in it: each costs the host an inode, whatever it holds.
pub const SCRATCH_ENTRIES_MAX: u64 = 4_096;

/// What one of them counts besides its bytes: the host's usual block.
const ENTRY_SIZE: u64 = 4_096;

/// How much longer the next measurement waits than the last one took: a guest with many files must
/// not make its worker look at them all the time.
const REST: u32 = 10;

/// A scratch directory, removed when this is dropped.
pub(crate) struct Scratch {
    path: PathBuf,
    bytes_max: u64,
    next: Instant,
}

impl Scratch {
    /// Makes a directory of this name below `place`.
    pub(crate) fn new(place: &Path, name: &str, bytes_max: u64) -> io::Result<Self> {
        let path = place.join(name);
        fs::create_dir_all(place)?;
        fs::create_dir(&path)?;
        Ok(Scratch { path, bytes_max, next: Instant::now() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Of what it holds more than it may, and how much that is, as far as that was looked at.
    pub(crate) fn over(&mut self) -> Option<(&'static str, u64)> {
        let began = Instant::now();
        if began < self.next {
            return None;
        }
        let mut held = Held::default();
        let over = held.add(&self.path, self.bytes_max).err();
        self.next = Instant::now() + began.elapsed().max(Duration::from_micros(100)) * REST;
        over.map(|over| match over {
            TooMuch::Bytes => ("dir_bytes", self.bytes_max),
            TooMuch::Entries => ("dir_entries", SCRATCH_ENTRIES_MAX),
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a scratch directory stays behind");
        }
    }
}

/// Removes what a life that was killed has left.
pub(crate) fn sweep(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        swept => swept,
    }
}

#[derive(Default)]
struct Held {
    bytes: u64,
    entries: u64,
}

/// There is more than there may be.
enum TooMuch {
    Bytes,
    Entries,
}

impl Held {
    /// Counts what is below a directory, until it is too much. What vanishes meanwhile is not there.
    fn add(&mut self, dir: &Path, bytes_max: u64) -> Result<(), TooMuch> {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            self.entries += 1;
            // A file with holes may claim more than it has, and fill them one by one.
            self.bytes += metadata.len().max(ENTRY_SIZE);
            if self.entries > SCRATCH_ENTRIES_MAX {
                return Err(TooMuch::Entries);
            }
            if self.bytes > bytes_max.max(ENTRY_SIZE) {
                return Err(TooMuch::Bytes);
            }
            if metadata.is_dir() {
                self.add(&entry.path(), bytes_max)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_measured_whole_and_leaves_nothing_behind() {
        let place = std::env::temp_dir().join(format!("muster-scratch-{}", std::process::id()));
        let mut scratch = Scratch::new(&place, "a", 100_000).expect("a directory");
        let path = scratch.path().to_path_buf();
        fs::create_dir(path.join("deep")).expect("it is ours");
        fs::write(path.join("deep/file"), vec![0; 90_000]).expect("it is ours");
        assert_eq!(scratch.over(), None, "94,096 bytes");
        scratch.next = Instant::now();
        fs::write(path.join("more"), b"x").expect("it is ours");
        fs::write(path.join("still more"), b"x").expect("it is ours");
        assert_eq!(scratch.over(), Some(("dir_bytes", 100_000)), "each file counts a block");
        drop(scratch);
        assert!(!path.exists());
        sweep(&place).expect("it is ours");
        assert!(!place.exists());
        sweep(&place).expect("it is gone already");
    }

    #[test]
    fn many_empty_files_are_too_much_as_well() {
        let place = std::env::temp_dir().join(format!("muster-entries-{}", std::process::id()));
        let mut scratch = Scratch::new(&place, "a", u64::MAX).expect("a directory");
        for number in 0..=SCRATCH_ENTRIES_MAX {
            fs::write(scratch.path().join(number.to_string()), b"").expect("it is ours");
        }
        assert_eq!(scratch.over(), Some(("dir_entries", SCRATCH_ENTRIES_MAX)));
        drop(scratch);
        sweep(&place).expect("it is ours");
    }
}
