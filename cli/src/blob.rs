//! Objects of the fleet by digest, sent to masters and read from them in pieces. Never sends an object that
//! is stored already, and never returns bytes that do not have their digest.

use crate::{
    client::{Client, TryError, persist},
    exit::Failure,
    quantity, terminal,
};
use bytes::{Bytes, BytesMut};
use indicatif::ProgressBar;
use muster_protocol::{
    Digest, Nonce,
    api::{
        Endpoint, FindObject, FoundObject, GetPiece, PIECE_BYTES_MAX, Piece, PieceStored, PutPiece,
    },
    limit,
    message::ObjectStore,
    task::Data,
};
use muster_wire::process;

/// Below this size an upload is over before a progress bar could be read.
const BAR_FROM: usize = 1024 * 1024;

/// The input as a task carries it: inline, or by digest after it was stored. An input that is too large
/// for a task is refused before anything is stored.
pub async fn input(client: &Client, bytes: Bytes) -> anyhow::Result<Data> {
    check_size(bytes.len() as u64)?;
    if bytes.len() <= limit::INLINE_SIZE_MAX {
        return Ok(Data::Inline(bytes));
    }
    let digest = muster_module::digest(&bytes);
    put(client, ObjectStore::Data, digest, &bytes).await?;
    Ok(Data::Blob { digest, size: bytes.len() as u64 })
}

/// Refuses an input that is too large for a task.
pub fn check_size(size: u64) -> anyhow::Result<()> {
    if size <= limit::PAYLOAD_SIZE_MAX {
        return Ok(());
    }
    let max = quantity::show_size(limit::PAYLOAD_SIZE_MAX);
    let text = format!("the input is larger than the {max} that a task may have");
    Err(Failure::user(text).hint("split it into several tasks, see `muster map --help`").into())
}

/// The bytes of an input or output, inline or stored.
pub async fn bytes(client: &Client, data: &Data) -> anyhow::Result<Bytes> {
    let (digest, size) = match data {
        Data::Inline(bytes) => return Ok(bytes.clone()),
        Data::Blob { digest, size } => (digest, *size),
    };
    check_size(size)?;
    fetch(client, ObjectStore::Data, *digest, size).await
}

/// The object with this digest, of `size_max` bytes at most.
pub async fn fetch(
    client: &Client,
    store: ObjectStore,
    digest: Digest,
    size_max: u64,
) -> anyhow::Result<Bytes> {
    let bytes = persist(|| fetch_once(client, store, digest, size_max)).await?;
    anyhow::ensure!(
        muster_module::digest(&bytes) == digest,
        "the masters have wrong bytes for {digest}"
    );
    Ok(bytes)
}

async fn fetch_once(
    client: &Client,
    store: ObjectStore,
    digest: Digest,
    size_max: u64,
) -> Result<Bytes, TryError> {
    let (mut all, mut after) = (BytesMut::new(), None);
    loop {
        let question = GetPiece { store, digest, after };
        let Piece { place, bytes, whole } = client.attempt(Endpoint::ObjectGet, &question).await?;
        let size = all.len() + bytes.len();
        if whole > size_max || size as u64 > whole || (bytes.is_empty() && whole > 0) {
            let error = anyhow::anyhow!("{digest} has other bytes than were expected");
            return Err(TryError::Lasting(error));
        }
        all.extend_from_slice(&bytes);
        if size as u64 == whole {
            return Ok(all.freeze());
        }
        after = Some(place);
    }
}

/// Stores bytes under their digest, unless they are stored already. Returns whether it stored them.
pub async fn put(
    client: &Client,
    store: ObjectStore,
    digest: Digest,
    bytes: &Bytes,
) -> anyhow::Result<bool> {
    let question = FindObject { store, digest };
    let found: FoundObject = client.insist(Endpoint::ObjectFind, &question).await?;
    if found.size == Some(bytes.len() as u64) {
        return Ok(false);
    }
    persist(|| upload(client, store, digest, bytes)).await?;
    Ok(true)
}

/// Sends an object once. An upload that fails is begun anew, since nobody knows whether its last piece was
/// stored.
async fn upload(
    client: &Client,
    store: ObjectStore,
    digest: Digest,
    bytes: &Bytes,
) -> Result<(), TryError> {
    let upload = Nonce(process::random().map_err(|error| TryError::Lasting(error.into()))?);
    let bar = bar(bytes.len());
    let (mut sent, mut after) = (0, 0);
    loop {
        let end = bytes.len().min(sent + PIECE_BYTES_MAX);
        let piece = bytes.slice(sent..end);
        let whole = (end == bytes.len()).then_some(bytes.len() as u64);
        let question = PutPiece { store, digest, upload, after, bytes: piece, whole };
        let stored: PieceStored = client.attempt(Endpoint::ObjectPut, &question).await?;
        bar.inc((end - sent) as u64);
        (sent, after) = (end, stored.at);
        if whole.is_some() {
            bar.finish_and_clear();
            return Ok(());
        }
    }
}

fn bar(size: usize) -> ProgressBar {
    if size <= BAR_FROM {
        return ProgressBar::hidden();
    }
    terminal::progress_bar(Some(size as u64), "{bytes}/{total_bytes} {bytes_per_sec}")
}
