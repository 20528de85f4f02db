//! The progress of a run, in a file, so that another process can resume it. Never records a result as
//! written before it was.

use super::{excess, of_line};
use crate::exit::Failure;
use anyhow::Context as _;
use muster_protocol::{BatchId, Digest, task::TaskSpec};
use rustix::fs::{FileType, FlockOperation, fstat, ftruncate, seek};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// Standard output as a file that can be opened again, whatever its name is now.
const STDOUT: &str = "/proc/self/fd/1";

/// The progress of a run, and the state file, if one was asked for.
pub struct MapState {
    file: Option<File>,
    kept: Kept,
}

/// The file's content: one line of JSON, always of the same length.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Kept {
    batch: BatchId,
    /// The digest of what every line's task asks for.
    spec: Digest,
    /// How many results were written: those of the first lines.
    written: u64,
    /// How many of those tasks did not complete.
    failed: u64,
    /// The file that standard output is, and its size; zeros if it is no file.
    device: u64,
    inode: u64,
    size: u64,
}

impl MapState {
    /// A run without a state file.
    pub fn new(batch: BatchId) -> Self {
        let kept = Kept {
            batch,
            spec: Digest([0; 32]),
            written: 0,
            failed: 0,
            device: 0,
            inode: 0,
            size: 0,
        };
        MapState { file: None, kept }
    }

    /// The run in a state file, or a new one if the file does not exist. A partial line at the end of
    /// the results, left by a killed process, is cut off.
    pub fn open(path: &Path, batch: BatchId, spec: &TaskSpec) -> anyhow::Result<Self> {
        let shown = path.display();
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file =
            opened.map_err(|error| Failure::user(format!("cannot write {shown}: {error}")))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Failure::user(format!("another muster map uses {shown}")).into());
        }
        let mut text = String::new();
        let read = file.read_to_string(&mut text);
        let mut state = MapState::new(batch);
        state.kept.spec = fingerprint(spec)?;
        if read.is_err() || !text.is_empty() {
            let kept: Option<Kept> = serde_json::from_str(&text).ok();
            let kept = kept.ok_or_else(|| {
                Failure::user(format!("{shown} is not a state file of muster map"))
                    .hint("name another file, or remove this one to start again")
            })?;
            if kept.spec != state.kept.spec {
                let text =
                    format!("{shown} belongs to a run of another module, or with other options");
                let hint = "repeat the command as it was (a module's digest pins its version), or \
                            remove the file to start again";
                return Err(Failure::user(text).hint(hint).into());
            }
            state.kept = kept;
            state.mend(path)?;
        }
        state.file = Some(file);
        state.save()?;
        Ok(state)
    }

    /// The batch of the run; the tasks' ids derive from it.
    pub fn batch(&self) -> BatchId {
        self.kept.batch
    }

    /// How many results were written: those of the first lines.
    pub fn written(&self) -> u64 {
        self.kept.written
    }

    /// How many of those tasks did not complete.
    pub fn failed(&self) -> u64 {
        self.kept.failed
    }

    /// Whether another process can continue the run.
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// A result has been written.
    pub fn wrote(&mut self, completed: bool) -> anyhow::Result<()> {
        self.kept.written += 1;
        self.kept.failed += u64::from(!completed);
        self.save()
    }

    /// Writes the whole file in one write, so that a killed process leaves the old state or the new
    /// one.
    fn save(&mut self) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        (self.kept.device, self.kept.inode, self.kept.size) = results()?.unwrap_or_default();
        file.write_all_at(self.kept.line().as_bytes(), 0).context("cannot record the progress")
    }

    /// Cuts off the results that this run wrote after the state was last saved. Cuts nothing if
    /// anything else was written there.
    fn mend(&self, path: &Path) -> anyhow::Result<()> {
        let Some((device, inode, size)) = results()? else { return Ok(()) };
        let Kept { written, size: kept, .. } = self.kept;
        if (device, inode) != (self.kept.device, self.kept.inode) || size == kept {
            return Ok(());
        }
        if size < kept {
            let text = format!(
                "the results file has {size} bytes, but had {kept} bytes with the first {written} \
                 results in it"
            );
            let hint = format!(
                "append to it (>> instead of >), write to another one, or remove {} to start again",
                path.display()
            );
            return Err(Failure::user(text).hint(hint).into());
        }
        if !self.is_own(kept)? || results()? != Some((device, inode, size)) {
            let text = format!(
                "something else has written to the results file: {} bytes follow the {kept} bytes of \
                 the first {written} results; nothing was removed",
                size - kept
            );
            let hint = format!(
                "append to another file (>>), which gets the results from line {} on; or, if these \
                 bytes are not wanted, remove them first: truncate -s {kept} FILE",
                written + 1
            );
            return Err(Failure::user(text).hint(hint).into());
        }
        let out = io::stdout();
        ftruncate(&out, kept).context("cannot remove an incomplete result")?;
        seek(&out, rustix::fs::SeekFrom::End(0)).context("cannot go to the end of the results")?;
        Ok(())
    }

    /// Whether the bytes after this offset are what a killed run leaves: the next line, whole or in
    /// part.
    fn is_own(&self, kept: u64) -> anyhow::Result<bool> {
        // Reopen the file for reading: standard output is usually open only for writing.
        let mut file = File::open(STDOUT).map_err(|error| {
            let text = format!("cannot read what follows the recorded results: {error}");
            Failure::user(text).hint("make the results file readable, or write to another one")
        })?;
        file.seek(SeekFrom::Start(kept)).context("cannot go to the end of the recorded results")?;
        let line = self.kept.written + 1;
        let is_own = excess::is_one_result(file, line, of_line(self.kept.batch, line));
        is_own.context("cannot read what follows the recorded results")
    }
}

