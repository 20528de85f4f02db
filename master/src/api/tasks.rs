//! The endpoints about tasks. Never stores a task of a submission before all of its tasks are checked.

use super::{ANSWER_BYTES_MAX, ApiRefusal, ApiResult, ApiServer, size};
use crate::inbox::Input;
use muster_protocol::{
    TaskId,
    api::{ErrorCode, ListPlace, ListTasks, NewTask, Submit, Submitted, TaskIds, TaskView, Tasks},
    fleet,
    message::ObjectStore,
    role::{Rights, Role},
    task::{Data, TaskRecord, TaskSpec},
};
use muster_wire::clock;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Tasks in a list: the default, and the most that a request may ask for.
const LIST_DEFAULT: u64 = 50;
const LIST_MAX: u64 = 1_000;

impl ApiServer {
    pub(super) async fn submit(&self, mut submit: Submit) -> ApiResult<Submitted> {
        for task in &mut submit.tasks {
            self.must_have(ObjectStore::Modules, task.spec.module.digest, None).await?;
            let permitted = match self.must_be_named(&task.spec.module).await {
                Ok(signature) => {
                    if let (Some(signature), None) = (signature, &task.spec.signature) {
                        Arc::make_mut(&mut task.spec).signature = Some(signature);
                    }
                    self.must_be_signed(&task.spec).await
                }
                Err(refusal) => Err(refusal),
            };
            // A submission may be repeated after its module was removed, or its group demands more.
            if let Err(refusal) = permitted
                && self.record(task.id).await?.is_none()
            {
                return Err(refusal);
            }
            if let Data::Blob { digest, size } = task.spec.input {
                self.must_have(ObjectStore::Data, digest, Some(size)).await?;
            }
        }
        self.must_be_granted(&submit.tasks).await?;
        let (reply, answer) = oneshot::channel();
        self.tell(Input::Submit { tasks: submit.tasks, reply }).await?;
        match answer.await {
            Ok(fleet::ClientReply::Stored(stored)) => Ok(Submitted { stored }),
            Ok(fleet::ClientReply::Differs(id, what)) => Err(ApiRefusal::new(
                ErrorCode::Conflict,
                format!("there is a task {id} already, and its {what} differs from this one's"),
            )),
            Ok(fleet::ClientReply::Unavailable(reason)) => Err(ApiRefusal::unavailable(reason)),
            Ok(_) | Err(_) => Err(ApiRefusal::new(
                ErrorCode::Unknown,
                "the master stops; submit again with the same ids",
            )),
        }
    }

    /// Refuses tasks whose module or requested grants no otherwise fitting worker allows. A task that was
    /// accepted is not refused later: it waits, and its explanation names what is missing.
    async fn must_be_granted(&self, tasks: &[NewTask]) -> ApiResult<()> {
        let mut specs: Vec<_> = tasks.iter().map(|task| task.spec.clone()).collect();
        // The tasks of a submission mostly differ in their input alone.
        specs.dedup_by(|spec, last| is_granted_as(spec, last));
        let denied = self.look(move |fleet, _| specs.iter().find_map(|spec| fleet.denied(spec)));
        match denied.await? {
            Some(denied) => Err(ApiRefusal::bad(denied)),
            None => Ok(()),
        }
    }

