//! How a master reads a client's request: from bytes to a request that is complete and consistent in
//! itself. Never compares it with anything that is stored.

use super::{
    AskLoads, CommandWorker, Endpoint, FindModule, FindObject, GetPiece, Invite, ListAfter,
    ListTasks, NameSecret, NameUser, NameWorker, PIECE_BYTES_MAX, PutPiece, ReadAudit, ReadEvents,
    ReadLogs, RegisterModule, RemoveModule, SetGroup, SetSecret, SetUpgrade, SetUser, Submit,
    TaskIds,
};
use crate::{
    enrolment::{INVITATION_MAX_S, USES_MAX},
    group::SIGNERS_MAX,
    id::{NAME_FORM, is_name},
    limit::{DRAIN_MAX, MODULE_SIZE_MAX, PAYLOAD_SIZE_MAX, SUBMIT_TASKS_MAX},
    message::ObjectStore,
    record, role, sealed,
    subject::is_token,
    upgrade::Wanted,
};
use alloc::{collections::BTreeSet, format, string::String};
use serde::{Deserialize, de::DeserializeOwned};

/// Ids in one request. With small outputs, the answer fits one NATS message.
pub const IDS_MAX: usize = 100;

/// A version of a module has at most this many bytes.
const VERSION_SIZE_MAX: usize = 64;

/// A request, by its endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// [`Endpoint::TaskSubmit`].
    Submit(Submit),
    /// [`Endpoint::TaskGet`].
    Get(TaskIds),
    /// [`Endpoint::TaskList`].
    List(ListTasks),
    /// [`Endpoint::TaskCancel`].
    Cancel(TaskIds),
    /// [`Endpoint::WorkerList`].
    Workers(ListAfter),
    /// [`Endpoint::WorkerOrder`].
    Order(CommandWorker),
    /// [`Endpoint::WorkerUpgrade`].
    SetUpgrade(SetUpgrade),
    /// [`Endpoint::WorkerInvite`].
    Invite(Invite),
    /// [`Endpoint::WorkerMembers`].
    Members(ListAfter),
    /// [`Endpoint::WorkerApprove`].
    Approve(NameWorker),
    /// [`Endpoint::WorkerRevoke`].
    Revoke(NameWorker),
    /// [`Endpoint::UserList`].
    Users(ListAfter),
    /// [`Endpoint::UserSet`].
    SetUser(SetUser),
    /// [`Endpoint::UserForget`].
    ForgetUser(NameUser),
    /// [`Endpoint::UserSelf`].
    Who,
    /// [`Endpoint::SecretSet`].
    SetSecret(SetSecret),
    /// [`Endpoint::SecretList`].
    Secrets(ListAfter),
    /// [`Endpoint::SecretForget`].
    ForgetSecret(NameSecret),
    /// [`Endpoint::GroupList`].
    Groups(ListAfter),
    /// [`Endpoint::GroupLoad`].
    Loads(AskLoads),
    /// [`Endpoint::GroupSet`].
    SetGroup(SetGroup),
    /// [`Endpoint::AuditRead`].
    Audit(ReadAudit),
    /// [`Endpoint::MasterList`].
    Masters,
    /// [`Endpoint::ModuleRegister`].
    Register(RegisterModule),
    /// [`Endpoint::ModuleList`].
    Modules(ListAfter),
    /// [`Endpoint::ModuleFind`].
    FindModule(FindModule),
    /// [`Endpoint::ModuleRemove`].
    Remove(RemoveModule),
    /// [`Endpoint::ObjectFind`].
    Find(FindObject),
    /// [`Endpoint::ObjectPut`].
    Put(PutPiece),
    /// [`Endpoint::ObjectGet`].
    Fetch(GetPiece),
    /// [`Endpoint::EventRead`].
    Events(ReadEvents),
    /// [`Endpoint::LogRead`].
    Logs(ReadLogs),
}

/// Why bytes are no request. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// They are not JSON of the endpoint's type, or have a name that this version does not know.
    #[error("the request is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// What it asks for can never be done.
    #[error("{0}")]
    Refused(String),
}

/// A request that says nothing.
#[derive(Default, Deserialize)]
struct Nothing {}

