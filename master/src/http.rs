//! HTTP of a master: the page for operators, and metrics and health for programs. Only reads, unless a request shows the
//! token; then it asks for changes as clients of NATS do, by [`Present`]. Never needs more than a bounded part of the
//! master.

mod api;
mod feed;
mod files;
mod health;
mod log;
mod token;
mod view;

use crate::{
    api::{ApiRefusal, Present},
    changes::Changes,
    config::Config,
    inbox::Input,
    metrics::Metrics,
};
use bytes::Bytes;
use feed::{Feed, Page};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming, header::HeaderName};
use log::Log;
use muster_protocol::{
    TaskId,
    api::{Endpoint, ErrorCode},
    fleet::Fleet,
    role::{Rights, Role},
};
use muster_wire::http::{
    HttpService, Listener, Watched,
    answer::{self, Answer},
    host,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// How long the master's loop may take to answer before the master counts as not healthy.
const LOOP_WITHIN: Duration = Duration::from_secs(2);

/// Logs that are followed at once.
const LOGS_MAX: usize = 32;

/// The id of the last event that a page has, when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What HTTP has of the process.
pub(crate) struct Parts {
    pub metrics: Metrics,
    pub changes: Changes,
    pub present: Present,
    pub inbox: mpsc::Sender<Input>,
    pub identity: Identity,
}

/// Which master a page shows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Identity {
    pub fleet: String,
    pub master: String,
    pub version: &'static str,
}

/// What all requests share.
struct Shared {
    metrics: Metrics,
    changes: Changes,
    present: Present,
    inbox: mpsc::Sender<Input>,
    identity: Identity,
    token: Option<token::Token>,
    feed: Feed,
    logs: Arc<Semaphore>,
}

/// What an event stream is made of.
trait Events: Send + 'static {
    /// The next events, as they are sent; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// Sends events as they come. A connection that reads nothing for a while is cut off.
fn stream(events: impl Events, watched: &Arc<Watched>) -> Answer {
    let begun = (events, watched.begin());
    answer::events(futures::stream::unfold(begun, |(mut events, watched)| async move {
        watched.asked();
        let text = events.next().await?;
        Some((text, (events, watched)))
    }))
}

/// The last event that a page had, when it comes back.
fn last_event(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok())
}

/// A listener for HTTP.
pub(crate) struct Server {
    listener: Listener,
    token: Option<token::Token>,
}

impl Server {
    /// Listens, so that a wrong option is an error at the start. `None` if HTTP is not asked for.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(address) = config.http else { return Ok(None) };
        let token = config.http_token_file.as_deref().map(token::Token::read).transpose()?;
        let listener = Listener::open(address, &config.http_options)?;
        let address = listener.address()?;
        tracing::info!(%address, changes = token.is_some(), "HTTP is served");
        Ok(Some(Server { listener, token }))
    }

    /// Serves until the process ends.
    pub(crate) fn serve(self, parts: Parts) -> anyhow::Result<()> {
        let Server { listener, token } = self;
        let Parts { metrics, changes, present, inbox, identity } = parts;
        let logs = Arc::new(Semaphore::new(LOGS_MAX));
        let feed = Feed::default();
        let shared = Shared { metrics, changes, present, inbox, identity, token, feed, logs };
        listener.serve(Arc::new(shared))
    }
}

impl HttpService for Shared {
    async fn answer(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        watched: &Arc<Watched>,
    ) -> Answer {
        let headers = request.headers();
        let path = request.uri().path();
        let is_of_page = path == "/events" || path.starts_with("/api/");
        if is_of_page && host::is_from_elsewhere(headers) {
            let error = "Another site may not ask this.";
            return answer::failure(StatusCode::FORBIDDEN, error, None);
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            _ if path.starts_with("/api/") => self.api(request, watched).await,
            _ if !reads => answer::only_get(),
            "/metrics" => self.metrics().await,
            "/healthz" => self.health().await,
            "/readyz" => self.readiness().await,
            "/events" => self.events(headers, watched).await,
            _ => files::answer(path),
        }
    }
}

impl Shared {
    /// The snapshot and the changes of the fleet.
    async fn events(self: &Arc<Self>, headers: &HeaderMap, watched: &Arc<Watched>) -> Answer {
        match Page::open(self.clone(), last_event(headers)).await {
            Ok(page) => stream(page, watched),
            Err(closed) => {
                answer::failure(StatusCode::SERVICE_UNAVAILABLE, &closed.to_string(), None)
            }
        }
    }

    /// The log of a task.
    fn log(self: &Arc<Self>, task: TaskId, headers: &HeaderMap, watched: &Arc<Watched>) -> Answer {
        let Ok(place) = self.logs.clone().try_acquire_owned() else {
            let error = format!("{LOGS_MAX} logs are followed already.");
            return answer::failure(StatusCode::SERVICE_UNAVAILABLE, &error, None);
        };
        stream(Log::new(self.clone(), task, last_event(headers), place), watched)
    }

    /// Asks the API for something that everybody may read.
    async fn ask<T: DeserializeOwned>(
        &self,
        endpoint: Endpoint,
        request: muster_protocol::api::Request,
    ) -> Result<T, ApiRefusal> {
        let mut caller = token::caller(None, &HeaderMap::new());
        caller.rights = Rights::everywhere(Role::Read);
        let answer: Bytes = self.present.ask(endpoint, request, &caller).await?;
        let unreadable = |error: serde_json::Error| ApiRefusal {
            code: ErrorCode::Unavailable,
            sentence: error.to_string(),
        };
        serde_json::from_slice(&answer).map_err(unreadable)
    }

    /// Runs `look` on the loop. `None` if the loop does not answer.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Fleet) -> T + Send + Sync + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |fleet: &Fleet, _: &_| {
            let _ = reply.send(look(fleet));
        });
        let asked = async {
            self.inbox.send(Input::Look(look)).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(LOOP_WITHIN, asked).await.ok().flatten()
    }
}
