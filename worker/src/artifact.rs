//! Makes modules ready to run: fetches them by digest, compiles each once, and keeps them while there
//! is space. Never runs bytes whose digest is not the requested one.

mod program_cache;
mod refusals;

use crate::{
    code::{CodeCache, OwnCode},
    compile::{CODE_MAX, CompileError, Compiler},
    engine::{Engine, Program, ReviveError},
};
use bytes::Bytes;
use muster_protocol::Digest;
use program_cache::{Cell, NoRoom, ProgramCache};
use refusals::Refusals;
use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

/// Bytes of all programs together. The hundred small programs that a shop's worker needs take 50 MB,
/// which leaves space for several programs like Python. A program's initial data exists in its compiled
/// form and, once the program has run, in an image of its memory as well: together they take a GiB at
/// most.
const PROGRAMS_SIZE_MAX: u64 = 512 << 20;

/// From this size on, in bytes, a digest takes over a tenth of a millisecond and is computed on a
/// blocking thread, so that no loop waits for it.
const ASIDE_FROM: usize = 128 * 1024;

/// Modules that are being fetched or wait for their compilation: enough that the next module is there
/// when a compilation ends, and at most a quarter of a GiB.
const FETCHES_MAX: usize = 4;

const _: () = assert!(CODE_MAX <= PROGRAMS_SIZE_MAX, "what may be compiled can be kept");

/// Why a program is not ready.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    /// It never will be ready.
    #[error("{0}")]
    Rejected(String),
    /// It was not fetched or compiled; a retry may help.
    #[error("{0}")]
    NotHad(String),
}

/// The programs of a worker; cheap to clone.
#[derive(Clone)]
pub(crate) struct Artifacts {
    engine: Engine,
    compiler: Compiler,
    code: Option<CodeCache>,
    size_max: u64,
    cache: Arc<Mutex<ProgramCache>>,
    refusals: Arc<Mutex<Refusals>>,
    /// Limits how many modules are fetched or wait for their compilation.
    fetching: Arc<Semaphore>,
    /// Limits compilations to one at a time, since one takes all processors and the memory allowed.
    compiling: Arc<Semaphore>,
    /// Limits linking to one program at a time; it takes milliseconds, in which the code is in memory
    /// twice.
    linking: Arc<Semaphore>,
}

impl Artifacts {
    pub(crate) fn new(engine: Engine, compiler: Compiler, code: Option<CodeCache>) -> Self {
        Artifacts::within(PROGRAMS_SIZE_MAX, engine, compiler, code)
    }

    fn within(size_max: u64, engine: Engine, compiler: Compiler, code: Option<CodeCache>) -> Self {
        let one = || Arc::new(Semaphore::new(1));
        let fetching = Arc::new(Semaphore::new(FETCHES_MAX));
        Artifacts {
            engine,
            compiler,
            code,
            size_max,
            cache: Arc::new(Mutex::new(ProgramCache::new(size_max))),
            refusals: Arc::default(),
            fetching,
            compiling: one(),
            linking: one(),
        }
    }

    /// A program that is ready now.
    pub(crate) fn ready(&self, digest: Digest) -> Option<Program> {
        self.cache().ready(digest)
    }

    /// A program; unless it is ready, `fetch` gets the module, and it is compiled. Concurrent callers
    /// for the same module wait for the same work. A module that was refused before is refused at once.
    pub(crate) async fn get<F>(
        &self,
        digest: Digest,
        fetch: impl FnOnce() -> F,
    ) -> Result<Program, ArtifactError>
    where
        F: Future<Output = Result<Bytes, ArtifactError>>,
    {
        let cell: Cell = self.cache().cell(digest);
        let got = cell.get_or_try_init(|| self.make(digest, fetch)).await.cloned();
        if got.is_err() {
            self.cache().give_up(digest, cell);
        }
        got
    }

