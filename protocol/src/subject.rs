//! Names in NATS: the buckets, subjects and headers of a fleet. The table in ARCHITECTURE.md is
//! generated from here. Never talks to NATS.

use crate::{
    AttemptId, BatchId, GroupName, TaskId,
    words::{rows, words},
};
use alloc::{format, string::String};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The name under which `nats service ls` shows masters.
pub const SERVICE: &str = "muster-master";

/// A header of a task record: its state in one word, so that a reader can skip finished records without
/// parsing them.
pub const STATE_HEADER: &str = "Muster-State";

/// A header of a task record: the session of the master that wrote it, so that the master can skip its
/// own writes.
pub const WRITER_HEADER: &str = "Muster-Writer";

/// The value of [`STATE_HEADER`] on a finished record.
pub const STATE_DONE: &str = "done";

words!(
    /// A key-value bucket of a fleet. Its word is the last part of its name.
    pub enum Bucket {
        /// Leases by worker id.
        Workers = "workers",
        /// Leases of masters by name and session.
        Masters = "masters",
        /// Task records by task id.
        Tasks = "tasks",
        /// Versions and digests by module name.
        Modules = "modules",
        /// The newest checkpoint of each task, by task id.
        Checkpoints = "checkpoints",
        /// Invitations (`invitation.ID`), workers that have joined or are revoked (`member.NAME`), the roles of users
        /// (`user.ID`), the settings of groups (`group.NAME`), and the secrets of workers (`sealed.WORKER.NAME`).
        Access = "access",
    }
);

impl Bucket {
    /// The buckets that masters follow; the others are read on demand.
    pub const FOLLOWED: [Bucket; 5] =
        [Bucket::Workers, Bucket::Masters, Bucket::Tasks, Bucket::Modules, Bucket::Access];
}

words!(
    /// The endpoints. The word of one is the last part of its subject.
    pub enum Endpoint {
        /// [`Submit`](crate::api::Submit) → [`Submitted`](crate::api::Submitted).
        TaskSubmit = "task.submit",
        /// [`TaskIds`](crate::api::TaskIds) → [`Tasks`](crate::api::Tasks).
        TaskGet = "task.get",
        /// [`ListTasks`](crate::api::ListTasks) → [`Tasks`](crate::api::Tasks).
        TaskList = "task.list",
        /// [`TaskIds`](crate::api::TaskIds) → [`Tasks`](crate::api::Tasks).
        TaskCancel = "task.cancel",
        /// [`ListAfter`](crate::api::ListAfter) → [`Workers`](crate::api::Workers), in parts of at most 1 MB.
        WorkerList = "worker.list",
        /// [`CommandWorker`](crate::api::CommandWorker) → `{}`, once the worker's lease says that it has obeyed.
        WorkerOrder = "worker.order",
        /// [`SetUpgrade`](crate::api::SetUpgrade) → the [`Upgrade`](crate::upgrade::Upgrade).
        WorkerUpgrade = "worker.upgrade",
        /// [`Invite`](crate::api::Invite) → [`Invited`](crate::api::Invited).
        WorkerInvite = "worker.invite",
        /// [`ListAfter`](crate::api::ListAfter) → [`Members`](crate::api::Members), in parts of at most 1 MB.
        WorkerMembers = "worker.members",
        /// [`NameWorker`](crate::api::NameWorker) → the [`Member`](crate::enrolment::Member), which is approved.
        WorkerApprove = "worker.approve",
        /// [`NameWorker`](crate::api::NameWorker) → [`Revoked`](crate::api::Revoked).
        WorkerRevoke = "worker.revoke",
        /// [`ListAfter`](crate::api::ListAfter) → [`Users`](crate::api::Users), in parts of at most 1 MB.
        UserList = "user.list",
        /// [`SetUser`](crate::api::SetUser) → the [`User`](crate::role::User).
        UserSet = "user.set",
        /// [`NameUser`](crate::api::NameUser) → the [`User`](crate::role::User), who has no roles of its own any more.
        UserForget = "user.forget",
        /// `{}` → [`Caller`](crate::api::Caller).
        UserSelf = "user.self",
        /// [`SetSecret`](crate::api::SetSecret) → [`SecretView`](crate::api::SecretView).
        SecretSet = "secret.set",
        /// [`ListAfter`](crate::api::ListAfter) → [`SecretViews`](crate::api::SecretViews), in parts of at most 1 MB.
        SecretList = "secret.list",
        /// [`NameSecret`](crate::api::NameSecret) → the [`SecretView`](crate::api::SecretView), which is forgotten.
        SecretForget = "secret.forget",
        /// [`ListAfter`](crate::api::ListAfter) → [`Groups`](crate::api::Groups), in parts of at most 1 MB.
        GroupList = "group.list",
        /// [`AskLoads`](crate::api::AskLoads) → [`GroupLoads`](crate::api::GroupLoads), in parts of at most 1 MB.
        GroupLoad = "group.load",
        /// [`SetGroup`](crate::api::SetGroup) → the [`Group`](crate::group::Group).
        GroupSet = "group.set",
        /// [`ReadAudit`](crate::api::ReadAudit) → [`Page`](crate::api::Page).
        AuditRead = "audit.read",
        /// `{}` → [`Masters`](crate::api::Masters).
        MasterList = "master.list",
        /// [`RegisterModule`](crate::api::RegisterModule) → [`ModuleVersion`](crate::api::ModuleVersion).
        ModuleRegister = "module.register",
        /// [`ListAfter`](crate::api::ListAfter) → [`Modules`](crate::api::Modules), in parts of at most 1 MB.
        ModuleList = "module.list",
        /// [`FindModule`](crate::api::FindModule) → the [`ModuleVersion`](crate::api::ModuleVersion).
        ModuleFind = "module.find",
        /// [`RemoveModule`](crate::api::RemoveModule) → [`Modules`](crate::api::Modules).
        ModuleRemove = "module.remove",
        /// [`FindObject`](crate::api::FindObject) → [`FoundObject`](crate::api::FoundObject).
        ObjectFind = "object.find",
        /// [`PutPiece`](crate::api::PutPiece) → [`PieceStored`](crate::api::PieceStored).
        ObjectPut = "object.put",
        /// [`GetPiece`](crate::api::GetPiece) → [`Piece`](crate::api::Piece).
        ObjectGet = "object.get",
        /// [`ReadEvents`](crate::api::ReadEvents) → [`Page`](crate::api::Page).
        EventRead = "event.read",
        /// [`ReadLogs`](crate::api::ReadLogs) → [`Page`](crate::api::Page).
        LogRead = "log.read",
    }
);

