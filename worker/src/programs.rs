//! The programs that a worker can run in place of the installed one, for its supervisor: which of them runs, and the
//! trial of another one. Never runs a program other than the installed one without having verified it right before, by the
//! keys that the operator named.
//!
//! The worker's process is confined and cannot write in the directory of the programs. It leaves a program in its
//! state directory; the supervisor copies that, and verifies the copy.

use anyhow::{Context as _, bail};
use muster_module::signing;
use muster_protocol::{
    Digest,
    limit::UPGRADE_REASON_MAX,
    record,
    signature::SignerKey,
    task::clip,
    upgrade::{Program, ProgramReport, UPGRADE_SIZE_MAX, Upgrade, Wanted, follows},
};
use muster_wire::process;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
};

/// The directory in the state directory in which the worker leaves an upgrade.
const LEFT: &str = "upgrade";
/// What it leaves there: the upgrade, and the bytes of its program.
const LEFT_UPGRADE: &str = "upgrade.json";
const LEFT_PROGRAM: &str = "program";

/// The file with what the supervisor knows, in the directory of the programs.
const NOTES: &str = "programs.json";

/// The most bytes of an upgrade that is read.
const JSON_MAX: u64 = UPGRADE_SIZE_MAX as u64;

/// What the supervisor knows of its programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Notes {
    /// The SHA-256 of the installed program at the start of the supervisor that wrote this. Once another one is
    /// installed, that one runs.
    installed: Option<Digest>,
    /// The program that runs; absent if it is the installed one.
    runs: Option<Program>,
    /// The program that ran before that; absent if it was the installed one.
    before: Option<Program>,
    /// The latest upgrade that was carried out or given up.
    number: u64,
    /// Why it was given up.
    failed: Option<String>,
    /// The program that is on trial.
    trial: Option<Trial>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    number: u64,
    /// Absent if it is the installed one.
    program: Option<Program>,
}

/// The programs of one worker.
#[derive(Debug)]
pub(crate) struct Programs {
    dir: PathBuf,
    state: PathBuf,
    signers: Vec<SignerKey>,
    /// The file of the installed program.
    installed: PathBuf,
    notes: Notes,
}

/// What the worker's process knows of its program when it begins. Its supervisor passes this on as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// What its lease says.
    pub report: ProgramReport,
    /// The number of the upgrade that it has to prove, if its program is on trial.
    pub trial: Option<u64>,
    /// The programs that are there and need not be fetched.
    pub kept: Vec<Digest>,
}

impl FromStr for Present {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl fmt::Display for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Programs {
    /// Opens the directory, and makes it if there is none. A trial that an earlier supervisor did not end has failed.
    pub(crate) fn open(
        dir: &Path,
        state: &Path,
        ready_file: Option<&Path>,
        signers: Vec<SignerKey>,
        installed: PathBuf,
    ) -> anyhow::Result<Self> {
        let unusable = || format!("the directory {} cannot be used", dir.display());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.and_then(|()| fs::create_dir_all(state)).with_context(unusable)?;
        let (dir, state) = (
            fs::canonicalize(dir).with_context(unusable)?,
            fs::canonicalize(state).with_context(unusable)?,
        );
        // The worker can write there, and must not be able to replace a program that was verified.
        let of_ready_file = ready_file.and_then(|file| fs::canonicalize(directory(file)).ok());
        let of_worker = [("--state-dir", Some(&state)), ("--ready-file", of_ready_file.as_ref())];
        for (option, place) in of_worker {
            let Some(place) = place else { continue };
            if dir.starts_with(place) || place.starts_with(&dir) {
                bail!(
                    "--upgrades {} and the directory of {option}, {}, have to be apart: the worker can write in the latter",
                    dir.display(),
                    place.display()
                );
            }
        }
        let notes = read_notes(&dir)?;
        let mut programs = Programs { dir, state, signers, installed, notes };
        let installed = digest_of(&programs.installed)?;
        if programs.notes.installed.replace(installed).is_some_and(|noted| noted != installed) {
            tracing::info!(%installed, "another program was installed, which runs from now on");
            programs.notes.runs = None;
            programs.notes.before = None;
            programs.write();
        }
        programs.gives_up("its host or its supervisor crashed during the trial");
        Ok(programs)
    }

