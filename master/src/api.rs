//! The client API, as a NATS service that `nats service ls` shows. Checks every request before anything
//! is stored. Never answers that a task is stored before it is.

mod access;
mod bulk;
mod groups;
mod modules;
mod present;
mod secrets;
mod tasks;
mod upgrades;
mod users;

pub(crate) use present::Present;

use crate::{
    audit::Audit,
    config::Config,
    enrol::Registrar,
    groups::Groups,
    inbox::{Input, Known},
    registry::{ChangeError, Registry},
    users::Users,
};
use async_nats::service::{self, Service, ServiceExt};
use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::{
    Digest, WorkerId,
    api::{
        Caller, CommandWorker, Endpoint, ErrorCode, ListAfter, Masters, Request, UpgradeView,
        Workers,
    },
    audit::{Decision, Outcome},
    fleet::{self, Fleet},
    message::ObjectStore,
    role::{Forbidden, Rights, Role},
    signature::Signature,
    subject::{Names, SERVICE, is_inbox},
};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

/// Requests of one endpoint in work at once. Further requests wait in NATS.
const REQUESTS_MAX: usize = 64;

/// How long a worker may take to carry out a command: it does so with its next renewal, or at once.
const OBEY_WITHIN: Duration = Duration::from_secs(5);

/// Digests known to be in a store. A full set is cleared and filled again.
const KNOWN_MAX: usize = 16 * 1024;

/// Objects that this master holds as a whole for clients at once: at most 64 MiB each.
const WHOLE_OBJECTS_MAX: usize = 4;

/// The most bytes of an answer: NATS' default limit, less the headers.
const ANSWER_BYTES_MAX: usize = 1_000_000;

/// An error answer to a client.
pub(crate) struct ApiRefusal {
    pub code: ErrorCode,
    pub sentence: String,
}

impl ApiRefusal {
    fn new(code: ErrorCode, sentence: impl Into<String>) -> Self {
        ApiRefusal { code, sentence: sentence.into() }
    }

    fn bad(sentence: impl Into<String>) -> Self {
        ApiRefusal::new(ErrorCode::BadRequest, sentence)
    }

    fn unavailable(cause: impl ToString) -> Self {
        ApiRefusal::new(ErrorCode::Unavailable, cause.to_string())
    }
}

impl From<Forbidden> for ApiRefusal {
    fn from(forbidden: Forbidden) -> Self {
        ApiRefusal::new(ErrorCode::Forbidden, forbidden.to_string())
    }
}

impl From<ChangeError> for ApiRefusal {
    fn from(error: ChangeError) -> Self {
        let code = match &error {
            ChangeError::Unread(_) | ChangeError::Contended => ErrorCode::Unavailable,
            ChangeError::Unknown => ErrorCode::Unknown,
        };
        ApiRefusal::new(code, error.to_string())
    }
}

type ApiResult<T> = Result<T, ApiRefusal>;

/// What the API of each session has of the process.
#[derive(Clone)]
pub(crate) struct Served {
    pub names: Arc<Names>,
    pub registrar: Arc<Registrar>,
    pub users: Arc<Users>,
    pub groups: Arc<Groups>,
    pub audit: Audit,
    pub inbox: mpsc::Sender<Input>,
    pub present: Present,
}

/// State shared by all endpoints.
struct ApiServer {
    registry: Registry,
    names: Arc<Names>,
    /// A permit for each object that is held as a whole.
    whole: Semaphore,
    registrar: Arc<Registrar>,
    users: Arc<Users>,
    groups: Arc<Groups>,
    audit: Audit,
    inbox: mpsc::Sender<Input>,
    /// Modules known to be stored.
    known: Mutex<HashSet<Digest>>,
    /// Digests known to have had these names, and their signatures. A name never changes its meaning.
    named: Mutex<HashMap<(String, Digest), Option<Signature>>>,
    /// Whether these keys of groups have made these signatures of modules.
    verified: Mutex<groups::Verified>,
}

