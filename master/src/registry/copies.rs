//! The copies of sites' events: streams of the hub whose sources are the streams of the sites' own
//! servers. Never copies a lease, a record or an object.

use super::{
    Registry, RegistryError, Site,
    layout::{self, Existing, Keep, UNLIMITED},
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, External, Source, StorageType};
use futures::TryFutureExt as _;
use muster_protocol::{site::SiteLook, subject::Names};
use muster_wire::nats::JetStream;
use serde::Deserialize;
use std::time::Duration;

/// How long a question about a site may take: some times as long as an answer from the other side of the
/// world.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The copy of a site's events. The messages keep their subjects. Unlike the stream of this fleet's own
/// events, it is synced as the buckets are: its server asks the site only for what follows the last event
/// that it knows.
fn config(site: &Site, keep: &Keep) -> Config {
    let external = External { api_prefix: site.domain.api(), delivery_prefix: None };
    let source = Source { name: site.stream(), external: Some(external), ..Source::default() };
    Config {
        name: site.stream(),
        sources: Some(vec![source]),
        max_age: keep.events_age,
        max_bytes: i64::try_from(keep.events_bytes).unwrap_or(i64::MAX),
        max_messages_per_subject: UNLIMITED,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: keep.replicas,
        allow_direct: true,
        ..Config::default()
    }
}

/// The names of a stream's sources, and the domains where they are.
fn sources(config: &Config) -> Vec<(&str, Option<&str>)> {
    let mut found = Vec::new();
    for source in config.sources.iter().flatten() {
        let api = source.external.as_ref().map(|external| external.api_prefix.as_str());
        found.push((source.name.as_str(), api));
    }
    found
}

/// Creates the copies that are missing, and those sources that are.
pub(super) async fn ensure(
    context: &JetStream,
    keep: &Keep,
    existing: Existing,
) -> Result<(), RegistryError> {
    for site in keep.sites.iter() {
        let (wanted, events) = (config(site, keep), Names::new(site.fleet.clone()).events());
        match context.get_stream(&wanted.name).await {
            Ok(there) if there.cached_info().config.subjects.contains(&events) => {
                return Err(RegistryError::Layout {
                    what: wanted.name,
                    cause: format!(
                        "a fleet {} keeps its own events here; a site has a server of its own, and its \
                         fleet another name",
                        site.fleet
                    ),
                });
            }
            Ok(there) => {
                let there = &there.cached_info().config;
                // A master that ended while it renewed the source has left none.
                let lacks_source = sources(there).is_empty();
                let settings = |config: &Config| (config.max_bytes, config.num_replicas);
                let differs =
                    sources(there) != sources(&wanted) || settings(there) != settings(&wanted);
                if lacks_source || (differs && existing == Existing::Update) {
                    let name = wanted.name.clone();
                    let made = context.update_stream(wanted).map_ok(drop).await;
                    layout::made(made, name, keep.events_bytes)?;
                }
            }
            Err(error) if layout::is_missing(&error) => {
                let name = wanted.name.clone();
                let made = context.create_stream(wanted).map_ok(drop).await;
                layout::made(made, name.clone(), keep.events_bytes)?;
                tracing::info!(stream = name, site = %site.fleet, "created");
            }
            Err(error) => return Err(layout::unread(context, wanted.name, &error)),
        }
    }
    Ok(())
}

/// What is read of a stream. The client library's own type lacks the source's sequence.
#[derive(Deserialize)]
struct Info {
    state: Option<State>,
    #[serde(default)]
    sources: Vec<SourceInfo>,
}

#[derive(Deserialize)]
struct State {
    last_seq: u64,
}

#[derive(Deserialize)]
struct SourceInfo {
    #[serde(default)]
    lag: u64,
    /// Nanoseconds since the source was heard; negative if it never was.
    active: i64,
    /// The sequence, at the site, of the last message that was copied. Servers before 2.15 do not tell it.
    #[serde(default)]
    seq: u64,
}

impl Registry {
    /// Looks at the copy of a site's events. An error says nothing about the site.
    pub async fn look_at(&self, site: &Site) -> Result<SiteLook, async_nats::Error> {
        let copy = ask(&self.context, &site.stream()).await?;
        // A source is missing between two steps of its renewal, if the master ended there.
        let source = copy.sources.first();
        let silence =
            source.and_then(|source| u64::try_from(source.active).ok()).map(Duration::from_nanos);
        if SiteLook::is_heard(silence) {
            let behind = source.map(|source| source.lag);
            return Ok(SiteLook { silence, behind, answers: false });
        }
        let context = JetStream::tuned(Some(site.domain.clone()), |builder| {
            builder.timeout(ANSWER_WITHIN).build(self.client.clone())
        });
        let there = ask(&context, &site.stream()).await.ok().and_then(|info| info.state);
        let seq = source.map_or(0, |source| source.seq);
        let behind = there.as_ref().map(|state| state.last_seq.saturating_sub(seq));
        Ok(SiteLook { silence, behind, answers: there.is_some() })
    }

    /// Sets the source of a copy up anew: the server then asks the site at once for what follows the last
    /// event that it has. Nothing is lost or copied twice.
    pub async fn renew_copy(&self, site: &Site) -> Result<(), async_nats::Error> {
        let wanted = config(site, &self.keep);
        self.context.update_stream(Config { sources: None, ..wanted.clone() }).await?;
        self.context.update_stream(wanted).await?;
        Ok(())
    }
}

async fn ask(context: &JetStream, stream: &str) -> Result<Info, async_nats::Error> {
    Ok(context.request(format!("STREAM.INFO.{stream}"), &()).await?)
}