    /// What the worker's process has to know.
    pub(crate) fn present(&self) -> Present {
        let Notes { runs, before, number, failed, trial, .. } = &self.notes;
        let program = trial.as_ref().map_or(runs, |trial| &trial.program);
        let digest = program.as_ref().map(|program| program.digest);
        let report = ProgramReport { digest, number: *number, ..ProgramReport::default() };
        Present {
            report: ProgramReport { failed: failed.clone(), ..report },
            trial: trial.as_ref().map(|trial| trial.number),
            kept: [runs, before].into_iter().flatten().map(|program| program.digest).collect(),
        }
    }

    /// The file of the program to start. One that is not as it was verified, or whose key is not accepted any more, is
    /// given up for the installed one.
    pub(crate) fn path(&mut self) -> PathBuf {
        if let Some(Trial { program: Some(program), .. }) = &self.notes.trial {
            match self.check(program) {
                Ok(file) => return file,
                Err(error) => self.gives_up(&format!("{error:#}")),
            }
        }
        let on_trial = self.notes.trial.is_some();
        if let Some(runs) = self.notes.runs.as_ref().filter(|_| !on_trial) {
            match self.check(runs) {
                Ok(file) => return file,
                Err(error) => {
                    tracing::error!("the installed program runs: {error:#}");
                    self.notes.runs = None;
                    self.write();
                }
            }
        }
        self.installed.clone()
    }

    /// The file of a program, verified.
    fn check(&self, program: &Program) -> anyhow::Result<PathBuf> {
        let file = self.file_of(program);
        let bytes =
            fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        verify(program, &self.signers, &bytes).map(|()| file)
    }

    /// Whether the program to start is on trial.
    pub(crate) fn is_trying(&self) -> bool {
        self.notes.trial.is_some()
    }

    /// Begins the trial of the upgrade that the worker has left. If its program cannot be tried, the upgrade is given
    /// up. An error means that there is no upgrade that can be read.
    pub(crate) fn take(&mut self) -> anyhow::Result<()> {
        let left = self.state.join(LEFT);
        let upgrade = read_left(&left)?;
        if !follows(self.notes.number, upgrade.number) {
            bail!("the number {} does not follow {}", upgrade.number, self.notes.number);
        }
        let tried = self.trial_of(&upgrade, &left.join(LEFT_PROGRAM));
        let _ = fs::remove_dir_all(&left);
        match tried {
            Ok(program) => {
                self.notes.trial = Some(Trial { number: upgrade.number, program });
                self.write();
            }
            Err(reason) => {
                self.notes.number = upgrade.number;
                self.fails(format!("{reason:#}"));
            }
        }
        Ok(())
    }

    /// The program that an upgrade asks for, once it is here and verified.
    fn trial_of(&self, upgrade: &Upgrade, left: &Path) -> anyhow::Result<Option<Program>> {
        let program = match &upgrade.wanted {
            Wanted::Program(program) => program,
            Wanted::Before(of) if self.notes.runs.as_ref().map(|runs| runs.digest) == Some(*of) => {
                return Ok(self.notes.before.clone());
            }
            Wanted::Before(of) => bail!("it does not run the program {of}"),
        };
        program.check().map_err(anyhow::Error::msg)?;
        let file = self.file_of(program);
        if let Ok(bytes) = fs::read(&file) {
            return verify(program, &self.signers, &bytes).map(|()| Some(program.clone()));
        }
        let bytes = read_at_most(left, program.size)?;
        verify(program, &self.signers, &bytes)?;
        let draft = self.dir.join("draft");
        let _ = fs::remove_file(&draft);
        let new = File::options().write(true).create_new(true).mode(0o500).open(&draft);
        new.and_then(|mut new| new.write_all(&bytes).and_then(|()| new.sync_all()))
            .and_then(|()| fs::rename(&draft, &file))
            .with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(Some(program.clone()))
    }

    /// The program on trial has proven itself: it is the one that runs.
    pub(crate) fn proved(&mut self) {
        let Some(Trial { number, program }) = self.notes.trial.take() else { return };
        self.notes.before = std::mem::replace(&mut self.notes.runs, program);
        (self.notes.number, self.notes.failed) = (number, None);
        self.write();
        self.remove_others();
    }

    /// The trial is broken off, because the host or its operator wants so. It begins again at the next start.
    pub(crate) fn breaks_off(&mut self) {
        if self.notes.trial.take().is_some() {
            self.write();
        }
    }