/// Begins to answer clients, until the service is stopped.
pub(crate) async fn serve(
    registry: &Registry,
    config: &Config,
    served: Served,
) -> anyhow::Result<Service> {
    let Served { names, registrar, users, groups, audit, inbox, present } = served;
    let metadata = HashMap::from([
        ("fleet".to_string(), names.fleet().to_string()),
        ("master".to_string(), config.name.to_string()),
        ("session".to_string(), registry.session().to_string()),
    ]);
    let service = registry
        .client()
        .service_builder()
        .description("Muster's masters: tasks, workers and modules of a fleet")
        .metadata(metadata)
        .queue_group(SERVICE)
        .start(SERVICE, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(|error| anyhow::anyhow!("the client API cannot be served: {error}"))?;
    let host = Arc::new(ApiServer {
        registry: registry.clone(),
        names: names.clone(),
        whole: Semaphore::new(WHOLE_OBJECTS_MAX),
        registrar,
        users,
        groups,
        audit,
        inbox,
        known: Mutex::default(),
        named: Mutex::default(),
        verified: Mutex::default(),
    });
    let own = Endpoint::ALL.into_iter().map(|endpoint| (endpoint, names.clone()));
    // The events of a site are read from their copy, so that its line is not needed. The site's own masters
    // answer where they are nearer.
    let of_sites = config.sites.iter().map(|site| {
        let names = Names::new(site.fleet.clone());
        (Endpoint::EventRead, Arc::new(names))
    });
    for (endpoint, of) in own.chain(of_sites) {
        let (name, subject) = (endpoint.word(), of.api(endpoint));
        let requests = service
            .endpoint_builder()
            .name(name.replace('.', "-"))
            .add(subject.clone())
            .await
            .map_err(|error| anyhow::anyhow!("{subject} cannot be served: {error}"))?;
        tokio::spawn(answer_all(host.clone(), of, endpoint, requests));
    }
    present.begin(host);
    Ok(service)
}

async fn answer_all(
    host: Arc<ApiServer>,
    of: Arc<Names>,
    endpoint: Endpoint,
    mut requests: service::endpoint::Endpoint,
) {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    while let Some(request) = requests.next().await {
        let reply = request.message.reply.as_deref();
        if !reply.is_some_and(is_inbox) {
            let (endpoint, reply) = (endpoint.word(), reply.unwrap_or_default());
            tracing::warn!(endpoint, reply, "a request without an inbox for its answer; ignored");
            continue;
        }
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (host, of) = (host.clone(), of.clone());
        tokio::spawn(async move {
            let answer = host.take(&of, endpoint, &request.message).await;
            let answer = answer.map_err(|refusal| async_nats::service::error::Error {
                status: refusal.sentence,
                code: refusal.code as usize,
            });
            if let Err(error) = request.respond(answer).await {
                tracing::warn!(endpoint = endpoint.word(), %error, "a client got no answer");
            }
            drop(place);
        });
    }
}

impl ApiServer {
    /// Answers a request to the fleet of these names that came over NATS.
    async fn take(
        &self,
        of: &Names,
        endpoint: Endpoint,
        message: &async_nats::Message,
    ) -> ApiResult<Bytes> {
        let request = Request::read(endpoint, &message.payload);
        let request = request.map_err(|error| ApiRefusal::bad(error.to_string()))?;
        let caller = self.users.caller(message);
        self.ask(of, endpoint, request, &caller).await
    }

    /// Answers a request to the fleet of these names, and notes what was decided.
    async fn ask(
        &self,
        of: &Names,
        endpoint: Endpoint,
        request: Request,
        caller: &Caller,
    ) -> ApiResult<Bytes> {
        let objects = request.objects();
        let answer = match request.demand(&caller.rights) {
            Ok(()) => self.answer(of, request, caller).await,
            Err(forbidden) => Err(forbidden.into()),
        };
        let outcome = outcome(&answer);
        let is_forbidden = matches!(&answer, Err(refusal) if refusal.code == ErrorCode::Forbidden);
        if objects.is_some() || is_forbidden {
            let objects = objects.unwrap_or_default();
            let actor = caller.actor.clone();
            let decision = Decision::new(actor, endpoint.word(), objects, outcome);
            let is_of_tasks = matches!(endpoint, Endpoint::TaskSubmit | Endpoint::TaskCancel);
            match answer.is_ok() && !is_of_tasks {
                true => self.audit.note_now(decision).await,
                false => self.audit.note(decision),
            }
        }
        answer
    }

    /// Answers a request whose user has the roles that the request itself needs.
    async fn answer(&self, of: &Names, request: Request, caller: &Caller) -> ApiResult<Bytes> {
        let rights = &caller.rights;
        match request {
            Request::Submit(asked) => write(&self.submit(asked).await?),
            Request::Get(asked) => write(&self.get(asked, rights).await?),
            Request::List(asked) => write(&self.list(asked).await?),
            Request::Cancel(asked) => write(&self.cancel(asked, rights).await?),
            Request::Workers(ListAfter { after }) => {
                let look = move |fleet: &Fleet, known: &Known| {
                    let mut workers = fleet.workers(after.as_deref());
                    for view in &mut workers {
                        view.upgrade = known.upgrade_of(&view.lease.worker).map(UpgradeView::from);
                    }
                    workers
                };
                let mut workers = self.look(look).await?;
                workers.retain(|view| rights.has(Role::Read, view.lease.offer.group.as_str()));
                let (workers, more) = page(workers, |view| view.lease.worker.to_string());
                write(&Workers { workers, more })
            }
            Request::Order(asked) => write(&self.order(asked, rights).await?),
            Request::SetUpgrade(asked) => write(&self.set_upgrade(asked, caller).await?),
            Request::Invite(asked) => write(&self.invite(asked, rights).await?),
            Request::Members(asked) => write(&self.members(asked, rights).await?),
            Request::Approve(asked) => write(&self.approve(asked, rights).await?),
            Request::Revoke(asked) => write(&self.revoke(asked, caller).await?),
            Request::Users(asked) => write(&self.list_users(asked)?),
            Request::SetUser(asked) => write(&self.set_user(asked, rights).await?),
            Request::ForgetUser(asked) => write(&self.forget_user(asked, rights).await?),
            Request::Who => write(caller),
            Request::SetSecret(asked) => write(&self.set_secret(asked, caller).await?),
            Request::Secrets(asked) => write(&self.list_secrets(asked, rights).await?),
            Request::ForgetSecret(asked) => write(&self.forget_secret(asked, caller).await?),
            Request::Groups(asked) => write(&self.list_groups(asked, rights)),
            Request::Loads(asked) => write(&self.loads(asked, rights).await?),
            Request::SetGroup(asked) => write(&self.set_group(asked).await?),
            Request::Audit(asked) => write(&self.read_audit(asked.from).await?),
            Request::Masters => {
                let masters = self.look(|fleet, _| fleet.masters()).await?;
                write(&Masters { masters })
            }
            Request::Register(asked) => write(&self.register(asked).await?),
            Request::Modules(asked) => write(&self.modules(asked).await?),
            Request::FindModule(asked) => write(&self.find_module(asked).await?),
            Request::Remove(asked) => write(&self.remove(asked).await?),
            Request::Find(asked) => write(&self.find(asked).await?),
            Request::Put(asked) => write(&self.put(asked).await?),
            Request::Fetch(asked) => write(&self.fetch(asked).await?),
            Request::Events(asked) => write(&self.read_events(of, asked.from, rights).await?),
            Request::Logs(asked) => write(&self.read_logs(asked, rights).await?),
        }
    }

    /// Passes a command on to a worker, and waits until the worker's lease shows that it was carried
    /// out.
    async fn order(&self, asked: CommandWorker, rights: &Rights) -> ApiResult<serde_json::Value> {
        let CommandWorker { worker, order } = asked;
        self.must_have_role(rights, Role::Operate, &worker).await?;
        let (reply, answer) = oneshot::channel();
        self.tell(Input::Order { worker: worker.clone(), order, reply }).await?;
        match tokio::time::timeout(OBEY_WITHIN, answer).await {
            Ok(Ok(fleet::ClientReply::Obeyed)) => Ok(serde_json::json!({})),
            Ok(Ok(fleet::ClientReply::Unavailable(reason))) => Err(ApiRefusal::unavailable(reason)),
            Ok(Ok(_) | Err(_)) => Err(ApiRefusal::unavailable("the master stops")),
            Err(_) => Err(ApiRefusal::unavailable(format!(
                "worker {worker} was sent the command, and has not carried it out within {OBEY_WITHIN:?}"
            ))),
        }
    }

    /// Demands a role in the group of a worker; in every group, if the worker is not known.
    async fn must_have_role(
        &self,
        rights: &Rights,
        needs: Role,
        worker: &WorkerId,
    ) -> ApiResult<()> {
        if rights.demand_everywhere(needs).is_ok() {
            return Ok(());
        }
        let asked = worker.clone();
        let lease = self.look(move |fleet, _| fleet.lease_of(&asked)).await?;
        match lease {
            Some(lease) => rights.demand(needs, lease.offer.group.as_str())?,
            None => rights.demand_everywhere(needs)?,
        }
        Ok(())
    }

    /// Waits until this master may hold another object as a whole.
    async fn whole_object(&self) -> ApiResult<SemaphorePermit<'_>> {
        self.whole.acquire().await.map_err(ApiRefusal::unavailable)
    }

    /// Runs `look` on the loop, with the loop's state.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Fleet, &Known) -> T + Send + Sync + 'static,
    ) -> ApiResult<T> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |fleet: &Fleet, known: &Known| {
            let _ = reply.send(look(fleet, known));
        });
        self.tell(Input::Look(look)).await?;
        answer.await.map_err(|_| ApiRefusal::unavailable("the master stops"))
    }

    async fn tell(&self, input: Input) -> ApiResult<()> {
        self.inbox.send(input).await.map_err(|_| ApiRefusal::unavailable("the master stops"))
    }

    /// Refuses a digest that is not stored, or an object of another size.
    async fn must_have(
        &self,
        store: ObjectStore,
        digest: Digest,
        size: Option<u64>,
    ) -> ApiResult<()> {
        // Inputs expire, so only modules are cached.
        if store == ObjectStore::Modules
            && self.known.lock().is_ok_and(|known| known.contains(&digest))
        {
            return Ok(());
        }
        let found = match store {
            ObjectStore::Modules => self.registry.object_size(store, digest).await,
            // An input that is stored already may expire soon, but the task that names it is new.
            ObjectStore::Data => self.registry.renew(digest).await,
        };
        match found {
            Ok(Some(found)) if size.is_none_or(|size| size == found) => {}
            Ok(Some(found)) => {
                return Err(ApiRefusal::bad(format!(
                    "the object {digest} has {found} bytes, not {}",
                    size.unwrap_or_default()
                )));
            }
            Ok(None) if store == ObjectStore::Modules => {
                let sentence =
                    format!("there is no module {digest}; push it with `muster module push`");
                return Err(ApiRefusal::new(ErrorCode::NotFound, sentence));
            }
            Ok(None) => {
                return Err(ApiRefusal::bad(format!(
                    "the object {digest} is not in the data store"
                )));
            }
            Err(error) => return Err(ApiRefusal::unavailable(error)),
        }
        if store == ObjectStore::Modules
            && let Ok(mut known) = self.known.lock()
        {
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(digest);
        }
        Ok(())
    }
}