    pub(super) async fn get(&self, asked: TaskIds, rights: &Rights) -> ApiResult<Tasks> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for id in asked.ids {
            // The client asks again for what does not fit one answer.
            if bytes > ANSWER_BYTES_MAX {
                break;
            }
            if let Some(record) = self.record(id).await? {
                rights.demand(Role::Read, record.spec.group.as_str())?;
                bytes += size(&*record);
                records.push(record);
            }
        }
        self.view(records).await
    }

    pub(super) async fn list(&self, asked: ListTasks) -> ApiResult<Tasks> {
        let limit =
            if asked.limit == 0 { LIST_DEFAULT } else { asked.limit.min(LIST_MAX) } as usize;
        let (before, due_before, admits_ended) =
            (asked.before, asked.due_before, asked.admits_ended());
        let wanted = move |record: &TaskRecord| {
            before.is_none_or(|before| ListPlace::of(record) < before)
                && asked.state.as_ref().is_none_or(|state| record.state.word() == state)
                && due_before.is_none_or(|before| record.due().is_some_and(|due| due.0 < before.0))
                && asked.group.as_ref().is_none_or(|group| record.spec.group.as_str() == group)
        };
        let open = wanted.clone();
        // One more than requested, to know whether there are more.
        let mut records = self.look(move |fleet, _| fleet.tasks(limit + 1, open)).await?;
        // If their size cuts them, `view` cuts before the last of them.
        let (finished, is_cut) = match admits_ended {
            true => self.registry.recent(limit + 1, ANSWER_BYTES_MAX, wanted).await,
            false => (Vec::new(), false),
        };
        records.extend(finished.into_iter().map(Arc::new));
        // A task may have ended between the two reads. Its finished record is sorted first, and the
        // other one is removed.
        records.sort_by_key(|record| std::cmp::Reverse((ListPlace::of(record), record.is_done())));
        records.dedup_by_key(|record| record.id);
        let is_more = records.len() > limit;
        records.truncate(limit);
        let asked = records.len();
        let mut list = self.view(records).await?;
        if is_more || list.tasks.len() < asked {
            list.more = list.tasks.last().map(|task| ListPlace::of(&task.record));
        }
        Ok(Tasks { is_cut, ..list })
    }

    pub(super) async fn cancel(&self, asked: TaskIds, rights: &Rights) -> ApiResult<Tasks> {
        // All before the first is cancelled, so that a refusal has no effect.
        let mut found = Vec::new();
        for id in asked.ids {
            let Some(record) = self.record(id).await? else {
                return Err(ApiRefusal::new(ErrorCode::NotFound, format!("there is no task {id}")));
            };
            rights.demand(Role::Submit, record.spec.group.as_str())?;
            found.push((id, record.is_done()));
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (id, is_done) in found {
            if !is_done {
                let (reply, answer) = oneshot::channel();
                self.tell(Input::Cancel { task: id, reply }).await?;
                if let Ok(fleet::ClientReply::Unavailable(reason)) = answer.await {
                    return Err(ApiRefusal::unavailable(reason));
                }
            }
            // The client asks again for what does not fit one answer.
            if bytes <= ANSWER_BYTES_MAX
                && let Some(record) = self.record(id).await?
            {
                bytes += size(&*record);
                records.push(record);
            }
        }
        self.view(records).await
    }

    pub(super) async fn record(&self, id: TaskId) -> ApiResult<Option<Arc<TaskRecord>>> {
        let found = self.registry.read_task(id).await.map_err(ApiRefusal::unavailable)?;
        Ok(found.map(|(record, _)| Arc::from(record)))
    }

    async fn view(&self, records: Vec<Arc<TaskRecord>>) -> ApiResult<Tasks> {
        let explained = self
            .look(move |fleet, _| {
                let now = clock::boottime();
                let explain = |record: Arc<TaskRecord>| (fleet.explain(now, &record), record);
                records.into_iter().map(explain).collect::<Vec<_>>()
            })
            .await?;
        // Tasks that do not fit one message are cut off at the end. The client asks again for them.
        let (mut tasks, mut bytes) = (Vec::new(), 0);
        for (why, record) in explained {
            let task = TaskView { record: Arc::unwrap_or_clone(record), why };
            bytes += size(&task) + 1;
            if bytes > ANSWER_BYTES_MAX {
                break;
            }
            tasks.push(task);
        }
        Ok(Tasks { tasks, ..Tasks::default() })
    }
}

/// Whether the same workers may run both.
fn is_granted_as(one: &TaskSpec, other: &TaskSpec) -> bool {
    let part = |spec: &TaskSpec| (spec.module.digest, spec.group.clone(), spec.limits.memory_bytes);
    part(one) == part(other)
        && one.signature == other.signature
        && one.selector == other.selector
        && one.grants == other.grants
}
