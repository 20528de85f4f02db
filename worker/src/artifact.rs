//! Modules made ready to run: fetched by digest, compiled once, kept while there is room. Never
//! runs bytes whose digest is not the one asked for.

use crate::engine::{Engine, Program};
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

/// The programs of a worker; cheap to clone.
#[derive(Clone)]
pub(crate) struct Artifacts {
    engine: Engine,
    programs: Arc<Mutex<HashMap<Digest, Arc<OnceCell<Program>>>>>,
    /// One compilation at a time: it takes all processors.
    compiling: Arc<Semaphore>,
}

impl Artifacts {
    pub(crate) fn new(engine: Engine) -> Self {
        Artifacts { engine, programs: Arc::default(), compiling: Arc::new(Semaphore::new(1)) }
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
            let bytes = fetch().await?;
            if muster_module::digest(&bytes) != digest {
                return Err(ArtifactError::NotHad(format!("what came is not {digest}")));
            }
            let _turn = self.compiling.acquire().await;
            let engine = self.engine.clone();
            let started = muster_wire::clock::boottime();
            let compiled = tokio::task::spawn_blocking(move || engine.compile(&bytes)).await;
            let program = compiled
                .map_err(|error| {
                    ArtifactError::Rejected(format!("its compilation failed: {error}"))
                })?
                .map_err(ArtifactError::Rejected)?;
            let took = muster_wire::clock::boottime().since(started);
            tracing::info!(module = ?digest, ?took, code = program.code_size(), "compiled");
            Ok(program)
        })
        .await
        .cloned()
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
