//! A state directory: a lock that proves that earlier processes of its daemon have ended, and a nonce
//! that identifies the directory. Never shared by two daemons.

use crate::process;
use anyhow::{Context as _, bail};
use muster_protocol::{Nonce, SessionId, registry::Marks};
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long the kernel may take to release a killed process, mostly its memory.
const DYING_MAX: Duration = Duration::from_secs(1);

/// How often to try the lock of a dying process. This adds to the time of a restart.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Sessions to remember. Of those before the last one, later sessions have taken care.
const SESSIONS_MAX: usize = 16;

/// A locked state directory. The kernel releases the lock when the process ends, in whatever way.
pub struct StateDir {
    dir: PathBuf,
    nonce: Nonce,
    _lock: File,
}

impl StateDir {
    /// Creates the directory if necessary and locks it. Fails if another running daemon holds the lock.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("the state directory {} cannot be made", dir.display()))?;
        let lock = File::create(dir.join("lock"))
            .with_context(|| format!("{} cannot be written to", dir.display()))?;
        if !locked(&lock) {
            bail!(
                "{} belongs to a daemon that is running; give each its own --state-dir",
                dir.display()
            );
        }
        let path = dir.join("nonce");
        let nonce = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().with_context(|| {
                format!(
                    "{} is damaged; remove it when no daemon uses this directory",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let nonce = Nonce(process::random()?);
                process::write_whole(&path, &nonce.to_string())?;
                nonce
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(StateDir { dir: dir.into(), nonce: here(nonce, &lock)?, _lock: lock })
    }

    /// The path of a file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Identifies this directory in a lease until the next boot.
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// The sessions that earlier processes noted here. They have ended, because this process holds the
    /// lock. Empty if the directory is a copy, or the machine was booted since.
    pub fn sessions(&self) -> Vec<SessionId> {
        let text = std::fs::read_to_string(self.dir.join("sessions")).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next().and_then(|line| line.parse().ok()) != Some(self.nonce) {
            return Vec::new();
        }
        lines.filter_map(|line| line.parse().ok()).collect()
    }

    /// How far earlier processes knew the registry to reach. `None` if the directory is a copy, or the
    /// machine was booted since.
    pub fn known(&self) -> Option<Marks> {
        self.read_known()
    }

    fn read_known<T: DeserializeOwned>(&self) -> Option<T> {
        let text = std::fs::read_to_string(self.dir.join("known")).ok()?;
        let (nonce, known) = text.split_once('\n')?;
        (nonce.parse() == Ok(self.nonce)).then(|| serde_json::from_str(known).ok())?
    }

    /// Notes how far this process knows the registry to reach. Of the streams that only a later version
    /// follows, what that knew is kept: they reach no less far.
    pub fn note_known(&self, known: &Marks) -> io::Result<()> {
        let mut list: Vec<Value> = serde_json::from_value(serde_json::to_value(known)?)?;
        let before: Vec<Value> = self.read_known().unwrap_or_default();
        list.extend(before.into_iter().skip(list.len()));
        let text = format!("{}\n{}", self.nonce, serde_json::to_string(&list)?);
        process::write_whole(&self.dir.join("known"), &text)
    }

    /// Notes the sessions of this process and those before, the latest last. Call it before a session
    /// holds anything.
    pub fn note(&self, sessions: &[SessionId]) -> io::Result<()> {
        let latest = &sessions[sessions.len().saturating_sub(SESSIONS_MAX)..];
        let lines = latest.iter().map(|session| format!("{session}\n"));
        let text = format!("{}\n{}", self.nonce, lines.collect::<String>());
        process::write_whole(&self.dir.join("sessions"), &text)
    }
}

/// A number that identifies this machine until its next boot.
pub fn machine() -> io::Result<Nonce> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let mut hasher = DefaultHasher::new();
    boot.trim().hash(&mut hasher);
    Ok(Nonce(hasher.finish()))
}

/// Takes the lock. Retries for [`DYING_MAX`], because a process that was killed just now may still hold
/// it.
fn locked(lock: &File) -> bool {
    let began = Instant::now();
    loop {
        if flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        if began.elapsed() > DYING_MAX {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Binds the nonce to this boot and to this very file. So a lock proves nothing about a copy of the
/// directory on another machine, nor about processes before the last boot.
fn here(stored: Nonce, lock: &File) -> anyhow::Result<Nonce> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .context("the kernel gives no boot id")?;
    let file = lock.metadata()?;
    let mut hasher = DefaultHasher::new();
    (stored.0, boot.trim(), file.dev(), file.ino()).hash(&mut hasher);
    Ok(Nonce(hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{
        registry::{Mark, StreamId},
        subject::Bucket,
    };

    #[test]
    fn what_a_later_version_knew_of_more_streams_is_kept() {
        let dir = std::env::temp_dir().join(format!("muster-known-{}", std::process::id()));
        let state = StateDir::open(&dir).expect("a state directory");
        let mut known = Marks::default();
        known.set(Bucket::Tasks, Mark { stream: StreamId(1), revision: 5 });
        state.note_known(&known).expect("it can be written");
        let text = std::fs::read_to_string(dir.join("known")).expect("it was written");
        let more = r#",{"stream":7,"revision":9,"new_field":1}]"#;
        let later = format!("{}{more}", text.strip_suffix(']').expect("a list"));
        std::fs::write(dir.join("known"), &later).expect("it is ours");
        assert_eq!(state.known(), Some(known));
        state.note_known(&known).expect("it can be written");
        let kept = std::fs::read_to_string(dir.join("known")).expect("it was written");
        assert_eq!(kept.len(), later.len(), "{kept}");
        assert!(kept.contains(r#""new_field":1"#), "{kept}");
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
