//! A disk that loses its newest writes: a copy of what nats-server stores, made while nats-server runs,
//! and put back after it was killed. Never changes the files of a running nats-server.

use super::Fleet;
use crate::chaos::now_ns;
use rustix::process::Signal;
use std::{
    fmt, fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// The streams that can be put back one by one, by the ends of their names.
pub const STREAMS: [&str; 3] = ["tasks", "workers", "masters"];

/// The directory in which nats-server keeps the streams of its only account, below its store directory.
const BELOW: &str = "jetstream/$G/streams";

/// A copy of what was on a node's disk.
#[derive(Clone, PartialEq, Eq)]
pub struct DiskCopy {
    /// The node.
    pub node: String,
    /// The names of the streams that were copied.
    pub streams: Vec<String>,
    /// The time at which the copy was begun. The copy contains everything that was acknowledged before.
    pub began_ns: u64,
    /// The time at which the copy was complete. The copy contains nothing that was acknowledged later.
    pub ended_ns: u64,
    dir: PathBuf,
    /// The process that wrote the files.
    pid: u32,
}

impl DiskCopy {
    /// Whether the copy contains a stream, by the end of its name.
    pub fn has(&self, stream: &str) -> bool {
        self.streams.iter().any(|name| name.ends_with(&format!("_{stream}")))
    }
}

impl fmt::Debug for DiskCopy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DiskCopy { node, streams, began_ns, .. } = self;
        match &streams[..] {
            [stream] => write!(out, "{stream} of {node} as at {began_ns}"),
            _ => write!(out, "all {} streams of {node} as at {began_ns}", streams.len()),
        }
    }
}

impl Fleet {
    /// The store directory of a node of the registry.
    pub(super) fn store(&self, node: &str) -> PathBuf {
        self.path(&format!("{node}.store"))
    }

    /// Copies one stream, by the end of its name, or all of them, while the node runs.
    ///
    /// # Errors
    ///
    /// When a file can be neither read nor written. Files that are deleted meanwhile are left out.
    pub fn copy_disk(&self, node: &str, stream: Option<&str>) -> io::Result<DiskCopy> {
        let from = self.store(node).join(BELOW);
        let began_ns = now_ns();
        let dir = self.path(&format!("{node}.copy-{began_ns}"));
        let is_wanted =
            |name: &str| stream.is_none_or(|stream| name.ends_with(&format!("_{stream}")));
        let mut streams = Vec::new();
        for entry in fs::read_dir(&from)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if is_wanted(&name) {
                copy(&from.join(&name), &dir.join(&name))?;
                streams.push(name);
            }
        }
        let (node, pid, ended_ns) = (node.to_string(), self.pid(node), now_ns());
        Ok(DiskCopy { node, streams, began_ns, ended_ns, dir, pid })
    }

    /// Whether the node still runs as the process that wrote the copied files. After a restart the copy
    /// is useless: the new process has read everything that was on the disk, so nothing of that can be
    /// lost any more.
    pub fn is_of(&self, copy: &DiskCopy) -> bool {
        self.runs(&copy.node) && self.pid(&copy.node) == copy.pid
    }

    /// Deletes a copy that is not needed any more.
    pub fn discard(&self, copy: &DiskCopy) {
        let _ = fs::remove_dir_all(&copy.dir);
    }

    /// Replaces the node's files by the copy. The node must not run.
    ///
    /// # Errors
    ///
    /// When the file system returns an error; the streams may then be incomplete.
    pub fn put_back(&self, copy: &DiskCopy) -> io::Result<()> {
        assert!(!self.runs(&copy.node), "{} still runs", copy.node);
        let to = self.store(&copy.node).join(BELOW);
        for name in &copy.streams {
            fs::remove_dir_all(to.join(name))?;
            // A copy and not a rename: the two directories may be on different disks.
            self::copy(&copy.dir.join(name), &to.join(name))?;
        }
        self.discard(copy);
        Ok(())
    }

    /// How many streams of a copy the node has restored since its last start, by its log.
    pub fn restored(&self, copy: &DiskCopy) -> usize {
        let log = self.log(&copy.node);
        let life = log.rfind("Starting nats-server").map_or(&*log, |at| &log[at..]);
        let says = |name: &&String| {
            let end = format!("> {name}'");
            life.lines().any(|line| line.contains("Restored") && line.contains(&end))
        };
        copy.streams.iter().filter(says).count()
    }
}

/// A copy of everything that a node of a cluster stores, with its logs of Raft.
pub struct StoreCopy {
    node: String,
    dir: PathBuf,
}

impl Fleet {
    /// Copies everything that a node stores, as at one moment: the node is stopped meanwhile.
    ///
    /// # Errors
    ///
    /// When a file can be neither read nor written.
    pub fn copy_store(&self, node: &str) -> io::Result<StoreCopy> {
        let dir = self.path(&format!("{node}.store-{}", now_ns()));
        self.signal(node, Signal::STOP);
        let copied = copy(&self.store(node), &dir);
        self.signal(node, Signal::CONT);
        copied.map(|()| StoreCopy { node: node.into(), dir })
    }

    /// Replaces everything that a node stores by the copy. The node must not run.
    ///
    /// # Errors
    ///
    /// When the file system returns an error; the store may then be incomplete.
    pub fn put_back_store(&self, copy: &StoreCopy) -> io::Result<()> {
        assert!(!self.runs(&copy.node), "{} still runs", copy.node);
        let to = self.store(&copy.node);
        fs::remove_dir_all(&to)?;
        self::copy(&copy.dir, &to)
    }
}

/// Copies a directory recursively. Files that are deleted meanwhile are left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let done = match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy(&source, &target),
            Ok(_) => fs::copy(&source, &target).map(drop),
            Err(error) => Err(error),
        };
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}
