//! Objects in the fleet's object stores, named by the hex of their digest. Never stores an object that
//! is there already, and never creates a store: the masters do.

use crate::{
    client::{self, Client, TryError, persist},
    exit::Failure,
    quantity,
};
use anyhow::Context as _;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use muster_protocol::{Digest, limit, task::Data};
use muster_wire::{
    nats,
    objects::{self, Objects, ReadError},
};
use std::io::{self, IsTerminal as _};

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
    put(client, &client.names.data_store(), digest, &bytes).await?;
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
    fetch(client, &client.names.data_store(), *digest, size).await
}

/// The object with this digest, of `size_max` bytes at most.
pub async fn fetch(
    client: &Client,
    store: &str,
    digest: Digest,
    size_max: u64,
) -> anyhow::Result<Bytes> {
    let read = || async {
        let read = open(client, store).await?.read(digest, size_max).await;
        read.map_err(|error| unread(error, format!("cannot read {digest} from {store}")))
    };
    let bytes = persist(read).await?.with_context(|| format!("{store} has no {digest}"))?;
    anyhow::ensure!(
        muster_module::digest(&bytes) == digest,
        "{store} has wrong bytes under {digest}"
    );
    Ok(bytes)
}

/// Stores bytes under their digest, unless they are stored already. Returns whether it stored them.
pub async fn put(
    client: &Client,
    store: &str,
    digest: Digest,
    bytes: &Bytes,
) -> anyhow::Result<bool> {
    persist(|| put_once(client, store, digest, bytes)).await
}

async fn put_once(
    client: &Client,
    store: &str,
    digest: Digest,
    bytes: &Bytes,
) -> Result<bool, TryError> {
    let objects = open(client, store).await?;
    let there = objects.info(digest).await;
    let there = there.map_err(|error| unread(error, format!("cannot ask {store} for {digest}")))?;
    // Inputs expire, so an old one is stored again. Modules do not expire.
    if there.is_some_and(|info| {
        info.size == bytes.len() && (store == client.names.module_store() || nats::is_young(&info))
    }) {
        return Ok(false);
    }
    let bar = bar(bytes.len());
    let stored = objects.put(digest, bytes.clone(), |size| bar.inc(size as u64)).await;
    bar.finish_and_clear();
    let what = || format!("cannot store {digest} in {store}");
    stored.map(|()| true).with_context(what).map_err(TryError::Passing)
}

/// Why an object was not read. A store that does not answer may answer later.
fn unread(error: ReadError, what: String) -> TryError {
    match error {
        ReadError::Unavailable(_) => TryError::Passing(anyhow::Error::new(error).context(what)),
        ReadError::Torn(_) | ReadError::TooLarge { .. } => {
            TryError::Lasting(anyhow::Error::new(error).context(what))
        }
    }
}

async fn open(client: &Client, store: &str) -> Result<Objects, TryError> {
    client.store(store).await.map_err(|error| {
        if !objects::is_missing(&error) {
            let text = format!("the object store {store} does not answer");
            return TryError::Passing(anyhow::Error::new(error).context(text));
        }
        let failure =
            Failure::new(format!("the fleet has no object store {store}")).hint(client::NO_STREAM);
        TryError::Lasting(failure.into())
    })
}

fn bar(size: usize) -> ProgressBar {
    if size <= BAR_FROM || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}")
        .expect("the template is a constant and well-formed");
    ProgressBar::new(size as u64).with_style(style)
}