impl Request {
    /// Reads what was sent to an endpoint, and checks it as far as that needs nothing else.
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, RequestError> {
        let request = match endpoint {
            Endpoint::TaskSubmit => Request::Submit(record::read_request(body)?),
            Endpoint::TaskGet => Request::Get(record::read_request(body)?),
            Endpoint::TaskList => Request::List(record::read_request(body)?),
            Endpoint::TaskCancel => Request::Cancel(record::read_request(body)?),
            Endpoint::WorkerList => Request::Workers(read_or_default(body)?),
            Endpoint::WorkerOrder => Request::Order(record::read_request(body)?),
            Endpoint::WorkerUpgrade => Request::SetUpgrade(record::read_request(body)?),
            Endpoint::WorkerInvite => Request::Invite(record::read_request(body)?),
            Endpoint::WorkerMembers => Request::Members(read_or_default(body)?),
            Endpoint::WorkerApprove => Request::Approve(record::read_request(body)?),
            Endpoint::WorkerRevoke => Request::Revoke(record::read_request(body)?),
            Endpoint::UserList => Request::Users(read_or_default(body)?),
            Endpoint::UserSet => Request::SetUser(record::read_request(body)?),
            Endpoint::UserForget => Request::ForgetUser(record::read_request(body)?),
            Endpoint::UserSelf => {
                let Nothing {} = read_or_default(body)?;
                Request::Who
            }
            Endpoint::SecretSet => Request::SetSecret(record::read_request(body)?),
            Endpoint::SecretList => Request::Secrets(read_or_default(body)?),
            Endpoint::SecretForget => Request::ForgetSecret(record::read_request(body)?),
            Endpoint::GroupList => Request::Groups(read_or_default(body)?),
            Endpoint::GroupLoad => Request::Loads(read_or_default(body)?),
            Endpoint::GroupSet => Request::SetGroup(record::read_request(body)?),
            Endpoint::AuditRead => Request::Audit(record::read_request(body)?),
            Endpoint::MasterList => {
                let Nothing {} = read_or_default(body)?;
                Request::Masters
            }
            Endpoint::ModuleRegister => Request::Register(record::read_request(body)?),
            Endpoint::ModuleList => Request::Modules(read_or_default(body)?),
            Endpoint::ModuleFind => Request::FindModule(record::read_request(body)?),
            Endpoint::ModuleRemove => Request::Remove(record::read_request(body)?),
            Endpoint::ObjectFind => Request::Find(record::read_request(body)?),
            Endpoint::ObjectPut => Request::Put(record::read_request(body)?),
            Endpoint::ObjectGet => Request::Fetch(record::read_request(body)?),
            Endpoint::EventRead => Request::Events(record::read_request(body)?),
            Endpoint::LogRead => Request::Logs(record::read_request(body)?),
        };
        request.check().map_err(RequestError::Refused)?;
        Ok(request)
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Request::Submit(asked) => check_tasks(asked),
            Request::Get(asked) | Request::Cancel(asked) => {
                let is_some = (1..=IDS_MAX).contains(&asked.ids.len());
                refuse_unless(is_some, || format!("a request has from 1 to {IDS_MAX} ids"))
            }
            Request::Register(asked) => check_version(asked),
            Request::Invite(asked) => check_invite(asked),
            Request::SetUser(asked) => check_user(asked),
            Request::SetUpgrade(asked) => check_upgrade(asked),
            Request::SetSecret(asked) => check_secret(asked),
            Request::SetGroup(asked) => check_group(asked),
            Request::Put(asked) => check_piece(asked),
            Request::Fetch(asked) => {
                let place = asked.after.as_ref();
                refuse_unless(place.is_none_or(|place| is_token(&place.copy)), || {
                    "the place of a piece is one that a master has answered".into()
                })
            }
            Request::List(_)
            | Request::Workers(_)
            | Request::Order(_)
            | Request::Members(_)
            | Request::Approve(_)
            | Request::Revoke(_)
            | Request::Users(_)
            | Request::ForgetUser(_)
            | Request::Who
            | Request::Secrets(_)
            | Request::ForgetSecret(_)
            | Request::Groups(_)
            | Request::Loads(_)
            | Request::Audit(_)
            | Request::Masters
            | Request::Modules(_)
            | Request::FindModule(_)
            | Request::Remove(_)
            | Request::Find(_)
            | Request::Events(_)
            | Request::Logs(_) => Ok(()),
        }
    }
}

fn check_user(asked: &SetUser) -> Result<(), String> {
    let names = [Some(&asked.user), asked.called.as_ref()];
    refuse_unless(names.into_iter().flatten().all(|name| role::is_user(name)), || {
        format!("a user's name has 1 to {} bytes and no control characters", role::USER_SIZE_MAX)
    })?;
    refuse_unless(asked.rights.groups.len() <= role::GROUPS_MAX, || {
        format!("a user may have roles of its own in {} groups", role::GROUPS_MAX)
    })
}

fn check_upgrade(asked: &SetUpgrade) -> Result<(), String> {
    if let Wanted::Program(program) = &asked.wanted {
        program.check()?;
    }
    let max = DRAIN_MAX.as_millis() as u64;
    refuse_unless(asked.deadline_ms <= max, || {
        format!("the runs of a worker may go on for at most {max} ms")
    })
}

