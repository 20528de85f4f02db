//! Probes whether the host gives this worker what it needs, and tells the lease. It has a thread of its
//! own, since a disk may be slow; it never decides when a worker is well.

use crate::{clock::boottime, journal::Journal, shortage};
use muster_protocol::{
    health::Health,
    lease::{LeaseEvent, Unwell},
};
use rustix::{
    fs::{StatVfs, StatVfsMountFlags, statvfs},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
};
use tokio::sync::mpsc::UnboundedSender;

/// Bytes that a probe writes to see whether a directory has space: more than a file system keeps in an
/// inode or has left in a block.
const PROBE_SIZE: usize = 64 * 1024;

/// The directory in which a probe writes, and which it then removes. A process that is killed may leave
/// it behind, as it may leave scratch directories of runs.
const PROBE_DIR: &str = "probe";

/// How a probe looks whether a directory has space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// By writing a file: it also detects a quota.
    Write,
    /// By asking the file system: it writes nothing, so that an idle worker does not wear a flash disk.
    Ask,
}

/// The checks of a probe.
pub(crate) struct Probe {
    /// The directories in which a file must fit: the state directory, and the parent of scratch
    /// directories.
    pub places: Vec<PathBuf>,
    pub journal: Journal,
    /// Starts a process in the same way as the compiler's child; returns why that failed.
    pub compile: Box<dyn Fn() -> Result<(), String> + Send>,
}

/// Starts the thread. `met` receives shortages that failed operations have met in the meantime.
pub(crate) fn start(
    probe: Probe,
    met: Receiver<Unwell>,
    lease: UnboundedSender<LeaseEvent>,
) -> io::Result<()> {
    std::thread::Builder::new().name("health".into()).spawn(move || watch(&probe, &met, &lease))?;
    Ok(())
}

