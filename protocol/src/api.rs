//! The requests of clients to masters, as JSON over NATS: their types, and how a master reads them.
//!
//! An answer is JSON of the type named here; an error is a NATS service error: a code and a
//! sentence in the headers `Nats-Service-Error-Code` and `Nats-Service-Error`.

mod bulk;
mod command;
mod load;
mod needs;
mod request;
mod secrets;

pub use crate::subject::Endpoint;
pub use bulk::{
    FindObject, FoundObject, GetPiece, PIECE_BYTES_MAX, Page, PageMessage, PageStart, Piece,
    PiecePlace, PieceStored, PutPiece, ReadAudit, ReadEvents, ReadLogs, StreamPlace,
};
pub use command::{CommandWorker, SetUpgrade, UpgradeView};
pub use load::{AskLoads, GroupLoad, GroupLoads, NextTask};
pub use request::{IDS_MAX, Request, RequestError};
pub use secrets::{NameSecret, SecretView, SecretViews, SetSecret};

use crate::{
    Digest, GroupName, Revision, TaskId, WorkerId,
    enrolment::Member,
    entitlement::Entitlement,
    group::Group,
    lease::{Lease, MasterLease},
    record::{Unknown, record},
    role::{Actor, Rights, User},
    signature::{Signature, SignerKey},
    task::{StateName, TaskRecord, TaskSpec},
    time::WallMillis,
    words::words,
};
use alloc::{collections::BTreeSet, string::String, sync::Arc, vec::Vec};
use serde::{Deserialize, Serialize};

/// Why a request failed, and whether anything was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request is wrong; asking again will not help. Nothing was stored.
    BadRequest = 400,
    /// The user lacks a role, which the sentence names. Nothing was done.
    Forbidden = 403,
    /// Something that the request names does not exist. Nothing was stored.
    NotFound = 404,
    /// An id in the request belongs to a different task. Other tasks of the same request may be
    /// stored.
    Conflict = 409,
    /// It is not known whether the request was carried out. Asking again with the same ids is safe.
    Unknown = 500,
    /// The request was not carried out; ask again later.
    Unavailable = 503,
}

/// A task as a client submits it. The client chooses the id, so that a repeated submission is
/// recognised and stored once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// The work: module, input, limits and grants. A master checks it before it stores anything.
    pub spec: Arc<TaskSpec>,
}

/// Store these tasks: all of them, or none if one is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// At most [`crate::limit::SUBMIT_TASKS_MAX`].
    pub tasks: Vec<NewTask>,
}

/// Every task of the request is in the registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// How many tasks the request had.
    pub stored: u64,
}

/// The tasks to get or to cancel, by id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskIds {
    /// The ids of the tasks, in any order. Ids that are not known are left out of the answer.
    pub ids: Vec<TaskId>,
}

/// Which tasks to list: those that meet every condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListTasks {
    /// Only those in this state, as [`crate::task::StateName::word`] says it.
    pub state: Option<String>,
    /// Only those of this group.
    pub group: Option<String>,
    /// At most this many, newest first; 0 for the default of 50.
    pub limit: u64,
    /// Only those that are older than this one.
    pub before: Option<ListPlace>,
    /// Only those whose present attempt should have ended before this, by its time limit and the wall
    /// clock of the master that dispatched it. For people.
    pub due_before: Option<WallMillis>,
}

impl ListTasks {
    /// Whether a task that is over can meet every condition. If none can, a master need not search the stream of
    /// tasks, which has the records of a day.
    pub fn admits_ended(&self) -> bool {
        let is_open =
            |word: &str| StateName::ALL.iter().any(|state| state.is_open() && state.word() == word);
        self.due_before.is_none() && !self.state.as_deref().is_some_and(is_open)
    }
}

/// The place of a task in a list: by the time of submission, and by id where that is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListPlace {
    /// When it was submitted, in milliseconds on a master's wall clock. For people.
    pub submitted_ms: u64,
    /// Its id.
    pub id: TaskId,
}

impl ListPlace {
    /// The place of this task.
    pub fn of(record: &TaskRecord) -> Self {
        ListPlace { submitted_ms: record.submitted_at.0, id: record.id }
    }
}

