//! Modules made ready to run: fetched by digest, compiled once, kept while there is room. Never
//! runs bytes whose digest is not the one asked for.

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

/// Bytes of all programs together. The hundred small ones that a shop's worker needs take 50 MB, and
/// there is room for several like Python beside them. The data that a program begins with is in its
/// compiled form and, once it has run, in an image of its memory too: all of it takes a GiB at most.
const PROGRAMS_SIZE_MAX: u64 = 512 << 20;

/// From how many bytes on a digest is made where it keeps no loop waiting: in a tenth of a millisecond.
const ASIDE_FROM: usize = 128 * 1024;

/// Modules that are fetched, or have come and wait for their compilation: enough that one is there when
/// the last is done, and a quarter of a GiB of the largest.
const FETCHES_MAX: usize = 4;

const _: () = assert!(CODE_MAX <= PROGRAMS_SIZE_MAX, "what may be compiled can be kept");

/// Why a program is not ready.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    /// It never will be.
    #[error("{0}")]
    Rejected(String),
    /// It did not come; asking again may help.
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
    /// Few modules are fetched and wait for their compilation at a time.
    fetching: Arc<Semaphore>,
    /// One compilation at a time: it takes all processors, and the memory of one.
    compiling: Arc<Semaphore>,
    /// One is linked at a time, which takes milliseconds: meanwhile its code is in memory twice.
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

    /// A program, got by `fetch` and compiled unless it is ready. Those who ask for the same one
    /// meanwhile wait for the same work. A module that was refused is refused at once.
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

    /// Whether a module could be compiled now, as far as the host lets it: has a child compile nothing.
    /// While one compiles, its own end tells.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let Ok(turn) = self.compiling.clone().try_acquire_owned() else { return Ok(()) };
        match self.compiler.compile(Bytes::new(), turn).await {
            Err(CompileError::NotTried(why) | CompileError::Killed(why)) => Err(why),
            // That nothing is no module was found out by a child that had all it needs.
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
        // Known by now to those who waited for somebody else's try.
        if let Some(refused) = self.refusals().of(digest) {
            return Err(refused);
        }
        if let Some(program) = self.revive(digest).await? {
            return Ok(program);
        }
        let waiting = one_of(&self.fetching).await;
        let bytes = fetch().await?;
        if digest_of(bytes.clone()).await != Some(digest) {
            return Err(ArtifactError::NotHad(format!("what came is not {digest}")));
        }
        let turn = one_of(&self.compiling).await;
        drop(waiting);
        let started = muster_wire::clock::boottime();
        // The turn is over when the child is gone, even if nobody waits for it any more.
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

    /// A program that an earlier life of this worker compiled.
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
                    tracing::warn!(module = ?digest, error, "compiled code does not fit; again");
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

    /// Makes a program of code, once there is room for it. Fails within where it is the code's fault,
    /// and never there for what the host lacks.
    fn link(
        &self,
        digest: Digest,
        own: &OwnCode,
    ) -> Result<Result<Program, String>, ArtifactError> {
        // Before it takes that room, and again when it is known to the page.
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

    /// Keeps a program's code for later lives. Nobody waits for that.
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

/// The digest of what was fetched; `None` where the runtime goes down.
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