words!(
    /// Where a log line came from. Its word is the last token of the subject that carries it.
    #[derive(Serialize, Deserialize)]
    pub enum LogSource {
        /// Standard error.
        Stderr = "stderr",
        /// The SDK's `log`.
        Log = "log",
    }
);

/// The names that one fleet uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    fleet: GroupName,
}

impl Names {
    /// Names of the fleet called `fleet`.
    pub fn new(fleet: GroupName) -> Self {
        Names { fleet }
    }

    /// The fleet.
    pub fn fleet(&self) -> &str {
        self.fleet.as_str()
    }

    /// A bucket, as `nats kv` has it.
    pub fn bucket(&self, bucket: Bucket) -> String {
        format!("muster_{}_{}", self.fleet, bucket.word())
    }

    /// The stream behind a bucket.
    pub fn stream(&self, bucket: Bucket) -> String {
        format!("KV_{}", self.bucket(bucket))
    }

    /// The subject of a key of a bucket.
    pub fn key(&self, bucket: Bucket, key: impl fmt::Display) -> String {
        format!("$KV.{}.{key}", self.bucket(bucket))
    }

    /// The object store that keeps modules, by the hex of their digest.
    pub fn module_store(&self) -> String {
        format!("muster_{}_modules", self.fleet)
    }

    /// The object store that keeps inputs, outputs and checkpoints, by the hex of their digest.
    pub fn data_store(&self) -> String {
        format!("muster_{}_data", self.fleet)
    }

    /// The subject of a request to masters, such as `task.submit`.
    pub fn api(&self, endpoint: Endpoint) -> String {
        format!("muster.{}.api.{}", self.fleet, endpoint.word())
    }

    /// Where the end of a task is published for the clients that wait for it. A hint: the record
    /// decides.
    pub fn done(&self, audience: BatchId) -> String {
        format!("muster.{}.done.{audience}", self.fleet)
    }

    /// An event; see [`crate::advisory`].
    pub fn event(&self, group: &str, about: &str, what: &str, id: &str) -> String {
        format!("muster.{}.event.{group}.{about}.{what}.{id}", self.fleet)
    }

    /// The group whose users may see an event, by the event's subject; `None` for all.
    pub fn group_of_event(subject: &str) -> Option<&str> {
        let mut tokens = subject.split('.').skip(3);
        let (group, about) = (tokens.next()?, tokens.next()?);
        matches!(about, "task" | "worker" | "group").then_some(group)
    }

    /// Every event.
    pub fn events(&self) -> String {
        format!("muster.{}.event.>", self.fleet)
    }

    /// The stream that keeps events.
    pub fn event_stream(&self) -> String {
        format!("muster_{}_events", self.fleet)
    }

    /// The log of a run.
    pub fn log(&self, task: TaskId, attempt: AttemptId, source: LogSource) -> String {
        format!("muster.{}.log.{task}.{attempt}.{}", self.fleet, source.word())
    }

