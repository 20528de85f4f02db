//! The client of the API: connects to a fleet's masters, sends requests, and retries. Never decides what
//! to request, and never prints an answer.

mod hints;

use crate::{exit::Failure, ids::Token};
use anyhow::Context as _;
use async_nats::{Event, RequestErrorKind};
use clap::Args;
use hints::Hints;
use muster_protocol::{
    GroupName, TaskId,
    api::{self, AskLoads, Endpoint, GroupLoads, ListAfter},
    subject::Names,
};
use muster_wire::nats::{Address, Domain, JetStream, NatsArgs, NatsRefusal, Refusals, Unconnected};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// The longest wait for an answer. Masters answer within milliseconds; this is longer than a failover
/// of the stream leader behind them.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Longest wait for the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long a request or a transfer that may be repeated is retried: as long as masters keep workers
/// alive without NATS.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// The wait before the second try; doubled for each further one, up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How many ids one `task.get` may have. A view is up to about 50 KB (inline input and output,
/// escaped), and an answer may have 1 MiB.
const GET_IDS_MAX: usize = 16;

/// The heading in `--help` of the options that every command takes.
pub const HEADING: &str = "Global options";

/// What the server has refused on this command's connection.
static REFUSALS: LazyLock<Refusals> = LazyLock::new(Refusals::default);

/// Waits until the server refuses something to this command. The refused request is never answered.
pub async fn refused() -> Failure {
    let refusal = REFUSALS.any().await;
    Failure::user(refusal.to_string()).hint(refusal.advice())
}

/// The server's latest refusal.
pub fn last_refused() -> Option<NatsRefusal> {
    REFUSALS.last()
}

/// The NATS servers to connect to, and the fleet.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ConnectArgs {
    #[command(flatten)]
    nats: NatsArgs,
    /// The fleet
    #[arg(
        help_heading = HEADING,
        long,
        value_name = "NAME",
        env = "MUSTER_FLEET",
        default_value = "default",
        global = true
    )]
    pub fleet: GroupName,
}

/// A connection to a fleet.
#[derive(Clone)]
pub struct Client {
    /// The NATS client.
    pub nats: async_nats::Client,
    /// JetStream.
    pub jetstream: JetStream,
    /// The names of the fleet.
    pub names: Names,
    /// Counts connections: changes whenever messages may have been missed.
    pub connections: watch::Receiver<u64>,
    /// Whether a master has ever answered: then silence means a failover, not a fleet without masters.
    answered: Arc<AtomicBool>,
    /// Whether this user may hear what masters publish. Otherwise only requests tell what happens.
    pub hints: Hints,
}

/// Why an operation failed.
pub enum TryError {
    /// It may succeed when it is retried.
    Passing(anyhow::Error),
    /// It would fail again in the same way.
    Lasting(anyhow::Error),
}

/// Retries an operation that may be repeated, until it succeeds, fails for good, or [`AGAIN_WITHIN`] is
/// over.
pub async fn persist<T, F>(attempt: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, TryError>>,
{
    let until = tokio::time::Instant::now() + AGAIN_WITHIN;
    let mut wait = BACKOFF;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(TryError::Lasting(error)) => return Err(error),
            Err(TryError::Passing(error)) if tokio::time::Instant::now() + wait > until => {
                return Err(error);
            }
            Err(TryError::Passing(_)) => tokio::time::sleep(wait).await,
        }
        wait = (wait * 2).min(BACKOFF_MAX);
    }
}

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
enum Refused {
    /// No master serves the subject. Nothing was done.
    Nobody,
    /// It is not known whether it was carried out.
    Unknown(String),
    /// It is larger than the server accepts. Nothing was done.
    TooLarge(String),
    /// A master refused it.
    Said(u16, String),
    /// It could not be sent, or its answer could not be read.
    Broken(anyhow::Error),
}

impl Client {
    /// Connects. A server that cannot be reached is the user's error.
    pub async fn connect(connect: &ConnectArgs) -> anyhow::Result<Self> {
        let (count, connections) = watch::channel(0u64);
        let hints = Hints::default();
        let of_hints = hints.clone();
        let heard = move |event: &Event| {
            if !of_hints.hear(event) {
                REFUSALS.hear(event);
            }
            if matches!(event, Event::Connected) {
                count.send_modify(|count| *count += 1);
            }
        };
        let (nats, domain) = dial(connect, "muster", heard).await?;
        let jetstream = JetStream::new(nats.clone(), domain);
        Ok(Client {
            jetstream,
            nats,
            names: Names::new(connect.fleet.clone()),
            connections,
            answered: Arc::default(),
            hints,
        })
    }