impl Kept {
    fn line(&self) -> String {
        let Kept { batch, spec, written, failed, device, inode, size } = self;
        format!(
            "{{\"batch\":\"{batch}\",\"spec\":\"{spec}\",\"written\":{written:>20},\
             \"failed\":{failed:>20},\"device\":{device:>20},\"inode\":{inode:>20},\
             \"size\":{size:>20}}}\n"
        )
    }
}

/// Device, inode and size of standard output, if it is a file.
fn results() -> anyhow::Result<Option<(u64, u64, u64)>> {
    let stat = fstat(io::stdout()).context("cannot look at standard output")?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    Ok(is_file.then_some((stat.st_dev, stat.st_ino, size)))
}

/// The digest of what every line's task asks for, independent of the module's name.
fn fingerprint(spec: &TaskSpec) -> anyhow::Result<Digest> {
    let mut spec = spec.clone();
    spec.batch = None;
    spec.module.name = None;
    let text = serde_json::to_vec(&spec).context("a task is always JSON")?;
    Ok(Digest(Sha256::digest(text).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::task::{Data, ModuleRef};

    fn spec(priority: u8) -> TaskSpec {
        let module = ModuleRef { name: Some("a:1".into()), digest: Digest([1; 32]) };
        TaskSpec { priority, ..TaskSpec::new(module, Data::EMPTY) }
    }

    #[test]
    fn a_run_is_gone_on_with_where_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state");
        let mut state = MapState::open(&path, BatchId(5), &spec(1)).expect("a new one");
        assert!(state.is_kept());
        for completed in [true, false, true] {
            state.wrote(completed).expect("it is kept");
        }
        let taken = MapState::open(&path, BatchId(6), &spec(1)).err().expect("it is in use");
        assert!(taken.to_string().contains("another muster map"), "{taken}");
        drop(state);
        let again = MapState::open(&path, BatchId(6), &spec(1)).expect("the same run");
        assert_eq!((again.batch(), again.written(), again.failed()), (BatchId(5), 3, 1));
        drop(again);
        let other = MapState::open(&path, BatchId(6), &spec(2)).err().expect("another run");
        assert!(other.to_string().contains("with other options"), "{other}");
        std::fs::write(&path, "{}").expect("it is ours");
        assert!(MapState::open(&path, BatchId(6), &spec(1)).is_err());
    }

    #[test]
    fn its_line_has_always_the_same_length() {
        let mut kept = MapState::new(BatchId(u128::MAX)).kept;
        let length = kept.line().len();
        (kept.written, kept.failed, kept.size) = (u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(kept.line().len(), length);
        assert_eq!(serde_json::from_str::<Kept>(&kept.line()).expect("JSON"), kept);
    }
}