    /// The program on trial has failed: the one before it runs again.
    pub(crate) fn gives_up(&mut self, reason: &str) {
        let Some(Trial { number, .. }) = self.notes.trial.take() else { return };
        self.notes.number = number;
        self.fails(format!("the program was tried and failed: {reason}"));
    }

    fn fails(&mut self, reason: String) {
        tracing::error!(number = self.notes.number, reason, "an upgrade is given up");
        self.notes.failed = Some(clip(&reason, UPGRADE_REASON_MAX).into());
        self.write();
        self.remove_others();
    }

    /// Writes the notes for the next supervisor. This one goes on without.
    fn write(&self) {
        let notes = self.dir.join(NOTES);
        let text = serde_json::to_string(&self.notes).map_err(io::Error::other);
        let written = text.and_then(|text| process::write_whole_as(&notes, &text, 0o600));
        if let Err(error) = written {
            tracing::error!(%error, file = %notes.display(), "what was decided would be forgotten at a restart");
        }
    }

    fn file_of(&self, program: &Program) -> PathBuf {
        self.dir.join(name_of(program))
    }

    /// Removes the programs that are not needed any more.
    fn remove_others(&self) {
        let needed = [&self.notes.runs, &self.notes.before].into_iter().flatten();
        let mut needed: Vec<OsString> = needed.map(|program| name_of(program).into()).collect();
        needed.push(NOTES.into());
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| !needed.contains(&entry.file_name())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The accepted key by which a program claims to be signed.
pub(crate) fn signer<'a>(
    program: &Program,
    signers: &'a [SignerKey],
) -> anyhow::Result<&'a SignerKey> {
    let key = program.signature.key();
    let found = signers.iter().find(|signer| signer.id == key);
    found.with_context(|| {
        format!("the program is signed with the key {key}, which is not one of --upgrade-signer")
    })
}

/// Refuses bytes that are not those of the program, or that no accepted key has signed.
pub(crate) fn verify(program: &Program, signers: &[SignerKey], bytes: &[u8]) -> anyhow::Result<()> {
    if muster_module::digest(bytes) != program.digest {
        bail!("the bytes that were received are not {}", program.digest);
    }
    let signer = signer(program, signers)?;
    match signing::is_valid(&program.signature, signer, bytes) {
        true => Ok(()),
        false => bail!("the signature of the program is not valid"),
    }
}

/// Leaves an upgrade for the supervisor, with the bytes of its program unless the supervisor has it.
pub(crate) fn leave(state: &Path, upgrade: &Upgrade, bytes: Option<&[u8]>) -> anyhow::Result<()> {
    let left = state.join(LEFT);
    if let Err(error) = fs::remove_dir_all(&left)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| left.display().to_string());
    }
    let written = DirBuilder::new().mode(0o700).create(&left).and_then(|()| {
        if let Some(bytes) = bytes {
            File::create(left.join(LEFT_PROGRAM))?.write_all(bytes)?;
        }
        process::write_whole(&left.join(LEFT_UPGRADE), &serde_json::to_string(upgrade)?)
    });
    written.with_context(|| format!("the program cannot be written to {}", left.display()))
}

fn read_left(left: &Path) -> anyhow::Result<Upgrade> {
    let text = read_at_most(&left.join(LEFT_UPGRADE), JSON_MAX)?;
    record::read(&text).context("the upgrade that the worker has left cannot be read")
}

fn read_notes(dir: &Path) -> anyhow::Result<Notes> {
    let path = dir.join(NOTES);
    let damaged =
        || format!("{} is damaged; remove it, and the installed program runs", path.display());
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).with_context(damaged),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Notes::default()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// A file that another process wrote, without following a symbolic link. A longer one is cut.
fn read_at_most(path: &Path, max: u64) -> anyhow::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let mut bytes = Vec::new();
    let file = File::options().read(true).custom_flags(flags).open(path);
    let read = file.and_then(|file| file.take(max + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(bytes)
}

fn digest_of(file: &Path) -> anyhow::Result<Digest> {
    let bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(muster_module::digest(&bytes))
}

/// The directory of a file that the worker may make.
fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

fn name_of(program: &Program) -> String {
    program.digest.to_string().replace(':', "-")
}

#[cfg(test)]
pub(crate) mod tests;