    /// Sends a request once.
    pub async fn ask<A: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        question: &impl Serialize,
    ) -> anyhow::Result<A> {
        let body = serde_json::to_vec(question).context("a question is always JSON")?;
        self.ask_raw(endpoint, body.into()).await.map_err(|refused| self.explain(refused))
    }

    /// Sends a request until it is answered. For requests that may be repeated.
    pub async fn insist<A: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        question: &impl Serialize,
    ) -> anyhow::Result<A> {
        persist(|| self.attempt(endpoint, question)).await
    }

    /// Sends a request once, and says of a failure whether it may pass.
    pub async fn attempt<A: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        question: &impl Serialize,
    ) -> Result<A, TryError> {
        let body = serde_json::to_vec(question).context("a question is always JSON");
        let body = body.map_err(TryError::Lasting)?;
        self.ask_raw(endpoint, body.into()).await.map_err(|refused| self.judge(refused))
    }

    /// Like [`insist`](Client::insist), for an endpoint that masters of an earlier version do not have. `None` if
    /// no master serves it.
    pub async fn insist_if_served<A: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        question: &impl Serialize,
    ) -> anyhow::Result<Option<A>> {
        let body = serde_json::to_vec(question).context("a question is always JSON")?;
        let body = bytes::Bytes::from(body);
        persist(|| async {
            match self.ask_raw(endpoint, body.clone()).await {
                Ok(answer) => Ok(Some(answer)),
                Err(Refused::Nobody) => Ok(None),
                Err(refused) => Err(self.judge(refused)),
            }
        })
        .await
    }

    /// Whether a failure may pass.
    fn judge(&self, refused: Refused) -> TryError {
        let is_passing = match &refused {
            Refused::Unknown(_) => true,
            Refused::Nobody => self.answered.load(Ordering::Relaxed),
            Refused::Said(code, _) => *code >= api::ErrorCode::Unknown as u16,
            Refused::TooLarge(_) | Refused::Broken(_) => false,
        };
        let error = self.explain(refused);
        if is_passing { TryError::Passing(error) } else { TryError::Lasting(error) }
    }

    async fn ask_raw<A: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        body: bytes::Bytes,
    ) -> Result<A, Refused> {
        let request = async_nats::Request::new().payload(body).timeout(Some(ANSWER_WITHIN));
        let answer = self.nats.send_request(self.names.api(endpoint), request).await;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Refused::Nobody,
            RequestErrorKind::TimedOut => Refused::Unknown(format!(
                "no answer to {} within {} s",
                endpoint.word(),
                ANSWER_WITHIN.as_secs()
            )),
            RequestErrorKind::MaxPayloadExceeded => Refused::TooLarge(error.to_string()),
            _ => Refused::Broken(error.into()),
        })?;
        self.answered.store(true, Ordering::Relaxed);
        if let Some(headers) = &answer.headers
            && let Some(code) = headers.get(async_nats::service::NATS_SERVICE_ERROR_CODE)
        {
            let text = headers.get(async_nats::service::NATS_SERVICE_ERROR);
            let text = text.map_or_else(|| "no reason given".into(), ToString::to_string);
            return Err(Refused::Said(code.as_str().parse().unwrap_or(500), text));
        }
        serde_json::from_slice(&answer.payload).map_err(|error| {
            let error = anyhow::Error::new(error);
            Refused::Broken(
                error.context(
                    "a master's answer cannot be read; the master may have another version",
                ),
            )
        })
    }

    fn explain(&self, refused: Refused) -> anyhow::Error {
        match refused {
            Refused::Nobody => {
                Failure::new(format!("no master answers for fleet {}", self.names.fleet()))
                    .hint(
                        "start one with `muster master` or `muster dev`, or see `muster check`; if the fleet \
                         is at a site, see whether its leaf node is connected",
                    )
                    .into()
            }
            Refused::Unknown(text) => {
                Failure::new(text).hint("check whether the fleet is well: muster check").into()
            }
            Refused::TooLarge(text) => {
                Failure::user(text).hint(NatsRefusal::Payload.advice()).into()
            }
            Refused::Said(code @ (400 | 404), text) => {
                let failure = Failure::user(text);
                let hint = "tasks are listed by `muster task ls`, modules by `muster module ls`; `muster module push FILE` \
                            makes a module of a file";
                if code == 404 { failure.hint(hint).into() } else { failure.into() }
            }
            Refused::Said(403, text) => Failure::user(text)
                .hint("see your roles: muster user whoami; an admin gives others: muster user set")
                .into(),
            Refused::Said(409, text) => Failure::user(text)
                .hint("choose another --id, or show the existing task with: muster task get ID")
                .into(),
            Refused::Said(500, text) => Failure::new(text)
                .hint("it may or may not have been done; you may repeat the same command")
                .into(),
            Refused::Said(_, text) => Failure::new(text).hint("try again in a moment").into(),
            Refused::Broken(error) => error,
        }
    }

    /// The tasks with these ids; ids without a task are left out. An answer may hold fewer tasks than
    /// were asked for, so the rest is asked for again until nothing more comes.
    pub async fn tasks(&self, ids: &[TaskId]) -> anyhow::Result<Vec<api::TaskView>> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(GET_IDS_MAX) {
            let mut missing = chunk.to_vec();
            while !missing.is_empty() {
                let question = api::TaskIds { ids: missing.clone() };
                let answer: api::Tasks = self.insist(Endpoint::TaskGet, &question).await?;
                if answer.tasks.is_empty() {
                    break;
                }
                missing.retain(|id| answer.tasks.iter().all(|view| view.record.id != *id));
                if missing.len() == question.ids.len() {
                    break;
                }
                found.extend(answer.tasks);
            }
        }
        Ok(found)
    }

    /// The task with this id or token. If there is none, that is the user's error.
    pub async fn task(&self, token: &Token) -> anyhow::Result<api::TaskView> {
        let found = self.tasks(&[token.id(self.names.fleet())]).await?.pop();
        found.ok_or_else(|| {
            Failure::user(format!("there is no task {token}"))
                .hint(
                    "finished tasks are kept for a day at most, and a registry that has lost writes forgets \
                     others; see: muster task ls, muster events",
                )
                .into()
        })
    }
}