/// What the audit says of an answer.
fn outcome<T>(answer: &ApiResult<T>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Done,
        Err(ApiRefusal { code, sentence }) => match code {
            ErrorCode::BadRequest
            | ErrorCode::Forbidden
            | ErrorCode::NotFound
            | ErrorCode::Conflict => Outcome::Refused(sentence.clone()),
            ErrorCode::Unknown | ErrorCode::Unavailable => Outcome::Failed(sentence.clone()),
        },
    }
}

/// The size of a value as JSON, in bytes.
fn size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

/// The first of these items, as many as fit one answer; and the name of the last of them, if others
/// follow. At least one, since none is larger than an answer.
fn page<T: Serialize>(items: Vec<T>, name: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for item in items {
        bytes += size(&item) + 1;
        if bytes > ANSWER_BYTES_MAX && !shown.is_empty() {
            let more = shown.last().map(name);
            return (shown, more);
        }
        shown.push(item);
    }
    (shown, None)
}

fn write<T: Serialize>(answer: &T) -> ApiResult<Bytes> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(ApiRefusal::unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_an_answer_is_full_and_says_where_the_next_begins() {
        let items: Vec<String> = ["a", "b", "c"].map(|name| name.repeat(400_000)).into();
        let name = |item: &String| item[..1].to_string();
        let (first, more) = page(items.clone(), name);
        assert_eq!((first.len(), more.as_deref()), (2, Some("b")));
        let rest = items.into_iter().filter(|item| Some(name(item)) > more).collect();
        let (last, more) = page(rest, name);
        assert_eq!((last.len(), more), (1, None));
        assert_eq!(page(vec!["x".repeat(2_000_000)], name).0.len(), 1, "it goes on in any case");
        assert_eq!(page(Vec::new(), name), (Vec::new(), None));
    }
}
