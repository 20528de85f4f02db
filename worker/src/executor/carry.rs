//! Moves a run's module, input, output and reports between this worker and the masters. It must never
//! decide what happens to an attempt.

use crate::{
    artifact::{ArtifactError, Artifacts},
    engine::Program,
    gate::RunGate,
    inputs::Inputs,
    link::{self, ObjectError},
    links::{LinkHandle, Links},
    object,
    policy::{GrantedSecrets, PresentRules, Secrets},
    retry::until_done,
    sandbox::GuestReport,
    sealed::SealedSecrets,
    signatures::{NotVerified, Signatures},
};
use bytes::Bytes;
use muster_protocol::{
    Digest,
    lease::Permit,
    limit,
    message::{Dispatch, HeldAttempt, ObjectStore, ToMaster},
    retry::OUTPUT,
    task::{Data, Outcome, Verdict},
};
use muster_wire::link::Connection;
use tokio::sync::mpsc;

/// What a preparation uses and fills; cheap to clone.
#[derive(Clone)]
pub(super) struct Stores {
    pub artifacts: Artifacts,
    pub inputs: Inputs,
    pub signatures: Signatures,
    pub sealed: SealedSecrets,
    pub rules: PresentRules,
}

/// Fetches an attempt's module, and its input if that is not in the dispatch. What the policy denies is not
/// compiled. `first` is the link to try first, if there is one.
pub(super) async fn get(
    stores: &Stores,
    links: &Links,
    first: Option<Connection>,
    dispatch: &Dispatch,
) -> Result<(), ArtifactError> {
    let Stores { artifacts, inputs, signatures, rules, .. } = stores;
    let (digest, signature) = (dispatch.module, dispatch.signature.as_ref());
    let verified = match (signatures.signer(digest, signature), signature) {
        (Err(NotVerified), Some(signature)) => {
            let fetch = || fetch_module(links, first.clone(), digest);
            Some(signatures.verify(digest, signature, fetch).await?)
        }
        _ => None,
    };
    let known = || signatures.signer(digest, signature).ok().flatten();
    let signer = verified.as_ref().map_or_else(known, |verified| verified.signer);
    if let Some(denial) = rules.now().denies(&dispatch.grants, digest, signer) {
        return Err(ArtifactError::Rejected(denial));
    }
    let had = verified.as_ref().map(|verified| verified.bytes.clone());
    let fetch = || async {
        match had {
            Some(bytes) => Ok(bytes),
            None => fetch_module(links, first.clone(), digest).await,
        }
    };
    artifacts.get(digest, fetch).await?;
    drop(verified);
    match dispatch.input {
        Data::Inline(_) => Ok(()),
        Data::Blob { digest, size } => {
            let fetch = |size_max| async move {
                Ok(object::get(links, first, ObjectStore::Data, digest, size_max).await?)
            };
            inputs.get(dispatch.key, digest, size, fetch).await
        }
    }
}

/// What a run lacks at its start: a program that was evicted after it was prepared, or one that was prepared for
/// attempts with another signature. With the secrets that its module may have.
async fn get_again(
    stores: &Stores,
    links: &Links,
    dispatch: &Dispatch,
) -> Result<(Program, GrantedSecrets), ArtifactError> {
    let Stores { artifacts, signatures, rules, .. } = stores;
    let (digest, signature) = (dispatch.module, dispatch.signature.as_ref());
    let fetch = || fetch_module(links, None, digest);
    let signer = match (signatures.signer(digest, signature), signature) {
        (Err(NotVerified), Some(signature)) => {
            signatures.verify(digest, signature, fetch).await?.signer
        }
        (signer, _) => signer.unwrap_or_default(),
    };
    let secrets = rules.now().grant(&dispatch.grants, digest, signer);
    let secrets = secrets.map_err(ArtifactError::Rejected)?;
    Ok((artifacts.get(digest, fetch).await?, secrets))
}

/// The program of a run, if it is still `ready`, or else after it was got again; and the values of its secrets. An
/// error is the end of its attempt; `None` means that the gate has closed.
pub(super) async fn provide(
    stores: &Stores,
    links: &Links,
    gate: &RunGate,
    dispatch: &Dispatch,
    ready: Option<(Program, GrantedSecrets)>,
) -> Option<Result<(Program, Secrets), Verdict>> {
    let (program, GrantedSecrets { values, sealed }) = match ready {
        Some(ready) => ready,
        None => match get_again(stores, links, dispatch).await {
            Ok(ready) => ready,
            Err(ArtifactError::Rejected(message)) => {
                return Some(Err(Verdict::Rejected { message }));
            }
            Err(ArtifactError::NotHad(reason)) => return Some(Err(Verdict::Returned { reason })),
        },
    };
    let attempt = HeldAttempt { key: dispatch.key, revision: dispatch.revision };
    let secrets = stores.sealed.add(gate, attempt, &sealed, values).await?;
    Some(secrets.map(|secrets| (program, secrets)))
}

async fn fetch_module(
    links: &Links,
    first: Option<Connection>,
    digest: Digest,
) -> Result<Bytes, ArtifactError> {
    Ok(object::get(links, first, ObjectStore::Modules, digest, limit::MODULE_SIZE_MAX).await?)
}

impl From<ObjectError> for ArtifactError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Missing { .. } => ArtifactError::Rejected(error.to_string()),
            ObjectError::Carried(_) => ArtifactError::NotHad(error.to_string()),
        }
    }
}

/// Does work for a run; `None` if the run's gate closes before the work is done.
pub(super) async fn unless_closed<T>(gate: &RunGate, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = gate.closed() => None,
        done = work => Some(done),
    }
}

/// Stores an output that is too large for a record in the data store. `None` if the gate closed before
/// that was done.
pub(super) async fn bring(mut outcome: Outcome, links: &Links, gate: &RunGate) -> Option<Outcome> {
    let Data::Inline(bytes) = &outcome.output else { return Some(outcome) };
    if bytes.len() <= limit::INLINE_SIZE_MAX {
        return Some(outcome);
    }
    let (digest, size) = (muster_module::digest(bytes), bytes.len() as u64);
    let put = |permit: Permit<'_>, link: LinkHandle| {
        link::put(permit, link.connection, digest, bytes.clone())
    };
    let judge = |stored: Result<(), ObjectError>| {
        stored.map_err(|error| format!("an output could not be stored: {error}"))
    };
    until_done(gate, links, OUTPUT, put, judge).await.ok()?;
    outcome.output = Data::Blob { digest, size };
    Some(outcome)
}

/// Sends the logs and the progress of guests over any link that is up. They are lost if none is up.
pub(super) async fn pass_on(mut heard: mpsc::Receiver<GuestReport>, links: Links) {
    while let Some(report) = heard.recv().await {
        let Some(road) = link::any(&links) else { continue };
        match report {
            GuestReport::Log(chunk) => {
                let _ = road.logs.try_send(chunk);
            }
            GuestReport::Progress { key, done, total } => {
                let _ = road.frames.try_send(ToMaster::Progress { key, done, total });
            }
        }
    }
}
