//! The programs that a worker can run in place of the installed one, for its supervisor: which of them runs, and the
//! trial of another one. Never runs a program that is not signed with one of the keys that the operator named.
//!
//! The worker's process is confined and cannot write in the directory of the programs. It leaves a program in its
//! state directory; the supervisor copies that, and verifies the copy.

use anyhow::{Context as _, bail};
use muster_module::signing;
use muster_protocol::{
    Digest,
    signature::SignerKey,
    upgrade::{Program, ProgramReport, Upgrade, Wanted},
};
use muster_wire::process;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The directory in the state directory in which the worker leaves an upgrade.
const LEFT: &str = "upgrade";
/// What it leaves there: the upgrade, and the bytes of its program.
const LEFT_UPGRADE: &str = "upgrade.json";
const LEFT_PROGRAM: &str = "program";

/// The file with what the supervisor knows, in the directory of the programs.
const NOTES: &str = "programs.json";

/// The most bytes of a file of JSON that is read.
const JSON_MAX: u64 = 64 * 1024;

/// What the supervisor knows of its programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Notes {
    /// The SHA-256 of the program that was installed when this was written. Once another one is installed, that
    /// one runs.
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

/// What the worker's process knows of its program when it begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Present {
    /// What its lease says.
    pub report: ProgramReport,
    /// The number of the upgrade that it has to prove, if its program is on trial.
    pub trial: Option<u64>,
    /// The programs that are there and need not be fetched.
    pub kept: Vec<Digest>,
}

impl Present {
    /// Reads it from the directory of the programs.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let notes = read_notes(dir)?;
        let program = notes.trial.as_ref().map_or(&notes.runs, |trial| &trial.program);
        let digest = program.as_ref().map(|program| program.digest);
        let kept = [&notes.runs, &notes.before].into_iter().flatten();
        let (number, failed) = (notes.number, notes.failed);
        Ok(Present {
            report: ProgramReport { digest, number, failed, ..ProgramReport::default() },
            trial: notes.trial.map(|trial| trial.number),
            kept: kept.map(|program| program.digest).collect(),
        })
    }
}

impl Programs {
    /// Opens the directory, and makes it if there is none. A trial that an earlier supervisor did not end has failed.
    pub(crate) fn open(
        dir: &Path,
        state: &Path,
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
        if dir.starts_with(&state) || state.starts_with(&dir) {
            bail!(
                "--upgrades {} and --state-dir {} have to be apart: the worker, which can write in the latter, must \
                 not be able to replace a program that was verified",
                dir.display(),
                state.display()
            );
        }
        let notes = read_notes(&dir)?;
        let mut programs = Programs { dir, state, signers, installed, notes };
        if programs.notes.runs.is_some() || programs.notes.trial.is_some() {
            let installed = digest_of(&programs.installed)?;
            if programs.notes.installed != Some(installed) {
                tracing::info!(%installed, "another program was installed, which runs from now on");
                programs.notes.runs = None;
                programs.notes.before = None;
            }
        }
        if let Some(runs) = programs.notes.runs.take_if(|runs| !dir_has(&programs.dir, runs)) {
            tracing::error!(program = %runs.digest, "the program is gone; the installed one runs");
        }
        if programs.notes.trial.is_some() {
            programs.gives_up("its host or its supervisor ended during the trial")?;
        }
        Ok(programs)
    }

    /// The file of the program to start.
    pub(crate) fn path(&self) -> PathBuf {
        match self.notes.trial.as_ref().map_or(&self.notes.runs, |trial| &trial.program) {
            Some(program) => self.file_of(program),
            None => self.installed.clone(),
        }
    }

    /// Whether the program to start is on trial.
    pub(crate) fn is_trying(&self) -> bool {
        self.notes.trial.is_some()
    }

    /// Begins the trial of the upgrade that the worker has left. If its program cannot be tried, the upgrade is given
    /// up.
    pub(crate) fn take(&mut self) -> anyhow::Result<()> {
        let left = self.state.join(LEFT);
        let upgrade = read_left(&left)?;
        let tried = self.trial_of(&upgrade, &left.join(LEFT_PROGRAM));
        let _ = fs::remove_dir_all(&left);
        match tried {
            Ok(program) => {
                self.notes.installed = Some(digest_of(&self.installed)?);
                self.notes.trial = Some(Trial { number: upgrade.number, program });
                self.write()
            }
            Err(reason) => {
                self.notes.number = upgrade.number;
                self.fails(format!("{reason:#}"))
            }
        }
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
    pub(crate) fn proved(&mut self) -> anyhow::Result<()> {
        let Some(Trial { number, program }) = self.notes.trial.take() else { return Ok(()) };
        self.notes.before = std::mem::replace(&mut self.notes.runs, program);
        (self.notes.number, self.notes.failed) = (number, None);
        self.write()?;
        self.remove_others();
        Ok(())
    }

    /// The program on trial has failed: the one before it runs again.
    pub(crate) fn gives_up(&mut self, reason: &str) -> anyhow::Result<()> {
        let Some(Trial { number, .. }) = self.notes.trial.take() else { return Ok(()) };
        self.notes.number = number;
        self.fails(format!("the program was tried and failed: {reason}"))
    }

    fn fails(&mut self, reason: String) -> anyhow::Result<()> {
        tracing::error!(number = self.notes.number, reason, "an upgrade is given up");
        let mut report = ProgramReport::default();
        report.fails(self.notes.number, reason);
        self.notes.failed = report.failed;
        self.write()?;
        self.remove_others();
        Ok(())
    }

    fn write(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string(&self.notes)?;
        let notes = self.dir.join(NOTES);
        let written = process::write_whole_as(&notes, &text, 0o600);
        written.with_context(|| format!("{} cannot be written", notes.display()))
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

/// Refuses bytes that are not those of the program, or that no accepted key has signed.
pub(crate) fn verify(program: &Program, signers: &[SignerKey], bytes: &[u8]) -> anyhow::Result<()> {
    if muster_module::digest(bytes) != program.digest {
        bail!("the bytes that were received are not {}", program.digest);
    }
    let key = program.signature.key();
    let Some(signer) = signers.iter().find(|signer| signer.id == key) else {
        bail!("the program is signed with the key {key}, which is not one of --upgrade-signer");
    };
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
    serde_json::from_slice(&text).context("the upgrade that the worker has left cannot be read")
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

fn dir_has(dir: &Path, program: &Program) -> bool {
    dir.join(name_of(program)).is_file()
}

fn name_of(program: &Program) -> String {
    program.digest.to_string().replace(':', "-")
}

#[cfg(test)]
pub(crate) mod tests;
