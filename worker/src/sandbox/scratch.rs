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
        let within = held.add(&self.path, self.bytes_max);
        let over = within.and_then(|()| held.add_deleted(&self.path, self.bytes_max)).err();
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
            self.count(&metadata, bytes_max)?;
            if metadata.is_dir() {
                self.add(&entry.path(), bytes_max)?;
            }
        }
        Ok(())
    }
}

impl Held {
    /// Counts the files that have no name any more and are still open: what is written to them is on
    /// the disk as well.
    fn add_deleted(&mut self, dir: &Path, bytes_max: u64) -> Result<(), TooMuch> {
        for entry in fs::read_dir(OPEN_FILES).into_iter().flatten().flatten() {
            let Ok(name) = fs::read_link(entry.path()) else { continue };
            let deleted = name.to_str().is_some_and(|name| name.ends_with(DELETED));
            // The entry leads to the file itself, whatever it is called.
            if deleted
                && name.starts_with(dir)
                && let Ok(metadata) = fs::metadata(entry.path())
            {
                self.count(&metadata, bytes_max)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, metadata: &fs::Metadata, bytes_max: u64) -> Result<(), TooMuch> {
        self.entries += 1;
        // A file with holes may claim more than it has, and fill them one by one.
        self.bytes += metadata.len().max(ENTRY_SIZE);
        if self.entries > SCRATCH_ENTRIES_MAX {
            return Err(TooMuch::Entries);
        }
        if self.bytes > bytes_max.max(ENTRY_SIZE) {
            return Err(TooMuch::Bytes);
        }
        Ok(())
    }
}

/// Where the kernel shows the files that this process has open, and what it calls one whose name is
/// gone.
const OPEN_FILES: &str = "/proc/self/fd";
const DELETED: &str = " (deleted)";

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
    fn a_file_without_a_name_counts_while_it_is_open() {
        let place = std::env::temp_dir().join(format!("muster-deleted-{}", std::process::id()));
        let mut scratch = Scratch::new(&place, "a", 100_000).expect("a directory");
        let path = scratch.path().join("file");
        fs::write(&path, vec![0; 200_000]).expect("it is ours");
        let open = fs::File::open(&path).expect("it is there");
        fs::remove_file(&path).expect("it is ours");
        assert_eq!(scratch.over(), Some(("dir_bytes", 100_000)));
        drop(open);
        scratch.next = Instant::now();
        assert_eq!(scratch.over(), None);
        drop(scratch);
        sweep(&place).expect("it is ours");
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
