//! What a page asks for besides the events: tasks, modules, and changes. Every question is a request of the client API,
//! and the audit has every change. Never decides what a caller may do.

use super::{Shared, token};
use crate::{api::ApiRefusal, changes::TaskRow};
use hyper::{Method, Request as HttpRequest, StatusCode, body::Incoming};
use muster_protocol::{
    TaskId, WorkerId,
    api::{
        Caller, CommandWorker, Endpoint, ErrorCode, ListAfter, ListPlace, ListTasks, ModuleEntry,
        Modules, Request, TaskIds, Tasks,
    },
    message::WorkerCommand,
    task::{TaskRecord, TimelineEvent},
};
use muster_wire::http::{
    Watched,
    answer::{self, Answer},
};
use serde::Serialize;
use std::{sync::Arc, time::Duration};

/// How long a worker that a page drains waits for its runs, as the command does by default.
const DRAIN: Duration = Duration::from_secs(60);

/// Parts of the list of modules that are read. Each is as large as a message of NATS.
const MODULE_PARTS_MAX: usize = 8;

#[derive(Serialize)]
struct Itself {
    may_change: bool,
}

#[derive(Serialize)]
struct TaskList {
    tasks: Vec<TaskRow>,
    /// Where the list goes on.
    more: Option<String>,
}

#[derive(Serialize)]
struct TaskDetail {
    task: TaskRow,
    record: TaskRecord,
    timeline: Vec<TimelineEvent>,
}

#[derive(Serialize)]
struct ModuleList {
    modules: Vec<ModuleEntry>,
}

/// Something that a page has asked for is not there, or makes no sense.
fn refuse(code: ErrorCode, sentence: &str) -> ApiRefusal {
    ApiRefusal { code, sentence: sentence.into() }
}

impl Shared {
    pub(super) async fn api(
        self: &Arc<Self>,
        request: &HttpRequest<Incoming>,
        watched: &Arc<Watched>,
    ) -> Answer {
        let (headers, uri) = (request.headers(), request.uri());
        let caller = token::caller(self.token.as_ref(), headers);
        let parts: Vec<&str> = uri.path().split('/').skip(2).collect();
        let answered = match (request.method(), &parts[..]) {
            (&Method::GET, ["self"]) => {
                Ok(answer::json(&Itself { may_change: token::may_change(&caller) }))
            }
            (&Method::GET, ["modules"]) => self.modules().await,
            (&Method::GET, ["tasks"]) => self.tasks(uri.query().unwrap_or_default()).await,
            (&Method::GET, ["task", id]) => self.task(id).await,
            (&Method::GET, ["task", id, "log"]) => match self.record(id).await {
                Ok((record, _)) => Ok(self.log(record.id, headers, watched)),
                Err(refusal) => Err(refusal),
            },
            (&Method::POST, ["task", id, "cancel"]) => self.cancel(id, &caller).await,
            (&Method::POST, ["worker", name, command]) => {
                self.command(name, command, &caller).await
            }
            _ => Err(refuse(ErrorCode::NotFound, "there is no such question")),
        };
        answered.unwrap_or_else(|refusal| self.refusal(&refusal))
    }

    /// An error of the API as a sentence, and what to do about it.
    fn refusal(&self, refusal: &ApiRefusal) -> Answer {
        let status = StatusCode::from_u16(refusal.code as u16);
        let hint = match refusal.code {
            ErrorCode::Forbidden if self.token.is_none() => {
                Some("This master only shows: it was started without --http-token-file.")
            }
            ErrorCode::Forbidden => Some("Enter the token of the master."),
            ErrorCode::Unavailable => Some("Try again in a moment."),
            _ => None,
        };
        answer::failure(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            &sentence(&refusal.sentence),
            hint,
        )
    }

    async fn modules(&self) -> Result<Answer, ApiRefusal> {
        let (mut modules, mut after) = (Vec::new(), None);
        for _ in 0..MODULE_PARTS_MAX {
            let asked = Request::Modules(ListAfter { after });
            let part: Modules = self.ask(Endpoint::ModuleList, asked).await?;
            modules.extend(part.modules);
            after = part.more;
            if after.is_none() {
                break;
            }
        }
        Ok(answer::json(&ModuleList { modules }))
    }

