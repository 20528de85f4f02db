//! Modules made ready to run: fetched by digest, compiled once, kept while there is room. Never
//! runs bytes whose digest is not the one asked for.

use crate::{
    code::{CodeCache, OwnCode},
    compile::{CompileError, Compiler},
    engine::{Engine, Program},
};
use bytes::Bytes;
use muster_protocol::Digest;
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
};
use tokio::sync::{OnceCell, Semaphore};

/// Programs kept. A hundred small ones take some 50 MB; the count is what a shop's worker needs.
const PROGRAMS_MAX: usize = 128;

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

impl From<CompileError> for ArtifactError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Rejected(reason) => ArtifactError::Rejected(reason),
            CompileError::NotTried(reason) => ArtifactError::NotHad(reason),
        }
    }
}

/// The programs of a worker; cheap to clone.
#[derive(Clone)]
pub(crate) struct Artifacts {
    engine: Engine,
    compiler: Compiler,
    code: Option<CodeCache>,
    programs: Arc<Mutex<HashMap<Digest, Arc<OnceCell<Program>>>>>,
    /// One compilation at a time: it takes all processors, and the memory of one.
    compiling: Arc<Semaphore>,
}

impl Artifacts {
    pub(crate) fn new(engine: Engine, compiler: Compiler, code: Option<CodeCache>) -> Self {
        let compiling = Arc::new(Semaphore::new(1));
        Artifacts { engine, compiler, code, programs: Arc::default(), compiling }
    }

    /// A program that is ready now.
    pub(crate) fn ready(&self, digest: Digest) -> Option<Program> {
        let programs = self.programs.lock().expect("no holder of this lock panics");
        programs.get(&digest)?.get().cloned()
    }

    /// A program, got by `fetch` and compiled unless it is ready. Those who ask for the same one
    /// meanwhile wait for the same work.
    pub(crate) async fn get<F>(
        &self,
        digest: Digest,
        fetch: impl FnOnce() -> F,
    ) -> Result<Program, ArtifactError>
    where
        F: Future<Output = Result<Bytes, ArtifactError>>,
    {
        let cell = self.cell(digest);
        cell.get_or_try_init(|| async {
            if let Some(program) = self.revive(digest).await {
                return Ok(program);
            }
            let bytes = fetch().await?;
            if muster_module::digest(&bytes) != digest {
                return Err(ArtifactError::NotHad(format!("what came is not {digest}")));
            }
            let turn = self.compiling.clone().acquire_owned().await;
            let turn = turn.expect("the semaphore is never closed");
            let started = muster_wire::clock::boottime();
            // The turn is over when the child is gone, even if nobody waits for it any more.
            let own: OwnCode = self.compiler.compile(bytes, turn).await?.into();
            let engine = self.engine.clone();
            let linking = tokio::task::spawn_blocking(move || {
                engine.revive(digest, &own).map(|program| (program, own))
            });
            let (program, own) = linking
                .await
                .map_err(|error| ArtifactError::Rejected(format!("it cannot be linked: {error}")))?
                .map_err(ArtifactError::Rejected)?;
            let took = muster_wire::clock::boottime().since(started);
            tracing::info!(module = ?digest, ?took, code = program.code_size(), "compiled");
            self.keep(digest, own);
            Ok(program)
        })
        .await
        .cloned()
    }

    /// A program that an earlier life of this worker compiled.
    async fn revive(&self, digest: Digest) -> Option<Program> {
        let (code, engine) = (self.code.clone()?, self.engine.clone());
        let started = muster_wire::clock::boottime();
        let reviving = tokio::task::spawn_blocking(move || {
            let program = engine.revive(digest, &code.load(digest)?);
            program
                .inspect_err(|error| {
                    tracing::warn!(module = ?digest, error, "compiled code does not fit; again");
                    code.remove(digest);
                })
                .ok()
        });
        let program = reviving.await.ok()??;
        let took = muster_wire::clock::boottime().since(started);
        tracing::info!(module = ?digest, ?took, code = program.code_size(), "had it compiled");
        Some(program)
    }

    /// Keeps a program's code for later lives. Nobody waits for that.
    fn keep(&self, digest: Digest, own: OwnCode) {
        let Some(code) = self.code.clone() else { return };
        tokio::task::spawn_blocking(move || code.store(digest, own.bytes()));
    }

    fn cell(&self, digest: Digest) -> Arc<OnceCell<Program>> {
        let mut programs = self.programs.lock().expect("no holder of this lock panics");
        if programs.len() >= PROGRAMS_MAX && !programs.contains_key(&digest) {
            // Any of them that nobody waits for; a program in use stays alive through its run.
            let idle = programs.iter().find(|(_, cell)| Arc::strong_count(cell) == 1);
            if let Some(&old) = idle.map(|(digest, _)| digest) {
                programs.remove(&old);
            }
        }
        programs.entry(digest).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Rules;
    use std::{
        cell::Cell,
        path::{Path, PathBuf},
        time::{Duration, Instant},
    };

    /// One life of a worker that needs a program once; whether it had to fetch it.
    fn life(state: &Path, wasm: &[u8]) -> bool {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let engine = Engine::new(1).expect("an engine");
        let code = CodeCache::open(state, engine.compatibility(), 1 << 20).expect("a cache");
        let compiler = Compiler::for_tests(Rules::default());
        let artifacts = Artifacts::new(engine, compiler, Some(code));
        let fetched = Cell::new(false);
        let digest = muster_module::digest(wasm);
        let program = runtime.block_on(artifacts.get(digest, || async {
            fetched.set(true);
            Ok(Bytes::copy_from_slice(wasm))
        }));
        assert_eq!(program.expect("it compiles").digest(), digest);
        // Dropping the runtime waits for what is being kept.
        fetched.get()
    }

    fn files(state: &Path) -> Vec<PathBuf> {
        let files = std::fs::read_dir(state.join("code")).expect("a directory");
        files.map(|file| file.expect("a file").path()).collect()
    }

    #[test]
    fn a_later_life_neither_fetches_nor_compiles_and_mends_what_was_damaged() {
        let state = std::env::temp_dir().join(format!("muster-artifact-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).expect("Wasm text");
        assert!(life(&state, &wasm));
        assert!(!life(&state, &wasm), "it was kept");
        let [file] = &files(&state)[..] else { panic!("one file") };
        let whole = std::fs::read(file).expect("a file");
        for damaged in [&whole[..whole.len() / 2], b"", &[&whole[..], b"more"].concat()] {
            std::fs::write(file, damaged).expect("it is ours");
            assert!(life(&state, &wasm), "it was compiled again");
            let began = Instant::now();
            while !file.exists() && began.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
            assert!(!life(&state, &wasm), "and replaced");
        }
        std::fs::remove_dir_all(&state).expect("it is ours");
    }
}