    /// The logs of all runs of a task.
    pub fn logs(&self, task: TaskId) -> String {
        format!("muster.{}.log.{task}.>", self.fleet)
    }

    /// The logs of all runs.
    pub fn all_logs(&self) -> String {
        format!("muster.{}.log.>", self.fleet)
    }

    /// The stream that keeps logs.
    pub fn log_stream(&self) -> String {
        format!("muster_{}_logs", self.fleet)
    }

    /// What people and programs have decided; see [`crate::audit`].
    pub fn audit(&self) -> String {
        format!("muster.{}.audit", self.fleet)
    }

    /// The stream that keeps the audit.
    pub fn audit_stream(&self) -> String {
        format!("muster_{}_audit", self.fleet)
    }

    /// The progress of a run, as its guest reports it.
    pub fn progress(&self, task: TaskId) -> String {
        format!("muster.{}.progress.{task}", self.fleet)
    }

    /// The name that a master's certificate must have.
    pub fn master_host(&self) -> String {
        format!("master.{}.muster", self.fleet)
    }

    /// The name that a worker's certificate must have.
    pub fn worker_host(&self, worker: &str) -> String {
        format!("{worker}.worker.{}.muster", self.fleet)
    }

    /// The name of the worker in a certificate's name.
    pub fn worker_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        host.strip_suffix(&format!(".worker.{}.muster", self.fleet))
    }
}

/// The request and the answer of each endpoint: the table in docs/FLEET.md.
pub fn endpoint_table() -> String {
    let endpoints = Endpoint::ALL.iter().map(|endpoint| (endpoint.word(), endpoint.meaning()));
    String::from("| endpoint | request → answer |\n|---|---|\n") + &rows(endpoints)
}

/// What each subject carries: the table in ARCHITECTURE.md.
pub fn table() -> String {
    let names = Names::new(GroupName::default());
    let f = &names.fleet;
    let rows = [
        (format!("muster.{f}.api.…"), "requests of clients, as NATS service `muster-master`"),
        (
            names.event("GROUP", "ABOUT", "WHAT", "ID"),
            "events about tasks, a worker, group or master; `ID` of tasks is their batch, or the task itself",
        ),
        (names.audit(), "what people and programs have decided"),
        (format!("muster.{f}.done.BATCH"), "the ends of tasks, for who waits for them"),
        (format!("muster.{f}.log.TASK.ATTEMPT.stderr"), "what guests write; `log` for the SDK's"),
        (format!("muster.{f}.progress.TASK"), "how far a run is"),
    ];
    let mut text = String::from("| subject | carries |\n|---|---|\n");
    for (subject, carries) in rows {
        text.push_str(&format!("| `{}` | {carries} |\n", subject.replace(".default.", ".FLEET.")));
    }
    text
}

/// Whether it is one token of a subject, and not a wildcard.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a request came from another account, by its reply subject. nats-server has put its own in place
/// of the client's.
pub fn is_from_another_account(reply: &str) -> bool {
    unrouted(reply).starts_with("_R_.")
}

/// The reply subject without the prefix that nats-server adds between clusters.
fn unrouted(reply: &str) -> &str {
    match reply.strip_prefix("_GR_.") {
        Some(routed) => routed.splitn(3, '.').nth(2).unwrap_or_default(),
        None => reply,
    }
}

/// Whether the reply subject of a request is the inbox of a client, so that a program that may write
/// more than the client may answer there. Otherwise a client could name the key of a record, and the
/// answer would replace the record.
///
/// Clients have inboxes under `_INBOX`, or under a prefix of their own that begins with `_INBOX`. For
/// requests from another account, nats-server puts `_R_` in their place, and it puts
/// `_GR_.CLUSTER.SERVER` before the inboxes of another cluster.
pub fn is_inbox(reply: &str) -> bool {
    unrouted(reply).starts_with("_INBOX") || is_from_another_account(reply)
}

#[cfg(test)]
mod tests {
    use super::is_inbox;

    #[test]
    fn answers_go_to_inboxes_only() {
        for reply in
            ["_INBOX.a.b", "_INBOX_alice", "_INBOX_alice.a", "_R_.a.b", "_GR_.c.s._INBOX.a.b"]
        {
            assert!(is_inbox(reply), "{reply}");
        }
        for reply in [
            "$KV.muster_default_tasks.a",
            "$JS.API.STREAM.PURGE.KV_muster_default_tasks",
            "_GR_.c.s.$KV.muster_default_tasks.a",
            "_GR_.c.s",
            "_GR_.c.s._GR_.c.s._INBOX.a",
            "muster.default.done.a",
            "",
        ] {
            assert!(!is_inbox(reply), "{reply}");
        }
    }
}