/// Another connection of the same user, and what the server refuses on it: at most `refusals_max` are kept.
pub async fn watched(
    connect: &ConnectArgs,
    refusals_max: usize,
) -> anyhow::Result<(async_nats::Client, mpsc::Receiver<NatsRefusal>)> {
    let (tell, told) = mpsc::channel(refusals_max.max(1));
    let heard = move |event: &Event| {
        if let Event::ServerError(error) = event
            && let Some(refusal) = NatsRefusal::of(error)
        {
            // More than what was tried cannot be refused.
            let _ = tell.try_send(refusal);
        }
    };
    let (nats, _) = dial(connect, "muster check", heard).await?;
    Ok((nats, told))
}

/// Connects, and passes each event of the connection to `heard`. Also returns the JetStream domain of the registry.
async fn dial(
    connect: &ConnectArgs,
    name: &str,
    heard: impl Fn(&Event) + Send + Sync + 'static,
) -> anyhow::Result<(async_nats::Client, Option<Domain>)> {
    let access = connect.nats.access_of_person();
    let access = access.map_err(|error| Failure::user(error.to_string()))?;
    let options = access.options(name.into()).connection_timeout(CONNECT_WITHIN);
    let options = options.event_callback(move |event| {
        heard(&event);
        async {}
    });
    let nats = access.connect(options).await;
    let nats = nats.map_err(|error| unreachable(access.address(), &error))?;
    Ok((nats, access.domain()))
}

/// The loads of groups, or of one, and how many tasks wait in groups that the masters do not name. `ask` asks for a part.
pub async fn loads<E, F: Future<Output = Result<GroupLoads, E>>>(
    group: Option<&GroupName>,
    ask: impl Fn(AskLoads) -> F,
) -> Result<GroupLoads, E> {
    let mut all = GroupLoads::default();
    loop {
        let asked = AskLoads { group: group.cloned(), after: all.more.take() };
        let part = ask(asked).await?;
        all.groups.extend(part.groups);
        (all.others_queued, all.more) = (part.others_queued, part.more);
        if all.more.is_none() {
            return Ok(all);
        }
    }
}

/// All items of a list that is answered in pages. `ask` asks for the page after a name, and `split` takes
/// the items of a page, and the name after which the next one begins.
pub async fn pages<P, T, E, F: Future<Output = Result<P, E>>>(
    ask: impl Fn(ListAfter) -> F,
    split: impl Fn(P) -> (Vec<T>, Option<String>),
) -> Result<Vec<T>, E> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (items, more) = split(ask(ListAfter { after }).await?);
        all.extend(items);
        if more.is_none() {
            return Ok(all);
        }
        after = more;
    }
}

fn unreachable(address: &Address, error: &async_nats::ConnectError) -> anyhow::Error {
    let hint = match Unconnected::of(error) {
        Unconnected::Unreachable => {
            "start one with `muster dev`, or name another with --nats URL or MUSTER_NATS"
        }
        other => other.advice(),
    };
    Failure::user(format!("cannot reach NATS at {address}: {error}")).hint(hint).into()
}