/// A list of tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tasks {
    /// The tasks that were found, as far as they fit one message.
    pub tasks: Vec<TaskView>,
    /// Where the list continues: pass it as [`ListTasks::before`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<ListPlace>,
    /// Whether tasks that ended long ago may be missing: the list looks back over a limited number of
    /// changes.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub is_cut: bool,
}

/// A task as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its record.
    pub record: TaskRecord,
    /// Why the task is in its state, as a sentence.
    pub why: String,
}

/// The end of a task, as published on the `done` subject, several in one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEnded {
    /// The id of the task that ended.
    pub task: TaskId,
    /// How the task ended, with its output or a reference to it.
    pub outcome: Arc<crate::task::Outcome>,
}

/// Asks for the part of a list of workers or modules that follows this name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListAfter {
    /// The name; absent for the beginning of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// The workers that hold or held a lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// One entry for each lease in the workers bucket, in the order of the workers' names.
    pub workers: Vec<WorkerView>,
    /// The last name of this part, if others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

words!(
    /// What carries a link.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Transport {
        /// QUIC, over UDP.
        Quic = "quic",
        /// TLS over TCP, where QUIC does not get through.
        Tcp = "tcp",
    }
);

/// A worker as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its lease.
    pub lease: Lease,
    /// The lease's revision.
    pub revision: Revision,
    /// Whether this master has a link to it.
    pub linked: bool,
    /// What carries its newest link to this master; absent if it has none, or in the answer of an older
    /// master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Why the certificate of its link does not permit what the lease offers, as a text that continues a
    /// sentence after "the certificate". It is given no tasks then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<String>,
    /// The tasks whose attempts it holds now.
    pub attempts: Vec<TaskId>,
    /// What it shall run, as this master knows it. Absent if nobody has said so, or in the answer of an older master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeView>,
}

/// Let workers join. The client keeps the secret, which is only in the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The SHA-256 of the secret.
    pub secret: Digest,
    /// The worker that is invited; any name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// What the workers may offer.
    pub entitlement: Entitlement,
    /// For how long, in seconds; at most [`INVITATION_MAX_S`](crate::enrolment::INVITATION_MAX_S).
    pub ttl_s: u64,
    /// How many workers may join; at most [`USES_MAX`](crate::enrolment::USES_MAX).
    pub uses: u32,
    /// Whether an operator has to approve each of them.
    #[serde(default)]
    pub approve: bool,
}

/// What a token needs besides the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// Where masters that issue certificates listen, as `HOST:PORT`, as far as they have said so.
    pub masters: Vec<String>,
    /// The SHA-256 of the authority's certificate.
    pub authority: Digest,
    /// Until when workers may join, in seconds since 1970.
    pub ends: u64,
}

/// Workers that have joined by an invitation, or are revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// In the order of their names.
    pub members: Vec<Member>,
    /// The last name of this part, if others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

/// Names a worker that has joined, or is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameWorker {
    /// The worker.
    pub worker: WorkerId,
}

/// A worker is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The worker; certificates that were issued up to [`revoked`](Member::revoked) are refused.
    pub member: Member,
    /// The secrets that it could see: those of its certificate, those of its last lease, and those that the registry
    /// kept for it, which are forgotten.
    pub secrets: BTreeSet<String>,
}

/// Give a user these roles, in place of those that the user has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUser {
    /// What NATS calls the user; see [`is_user`](crate::role::is_user).
    pub user: String,
    /// What people call the user; if absent, as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// The roles, with at most [`GROUPS_MAX`](crate::role::GROUPS_MAX) groups.
    pub rights: Rights,
}

/// Names a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameUser {
    /// What NATS calls the user.
    pub user: String,
}

/// The users that have roles of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// In the order of what NATS calls them.
    pub users: Vec<User>,
    /// The last name of this part, if others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

/// Give a group these settings, in place of those that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetGroup {
    /// The group.
    pub group: GroupName,
    /// The keys of which one must have signed the module of each task, at most
    /// [`SIGNERS_MAX`](crate::group::SIGNERS_MAX); empty if every module may run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub signers: BTreeSet<SignerKey>,
}

/// The groups that have settings of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// In the order of their names.
    pub groups: Vec<Group>,
    /// The last name of this part, if others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