fn check_secret(asked: &SetSecret) -> Result<(), String> {
    sealed::check_file(&asked.file)?;
    asked.rule.as_ref().map_or(Ok(()), |rule| rule.check())
}

fn check_group(asked: &SetGroup) -> Result<(), String> {
    refuse_unless(asked.signers.len() <= SIGNERS_MAX, || {
        format!("a group may have {SIGNERS_MAX} keys of signers")
    })?;
    // A signature names its key by the id.
    let ids: BTreeSet<_> = asked.signers.iter().map(|key| key.id).collect();
    refuse_unless(ids.len() == asked.signers.len(), || {
        "two of the keys have the same id: make another key".into()
    })
}

fn check_tasks(asked: &Submit) -> Result<(), String> {
    let count = asked.tasks.len();
    refuse_unless((1..=SUBMIT_TASKS_MAX).contains(&count), || {
        format!("a submission has from 1 to {SUBMIT_TASKS_MAX} tasks")
    })?;
    let mut seen = BTreeSet::new();
    for (at, task) in asked.tasks.iter().enumerate() {
        let place = || format!("task {} of {count}", at + 1);
        task.spec.check().map_err(|error| format!("{}: {error}", place()))?;
        refuse_unless(seen.insert(task.id), || {
            format!("{}: the id {} is used twice", place(), task.id)
        })?;
    }
    Ok(())
}

fn check_invite(asked: &Invite) -> Result<(), String> {
    refuse_unless((1..=INVITATION_MAX_S).contains(&asked.ttl_s), || {
        format!("an invitation is good for 1 to {INVITATION_MAX_S} seconds")
    })?;
    let most = if asked.worker.is_some() { 1 } else { USES_MAX };
    refuse_unless((1..=most).contains(&asked.uses), || {
        format!("an invitation lets in 1 to {USES_MAX} workers; 1 if it names the worker")
    })?;
    let fits = asked.entitlement.uri().map(|_| ());
    fits.map_err(|error| format!("what the worker may offer does not fit a certificate: {error}"))
}

fn check_piece(asked: &PutPiece) -> Result<(), String> {
    let size = asked.bytes.len();
    let is_empty_object = asked.after == 0 && asked.whole == Some(0);
    refuse_unless((1..=PIECE_BYTES_MAX).contains(&size) || (size == 0 && is_empty_object), || {
        format!("a piece has 1 to {PIECE_BYTES_MAX} bytes")
    })?;
    let max = size_max(asked.store);
    refuse_unless(asked.whole.is_none_or(|whole| whole <= max), || {
        format!("an object has at most {max} bytes")
    })
}

/// The most bytes of an object of this store.
pub fn size_max(store: ObjectStore) -> u64 {
    match store {
        ObjectStore::Modules => MODULE_SIZE_MAX,
        ObjectStore::Data => PAYLOAD_SIZE_MAX,
    }
}

fn check_version(asked: &RegisterModule) -> Result<(), String> {
    refuse_unless(is_name(&asked.name), || {
        format!("{:?} cannot be a module's name: {NAME_FORM}", asked.name)
    })?;
    let Some(version) = &asked.version else { return Ok(()) };
    refuse_unless(is_version(version), || {
        format!(
            "{version:?} cannot be a version: letters, digits, '.', '-' and '_', at most \
             {VERSION_SIZE_MAX}"
        )
    })
}

fn is_version(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= VERSION_SIZE_MAX && text.bytes().all(allowed)
}

fn refuse_unless(good: bool, sentence: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(sentence()) }
}