fn watch(probe: &Probe, met: &Receiver<Unwell>, lease: &UnboundedSender<LeaseEvent>) {
    let mut health = Health::new(boottime());
    let mut said: Option<Unwell> = None;
    // The first probe writes, and so do those of an unwell worker, which has to be proven well again.
    let mut is_first = true;
    loop {
        match met.recv_timeout(health.probe_at().since(boottime())) {
            Ok(unwell) => health.failed(boottime(), unwell),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        tell(&health, &mut said, lease);
        if boottime() >= health.probe_at() {
            let writes = is_first || health.unwell().is_some();
            is_first = false;
            let found = probe.look(if writes { Look::Write } else { Look::Ask });
            health.probed(boottime(), found);
            tell(&health, &mut said, lease);
        }
    }
}

/// Tells the lease and the log if the health has changed.
fn tell(health: &Health, said: &mut Option<Unwell>, lease: &UnboundedSender<LeaseEvent>) {
    if health.unwell() == said.as_ref() {
        return;
    }
    *said = health.unwell().cloned();
    match said {
        Some(unwell) => tracing::warn!(%unwell, "unwell: other workers are given tasks first"),
        None => tracing::info!("well again"),
    }
    let _ = lease.send(LeaseEvent::Lack(said.clone()));
}

impl Probe {
    /// What the host lacks; `None` if it lacks nothing.
    fn look(&self, how: Look) -> Option<Unwell> {
        let full = self.places.iter().find_map(|place| {
            // A file system may count otherwise than it stores, so only a write proves that there is no room.
            if how == Look::Ask && room_in(place).is_ok() {
                return None;
            }
            let error = write_in(place).err()?;
            Some(format!(
                "nothing can be written in {}: {}",
                place.display(),
                shortage::explain(&error)
            ))
        });
        let missed = || {
            let error = self.journal.mend().err()?;
            Some(format!("the journal cannot be written: {}", shortage::explain(&error)))
        };
        full.or_else(missed).or_else(|| (self.compile)().err()).map(Unwell::from)
    }
}

/// Asks the file system whether a file fits in `place`.
fn room_in(place: &Path) -> io::Result<()> {
    has_room(&statvfs(place)?).map_err(io::Error::from)
}

fn has_room(room: &StatVfs) -> Result<(), Errno> {
    let bytes = room.f_bavail.saturating_mul(room.f_frsize);
    // A file system without a fixed number of blocks or inodes says that it has none.
    let has_blocks = room.f_blocks == 0 || bytes >= PROBE_SIZE as u64;
    let has_inodes = room.f_files == 0 || room.f_favail > 0;
    match room.f_flag.contains(StatVfsMountFlags::RDONLY) {
        true => Err(Errno::ROFS),
        false if !has_blocks || !has_inodes => Err(Errno::NOSPC),
        false => Ok(()),
    }
}

/// Makes a directory with a file in `place` and removes it, to see whether there is space. The file is
/// not synced: each probe would wear a flash disk.
fn write_in(place: &Path) -> io::Result<()> {
    let dir = place.join(PROBE_DIR);
    fs::create_dir_all(&dir)?;
    let file = File::create(dir.join("file"));
    let written = file.and_then(|mut file| file.write_all(&[0; PROBE_SIZE]));
    let removed = fs::remove_dir_all(&dir);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::Files, shortage::Shortages};

    fn probe(places: Vec<PathBuf>, compile: fn() -> Result<(), String>) -> Probe {
        Probe { places, journal: Journal::default(), compile: Box::new(compile) }
    }

    #[test]
    fn a_probe_finds_what_is_lacking_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("muster-probe-{}", std::process::id()));
        let well = probe(vec![dir.join("a/b")], || Ok(()));
        assert_eq!(well.look(Look::Write), None);
        assert_eq!(fs::read_dir(dir.join("a/b")).expect("it was made").count(), 0);
        assert_eq!(well.look(Look::Ask), None);
        let few = probe(vec![dir.clone()], || Err("no process".into()));
        assert_eq!(few.look(Look::Write), Some("no process".into()));
        // A file is no directory, so nothing can be written in it.
        File::create(dir.join("file")).expect("a file");
        let said =
            probe(vec![dir.join("file")], || Ok(())).look(Look::Write).expect("a want").to_string();
        assert!(said.starts_with("nothing can be written in "), "{said}");
        // A full device takes nothing either; `/dev/full` always is.
        let (wants, told) = Shortages::new();
        let full = Path::new("/dev/full");
        let files = Files::open(full, None).expect("a file");
        let journal = Journal::new(files, "w1".parse().expect("a name"), wants);
        let full = Probe { journal, ..probe(vec![dir.clone()], || Ok(())) };
        assert_eq!(full.look(Look::Write), None, "nothing was missed yet");
        full.journal.received(muster_protocol::message::AttemptKey {
            task: muster_protocol::TaskId(1),
            attempt: muster_protocol::AttemptId(1),
        });
        assert!(told.try_recv().is_ok(), "what fails is told at once");
        let said = full.look(Look::Write).expect("a want").to_string();
        assert!(said.starts_with("the journal cannot be written: "), "{said}");
        fs::remove_dir_all(&dir).expect("it was made here");
    }

    #[test]
    fn a_file_system_that_is_asked_says_that_it_is_full_or_can_only_be_read() {
        let room = || statvfs("/").expect("a file system");
        let free = StatVfs {
            f_blocks: 2_000,
            f_bavail: 1_000,
            f_frsize: 4_096,
            f_files: 10,
            f_favail: 1,
            f_flag: StatVfsMountFlags::empty(),
            ..room()
        };
        assert_eq!(has_room(&free), Ok(()));
        assert_eq!(
            has_room(&StatVfs { f_files: 0, f_favail: 0, ..free }),
            Ok(()),
            "it counts none"
        );
        assert_eq!(has_room(&StatVfs { f_blocks: 0, f_bavail: 0, ..free }), Ok(()), "nor blocks");
        assert_eq!(has_room(&StatVfs { f_bavail: 15, ..free }), Err(Errno::NOSPC));
        assert_eq!(has_room(&StatVfs { f_favail: 0, ..free }), Err(Errno::NOSPC));
        let flags = StatVfsMountFlags::RDONLY;
        assert_eq!(has_room(&StatVfs { f_flag: flags, ..free }), Err(Errno::ROFS));
    }
}