    async fn tasks(&self, query: &str) -> Result<Answer, ApiRefusal> {
        let list =
            list_of(query).ok_or_else(|| refuse(ErrorCode::BadRequest, "the query is wrong"))?;
        let list: Tasks = self.ask(Endpoint::TaskList, Request::List(list)).await?;
        let tasks = list.tasks.into_iter().map(|view| TaskRow::of(&view.record, view.why));
        let more = list.more.map(|place| format!("{}-{}", place.submitted_ms, place.id));
        Ok(answer::json(&TaskList { tasks: tasks.collect(), more }))
    }

    async fn record(&self, id: &str) -> Result<(TaskRecord, String), ApiRefusal> {
        let missing =
            || refuse(ErrorCode::NotFound, "no task has this id; its record may have expired");
        let id: TaskId = id.parse().map_err(|_| missing())?;
        let asked = Request::Get(TaskIds { ids: vec![id] });
        let tasks: Tasks = self.ask(Endpoint::TaskGet, asked).await?;
        let view = tasks.tasks.into_iter().next().ok_or_else(missing)?;
        Ok((view.record, view.why))
    }

    async fn task(&self, id: &str) -> Result<Answer, ApiRefusal> {
        let (record, why) = self.record(id).await?;
        let (task, timeline) = (TaskRow::of(&record, why), record.timeline());
        Ok(answer::json(&TaskDetail { task, record, timeline }))
    }

    async fn cancel(&self, id: &str, caller: &Caller) -> Result<Answer, ApiRefusal> {
        let id = id.parse().map_err(|_| refuse(ErrorCode::NotFound, "no task has this id"))?;
        let asked = Request::Cancel(TaskIds { ids: vec![id] });
        self.present.ask(Endpoint::TaskCancel, asked, caller).await?;
        Ok(answer::done())
    }

    async fn command(
        &self,
        name: &str,
        command: &str,
        caller: &Caller,
    ) -> Result<Answer, ApiRefusal> {
        let order = match command {
            "cordon" => WorkerCommand::Cordon,
            "uncordon" => WorkerCommand::Uncordon,
            "drain" => WorkerCommand::Drain { deadline_ms: DRAIN.as_millis() as u64 },
            _ => return Err(refuse(ErrorCode::NotFound, "there is no such command")),
        };
        let worker: Result<WorkerId, _> = name.parse();
        let worker = worker.map_err(|_| refuse(ErrorCode::NotFound, "no worker has this name"))?;
        let asked = Request::Order(CommandWorker { worker, order });
        self.present.ask(Endpoint::WorkerOrder, asked, caller).await?;
        Ok(answer::done())
    }
}

/// Reads the query of a list. Names of groups and states need no escapes.
fn list_of(query: &str) -> Option<ListTasks> {
    let mut list = ListTasks::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=')?;
        match key {
            "state" => list.state = Some(value.into()),
            "group" => list.group = Some(value.into()),
            "limit" => list.limit = value.parse().ok()?,
            "before" => {
                let (submitted_ms, id) = value.split_once('-')?;
                let (submitted_ms, id) = (submitted_ms.parse().ok()?, id.parse().ok()?);
                list.before = Some(ListPlace { submitted_ms, id });
            }
            _ => return None,
        }
    }
    Some(list)
}

/// The API's words as a sentence for people.
fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if words.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_what_to_list() {
        let id: TaskId = TaskId(5);
        let query = format!("limit=500&state=queued&group=edge-eu&before=12-{id}");
        let want = ListTasks {
            state: Some("queued".into()),
            group: Some("edge-eu".into()),
            limit: 500,
            before: Some(ListPlace { submitted_ms: 12, id }),
            due_before: None,
        };
        assert_eq!(list_of(&query), Some(want));
        assert_eq!(list_of(""), Some(ListTasks::default()));
        for wrong in ["limit=x", "limit", "before=12", "before=x-y", "other=1"] {
            assert_eq!(list_of(wrong), None, "{wrong}");
        }
        assert_eq!(sentence("there is no task x"), "There is no task x.");
        assert_eq!(sentence(""), ".");
    }
}