/// A request that may say nothing, as `{}` or as no bytes.
fn read_or_default<T: Default + DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    if body.is_empty() { Ok(T::default()) } else { record::read_request(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Nonce, entitlement::Entitlement};
    use alloc::vec;
    use base64::Engine as _;

    #[test]
    fn a_request_is_read_or_refused_with_a_sentence() {
        let ids = |count: usize| {
            let ids = vec![r#""01m7y31ehbzwpzdmwrs5vq8rjp""#; count].join(",");
            format!(r#"{{"ids":[{ids}]}}"#)
        };
        let digest = format!("sha256:{}", "ab".repeat(32));
        let register = |name: &str, version: &str| {
            format!(r#"{{"name":"{name}","version":"{version}","digest":"{digest}"}}"#)
        };
        let invite = |ttl_s, uses| {
            let (secret, entitlement) = (Digest([1; 32]), Entitlement::any());
            let asked = Invite { secret, worker: None, entitlement, ttl_s, uses, approve: false };
            serde_json::to_string(&asked).expect("it is written")
        };
        let object = format!(r#""store":"Data","digest":"{digest}""#);
        let put = |after: u64, bytes: &str, whole: &str| {
            let upload = Nonce(7);
            format!(
                r#"{{{object},"upload":"{upload}","after":{after},"bytes":"{bytes}","whole":{whole}}}"#
            )
        };
        let secret = |name: &str, bytes: &[u8], rule: &str| {
            let recipient = "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq";
            let file = base64::engine::general_purpose::STANDARD.encode(bytes);
            format!(
                r#"{{"worker":"w1","name":"{name}","recipient":"{recipient}","rule":{rule},"file":"{file}"}}"#
            )
        };
        let age = b"age-encryption.org/v1\n";
        let get = |copy: &str| format!(r#"{{{object},"after":{{"copy":"{copy}","at":1}}}}"#);
        for (endpoint, body, refusal) in [
            (Endpoint::TaskGet, ids(1), ""),
            (Endpoint::TaskGet, ids(0), "from 1 to 100 ids"),
            (Endpoint::TaskCancel, ids(101), "from 1 to 100 ids"),
            (Endpoint::TaskSubmit, r#"{"tasks":[]}"#.into(), "from 1 to"),
            (Endpoint::TaskList, "".into(), "malformed"),
            (Endpoint::TaskList, "{}".into(), ""),
            (Endpoint::WorkerList, "".into(), ""),
            (Endpoint::MasterList, r#"{"x":1}"#.into(), "unknown field `x`"),
            (Endpoint::ModuleList, "{} {}".into(), "malformed"),
            (Endpoint::WorkerInvite, invite(60, 1), ""),
            (Endpoint::WorkerInvite, invite(0, 1), "seconds"),
            (Endpoint::WorkerInvite, invite(60, 0), "workers"),
            (Endpoint::WorkerMembers, "".into(), ""),
            (Endpoint::WorkerRevoke, r#"{"worker":"w1"}"#.into(), ""),
            (Endpoint::WorkerApprove, "{}".into(), "missing field `worker`"),
            (Endpoint::SecretSet, secret("KEY", age, "null"), ""),
            (Endpoint::SecretSet, secret("A.B", age, "null"), "cannot be the name of a secret"),
            (Endpoint::SecretSet, secret("KEY", b"plain", "null"), "is not encrypted"),
            (
                Endpoint::SecretSet,
                secret("KEY", &[age, &[0; 6_000][..]].concat(), "null"),
                "at most",
            ),
            (Endpoint::SecretSet, secret("KEY", age, "{}"), "at least one module"),
            (Endpoint::SecretSet, secret("KEY", age, "{\"x\":1}"), "unknown field `rule.x`"),
            (Endpoint::SecretSet, secret("KEY", age, "null").replace("3290", "3291"), "of age"),
            (Endpoint::SecretList, "".into(), ""),
            (Endpoint::SecretForget, r#"{"worker":"w1","name":"KEY"}"#.into(), ""),
            (Endpoint::SecretForget, r#"{"worker":"w1","name":">"}"#.into(), "name of a secret"),
            (Endpoint::ObjectPut, put(0, "YQ==", "1"), ""),
            (Endpoint::ObjectPut, put(0, "", "0"), ""),
            (Endpoint::ObjectPut, put(1, "", "0"), "a piece has"),
            (Endpoint::ObjectPut, put(0, &"A".repeat(4 * 131_073), "null"), "a piece has"),
            (Endpoint::ObjectPut, put(0, "YQ==", "67108865"), "an object has at most"),
            (Endpoint::ObjectPut, put(0, "?", "1"), "malformed"),
            (Endpoint::ObjectGet, get("Ab3"), ""),
            (Endpoint::ObjectGet, get("a.>"), "the place of a piece"),
            (Endpoint::EventRead, r#"{"from":{"since_ms":1}}"#.into(), ""),
            (Endpoint::LogRead, r#"{"from":"first"}"#.into(), "missing field `task`"),
            (Endpoint::ModuleRegister, register("upper", "1.2"), ""),
            (Endpoint::ModuleRegister, register("Upper", "1.2"), "cannot be a module's name"),
            (Endpoint::ModuleRegister, register("upper", "1/2"), "cannot be a version"),
        ] {
            let read = Request::read(endpoint, body.as_bytes()).map_err(|error| format!("{error}"));
            match read {
                Ok(_) => assert!(refusal.is_empty(), "{endpoint:?}: {body} is not refused"),
                Err(said) => {
                    assert!(!refusal.is_empty() && said.contains(refusal), "{endpoint:?}: {said}");
                }
            }
        }
    }
}
