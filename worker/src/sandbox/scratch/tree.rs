//! Measures and removes a directory that a guest has filled. Every step is relative to an open
//! directory, because a guest can make paths that are longer than the kernel allows. Never counts an
//! entry that cannot be read as nothing.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{ffi::CString, path::Path};

/// How deep directories may be nested; a path of that depth is shorter than the kernel's limit.
pub const SCRATCH_DEPTH_MAX: u64 = 8;

/// Bytes that an entry counts at least: the usual block size of a host.
pub(super) const ENTRY_SIZE: u64 = 4_096;

/// Rounds of removal: a pending call of the guest may still create an entry.
const ROUNDS_MAX: u32 = 4;

/// The directory in which the kernel shows the open files of this process, and the suffix of a file
/// without a name.
const OPEN_FILES: &str = "/proc/self/fd";
const DELETED: &str = " (deleted)";

/// The limit that is exceeded. If the kernel does not answer, that counts as too many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMuch {
    Bytes,
    Entries,
    Depth,
}

/// The limits, and what was counted so far.
pub(super) struct Count {
    pub bytes_max: u64,
    pub entries_max: u64,
    pub bytes: u64,
    pub entries: u64,
}

impl Count {
    /// Counts everything below an open directory, and stops at the first limit that is exceeded. An
    /// entry that vanishes in the meantime does not count.
    pub(super) fn below(&mut self, dir: BorrowedFd<'_>, depth: u64) -> Result<(), TooMuch> {
        if depth > SCRATCH_DEPTH_MAX {
            return Err(TooMuch::Depth);
        }
        for name in names(dir).map_err(|_| TooMuch::Entries)? {
            let stat = match fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(|_| TooMuch::Entries)?,
            };
            self.add(&stat)?;
            if is_dir(&stat) {
                match open(dir, &name) {
                    Err(Errno::NOENT) => {}
                    child => self.below(child.map_err(|_| TooMuch::Entries)?.as_fd(), depth + 1)?,
                }
            }
        }
        Ok(())
    }

    /// Counts the open files of a directory that have no name any more: their contents are on the disk
    /// as well. A file whose path is too long to be reported counts for every run.
    pub(super) fn nameless(&mut self, path: &Path, device: u64) -> Result<(), TooMuch> {
        let open = open_at(OPEN_FILES).map_err(|_| TooMuch::Entries)?;
        for name in names(open.as_fd()).map_err(|_| TooMuch::Entries)? {
            // The link leads to the file itself, whatever the file's name is.
            let Ok(stat) = fs::statat(&open, &name, AtFlags::empty()) else { continue };
            if stat.st_nlink > 0 || stat.st_dev != device {
                continue;
            }
            let own = match fs::readlinkat(&open, &name, Vec::new()) {
                Ok(link) => {
                    let link = link.to_string_lossy();
                    link.ends_with(DELETED) && Path::new(link.as_ref()).starts_with(path)
                }
                Err(error) => error == Errno::NAMETOOLONG,
            };
            if own {
                self.add(&stat)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, stat: &Stat) -> Result<(), TooMuch> {
        self.entries += 1;
        // A sparse file counts with its full size, since a guest can fill its holes later.
        self.bytes += u64::try_from(stat.st_size).unwrap_or(0).max(ENTRY_SIZE);
        if self.entries > self.entries_max {
            return Err(TooMuch::Entries);
        }
        if self.bytes > self.bytes_max.max(ENTRY_SIZE) {
            return Err(TooMuch::Bytes);
        }
        Ok(())
    }
}

/// Removes a directory and everything in it, however deep: deep directories are first moved up.
pub(super) fn remove(path: &Path) -> Result<(), Errno> {
    let top = match open_at(path) {
        Err(Errno::NOENT) => return Ok(()),
        top => top?,
    };
    let mut moved = 0u64;
    for _ in 0..ROUNDS_MAX {
        while let Some(name) = names(top.as_fd())?.into_iter().next() {
            match clear(top.as_fd(), &name, &mut moved) {
                // The entry has vanished in the meantime.
                Err(Errno::NOENT) => {}
                cleared => cleared?,
            }
        }
        match fs::rmdir(path) {
            Err(Errno::NOTEMPTY) => {}
            removed => return removed,
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Removes an entry of `top`; directories in it become entries of `top`.
fn clear(top: BorrowedFd<'_>, name: &CString, moved: &mut u64) -> Result<(), Errno> {
    if !is_dir(&fs::statat(top, name, AtFlags::SYMLINK_NOFOLLOW)?) {
        return fs::unlinkat(top, name, AtFlags::empty());
    }
    let dir = open(top, name)?;
    for child in names(dir.as_fd())? {
        if is_dir(&fs::statat(&dir, &child, AtFlags::SYMLINK_NOFOLLOW)?) {
            // A guest may have chosen such a name, so names are tried until one is free.
            loop {
                *moved += 1;
                let up = format!("moved-{moved}");
                match fs::renameat(&dir, &child, top, up.as_str()) {
                    Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                    renamed => break renamed?,
                }
            }
        } else {
            fs::unlinkat(&dir, &child, AtFlags::empty())?;
        }
    }
    fs::unlinkat(top, name, AtFlags::REMOVEDIR)
}

fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
        // More names are not needed: the limit is exceeded.
        if names.len() as u64 > super::SCRATCH_ENTRIES_MAX {
            break;
        }
    }
    Ok(names)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open(dir: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    fs::openat(dir, name, DIRECTORY, Mode::empty())
}

pub(super) fn open_at(path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    fs::open(path, DIRECTORY, Mode::empty())
}
