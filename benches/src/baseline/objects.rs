//! What the object store of NATS does alone: objects of one size that are stored and read back. Never
//! the same bytes twice, because the objects of a fleet differ too.

use anyhow::Context as _;
use async_nats::jetstream::{self, object_store::Config};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::time::Instant;
use tokio::io::AsyncReadExt as _;

/// Transfers in flight at once: as many as a master has.
const AT_ONCE: usize = 8;

/// Stores `count` objects and then reads each. Returns bytes a second, for storing and reading together.
///
/// # Errors
///
/// NATS does not answer, or an object differs from what was stored.
pub async fn there_and_back(url: &str, count: usize, size: usize) -> anyhow::Result<f64> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let config = Config { bucket: "raw-objects".into(), ..Config::default() };
    let store = &context.create_object_store(config).await?;
    let began = Instant::now();
    let puts = stream::iter(0..count).map(|number| async move {
        let bytes = bytes_of(number, size);
        store.put(number.to_string().as_str(), &mut bytes.as_slice()).await?;
        anyhow::Ok(())
    });
    puts.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let gets = stream::iter(0..count).map(|number| async move {
        let mut object = store.get(number.to_string()).await?;
        let mut bytes = Vec::with_capacity(size);
        object.read_to_end(&mut bytes).await.context("an object")?;
        anyhow::ensure!(bytes.len() == size, "an object of {} bytes", bytes.len());
        Ok(())
    });
    gets.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let rate = (count * size) as f64 / began.elapsed().as_secs_f64();
    context.delete_object_store("raw-objects").await?;
    Ok(rate)
}

fn bytes_of(number: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![b'x'; size];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}