/// Who asks, as masters see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The user.
    pub actor: Actor,
    /// What the user may do.
    pub rights: Rights,
}

/// The masters that hold or held a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masters {
    /// One entry for each lease in the masters bucket: one for each session.
    pub masters: Vec<MasterLease>,
}

/// Give a stored module a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisterModule {
    /// The name.
    pub name: String,
    /// The version; if absent, the next number.
    pub version: Option<String>,
    /// The digest of the module in the module store.
    pub digest: Digest,
    /// Its signature, if it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// A named version of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleVersion {
    /// The version.
    pub version: String,
    /// The SHA-256 of the module.
    pub digest: Digest,
    /// The length of the module in bytes.
    pub size: u64,
    /// `module` or `component`.
    pub kind: String,
    /// When it was pushed. For people.
    pub pushed_at: WallMillis,
    /// Its signature. No master has verified it: the groups and workers that demand one know the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// The fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A module name's value in the modules bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleEntry {
    /// The name, which is the key.
    pub name: String,
    /// Its versions, oldest first. The last one is what the bare name means.
    pub versions: Vec<ModuleVersion>,
    /// Versions that are gone, oldest first: somebody removed them, or newer ones took their place. None of
    /// them comes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

impl ModuleEntry {
    /// A name that has no version yet.
    pub fn new(name: &str) -> Self {
        let (versions, removed) = (Vec::new(), Vec::new());
        ModuleEntry { name: name.into(), versions, removed, unknown: Unknown::default() }
    }

    /// Removes the versions that `is_kept` refuses, for ever.
    pub fn retain(&mut self, is_kept: impl Fn(&ModuleVersion) -> bool) {
        let (kept, gone): (Vec<_>, Vec<_>) = self.versions.drain(..).partition(is_kept);
        self.versions = kept;
        self.removed.extend(gone.into_iter().map(|old| old.version));
    }

    /// The version of this name that is meant by this one, or by none.
    pub fn version(&self, version: Option<&str>) -> Option<&ModuleVersion> {
        match version {
            Some(version) => self.versions.iter().find(|known| known.version == version),
            None => self.versions.last(),
        }
    }

    /// A version of this name that has this digest: the given one, or any.
    pub fn find(&self, version: Option<&str>, digest: Digest) -> Option<&ModuleVersion> {
        self.versions.iter().find(|known| {
            known.digest == digest && version.is_none_or(|version| version == known.version)
        })
    }
}

record!(ModuleEntry);

/// The named modules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Modules {
    /// One entry for each name, with all its versions, in the order of the names.
    pub modules: Vec<ModuleEntry>,
    /// The last name of this part, if others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

/// Ask which module a name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindModule {
    /// The name.
    pub name: String,
    /// The version; if absent, the one that was pushed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Remove a name, or one version of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoveModule {
    /// The name.
    pub name: String,
    /// The version; if absent, all versions.
    pub version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_means_the_newest_version() {
        let version = |version: &str, byte| ModuleVersion {
            version: version.into(),
            digest: Digest([byte; 32]),
            size: 1,
            kind: "module".into(),
            pushed_at: WallMillis(0),
            signature: None,
            unknown: Default::default(),
        };
        let versions = [version("1", 1), version("2", 2)].into();
        let entry = ModuleEntry { versions, ..ModuleEntry::new("hello") };
        let digest = |version| entry.version(version).map(|found| found.digest.0[0]);
        assert_eq!(digest(None), Some(2));
        assert_eq!(digest(Some("1")), Some(1));
        assert_eq!(digest(Some("3")), None);
        assert_eq!(ModuleEntry::new("other").version(None), None);
    }

    #[test]
    fn only_conditions_that_an_ended_task_can_meet_need_the_stream() {
        let due = Some(WallMillis(1));
        for (state, due_before, admits) in [
            (None, None, true),
            (Some("completed"), None, true),
            (Some("unheard of"), None, true),
            (Some("queued"), None, false),
            (Some("dispatched"), None, false),
            (None, due, false),
            (Some("completed"), due, false),
        ] {
            let state = state.map(String::from);
            let asked = ListTasks { state, due_before, ..ListTasks::default() };
            assert_eq!(asked.admits_ended(), admits, "{asked:?}");
        }
    }
}