    /// Whether the host would allow a compilation now: a child compiles an empty module. If a
    /// compilation is under way, returns `Ok` at once: its result will show it.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let Ok(turn) = self.compiling.clone().try_acquire_owned() else { return Ok(()) };
        match self.compiler.compile(Bytes::new(), turn).await {
            Err(CompileError::NotTried(why) | CompileError::Killed(why)) => Err(why),
            // A child that rejected the empty module had everything that it needed.
            Err(CompileError::Rejected(_)) | Ok(_) => Ok(()),
        }
    }

    async fn make<F>(
        &self,
        digest: Digest,
        fetch: impl FnOnce() -> F,
    ) -> Result<Program, ArtifactError>
    where
        F: Future<Output = Result<Bytes, ArtifactError>>,
    {
        // Callers that waited for another caller's attempt find its refusal here.
        if let Some(refused) = self.refusals().of(digest) {
            return Err(refused);
        }
        if let Some(program) = self.revive(digest).await? {
            return Ok(program);
        }
        let waiting = one_of(&self.fetching).await;
        let bytes = fetch().await?;
        if digest_of(bytes.clone()).await != Some(digest) {
            return Err(ArtifactError::NotHad(format!(
                "the bytes that were received are not {digest}"
            )));
        }
        let turn = one_of(&self.compiling).await;
        drop(waiting);
        let started = muster_wire::clock::boottime();
        // The permit is released when the child is gone, even if nothing waits for the result any more.
        let compiled = self.compiler.compile(bytes, turn).await;
        let own: OwnCode = compiled.map_err(|error| self.refusals().failed(digest, error))?.into();
        self.refusals().ended(digest);
        let turn = one_of(&self.linking).await;
        let this = self.clone();
        let linking = spawn_blocking(move || -> Result<_, ArtifactError> {
            let _turn = turn;
            let program = this.link(digest, &own)?;
            Ok((program.map_err(|reason| this.refusals().refuse(digest, reason))?, own))
        });
        let (program, own) = linking.await.map_err(|error| match error.is_cancelled() {
            true => ArtifactError::NotHad("the worker stops".into()),
            false => self.refusals().refuse(digest, format!("it cannot be linked: {error}")),
        })??;
        let took = muster_wire::clock::boottime().since(started);
        tracing::info!(module = ?digest, ?took, code = program.code_size(), "compiled");
        self.keep(digest, own);
        Ok(program)
    }

    /// A program that an earlier process of this worker compiled; `None` if it is not on disk.
    async fn revive(&self, digest: Digest) -> Result<Option<Program>, ArtifactError> {
        let Some(code) = self.code.clone() else { return Ok(None) };
        let turn = one_of(&self.linking).await;
        let this = self.clone();
        let started = muster_wire::clock::boottime();
        let reviving = spawn_blocking(move || -> Result<_, ArtifactError> {
            let _turn = turn;
            let Some(own) = code.load(digest) else { return Ok(None) };
            let program = this.link(digest, &own)?;
            Ok(program
                .inspect_err(|error| {
                    tracing::warn!(module = ?digest, error, "compiled code does not fit this engine; compiling again");
                    code.remove(digest);
                })
                .ok())
        });
        let program = reviving.await.unwrap_or(Ok(None))?;
        if let Some(program) = &program {
            let took = muster_wire::clock::boottime().since(started);
            tracing::info!(module = ?digest, ?took, code = program.code_size(), "had it compiled");
        }
        Ok(program)
    }

    /// Makes a program from code, once there is space for it. The inner error means that the code does
    /// not fit; the outer error means that the program is too large, or that there is no space or
    /// another shortage of the host.
    fn link(
        &self,
        digest: Digest,
        own: &OwnCode,
    ) -> Result<Result<Program, String>, ArtifactError> {
        // Space is reserved before linking takes it, and corrected once the exact size is known.
        self.make_room(digest, own.bytes().len())?;
        let program = match self.engine.revive(digest, own) {
            Ok(program) => program,
            Err(ReviveError::Unfit(reason)) => return Ok(Err(reason)),
            Err(ReviveError::Host(reason)) => {
                return Err(ArtifactError::NotHad(format!("it could not be linked: {reason}")));
            }
        };
        self.make_room(digest, program.code_size())?;
        Ok(Ok(program))
    }

    fn make_room(&self, digest: Digest, size: usize) -> Result<(), ArtifactError> {
        let (size, max) = (size as u64, self.size_max);
        let room = self.cache().make_room(digest, size);
        room.map_err(|no_room| match no_room {
            NoRoom::TooLarge => {
                let reason = format!("its compiled form has {size} bytes, the limit is {max}");
                self.refusals().refuse(digest, reason)
            }
            NoRoom::InUse(others) => ArtifactError::NotHad(format!(
                "its compiled form has {size} bytes, those in use have {others}, and all together \
                 may have {max}"
            )),
        })
    }

    /// Stores a program's code for later processes of this worker, in the background.
    fn keep(&self, digest: Digest, own: OwnCode) {
        let Some(code) = self.code.clone() else { return };
        spawn_blocking(move || code.store(digest, own.bytes()));
    }

    fn cache(&self) -> MutexGuard<'_, ProgramCache> {
        self.cache.lock().expect("no holder of this lock panics")
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().expect("no holder of this lock panics")
    }
}

/// The digest of fetched bytes; `None` if the runtime shuts down.
pub(crate) async fn digest_of(bytes: Bytes) -> Option<Digest> {
    match bytes.len() {
        ..ASIDE_FROM => Some(muster_module::digest(&bytes)),
        _ => spawn_blocking(move || muster_module::digest(&bytes)).await.ok(),
    }
}

async fn one_of(turns: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    turns.clone().acquire_owned().await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests;
