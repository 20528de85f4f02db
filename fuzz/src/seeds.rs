//! Valid input as seeds, made from the types themselves so that the seeds stay up to date. Never writes
//! to another place than the corpora of the targets.

use muster_protocol::{
    AttemptId, Digest, Nonce, SessionId, TaskId, WorkerId,
    api::{
        CommandWorker, FindModule, FindObject, GetPiece, Invite, ListAfter, ListPlace, ListTasks,
        ModuleEntry, ModuleVersion, NameSecret, NameUser, NameWorker, NewTask, PageStart,
        PiecePlace, PutPiece, ReadEvents, ReadLogs, RegisterModule, RemoveModule, SetGroup,
        SetSecret, SetUpgrade, SetUser, StreamPlace, Submit, TaskIds,
    },
    checkpoint::Checkpoint,
    entitlement::Entitlement,
    frame::{self, Encoding, FrameRange, Message},
    grant::{Grants, SecretRule, SecretTerms},
    lease::{Lease, LeaseState, MasterLease},
    message::{
        AttemptKey, Dispatch, HeldAttempt, Hello, LogChunk, LogSource, ObjectStore, StreamReply,
        StreamRequest, ToMaster, ToWorker, WorkerCommand,
    },
    registry::{Mark, ServerId},
    role::{Rights, Role},
    sealed::{SealedContent, SealedSecret},
    signature::{KeyId, Signature, SignatureParts, SignerKey},
    task::{
        Attempt, Data, LimitName, Limits, ModuleRef, Outcome, PastAttempt, TaskRecord, TaskSpec,
        TaskState, Verdict,
    },
    time::WallMillis,
    upgrade::{Program, Upgrade, Wanted},
};
use serde::Serialize;
use std::{fs, path::Path, sync::Arc};

const KEY: AttemptKey = AttemptKey { task: TaskId(7), attempt: AttemptId(8) };

/// The largest guest that becomes a seed: mutations of a long file find little within a minute.
const GUEST_MAX: u64 = 128 * 1024;

/// The beginning of an encrypted secret.
const AGE: &str = "age-encryption.org/v1\n-> X25519 a";

/// A key for secrets.
const RECIPIENT: &str = "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq";

fn secret_rule() -> SecretRule {
    let signer = SignerKey { id: KeyId([1; 8]), key: [2; 32] };
    SecretRule { digests: [Digest([1; 32])].into(), signers: [signer].into() }
}

fn keep(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let written = fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join(name), bytes));
    written.expect("the corpus can be written to");
}

/// Messages of every kind.
pub fn frames() {
    let messages = [
        body(&ToMaster::Hello(hello())),
        body(&ToMaster::Renew { expect: 9, lease: lease() }),
        body(&ToMaster::Renew { expect: 9, lease: unwell() }),
        body(&ToMaster::Extend { session: SessionId(1), renewal: 2 }),
        body(&ToMaster::Finished { key: KEY, revision: 9, outcome: outcome() }),
        body(&ToMaster::Progress { key: KEY, done: 1, total: 300 }),
        body(&ToWorker::Dispatch(dispatch())),
        body(&ToWorker::Command(WorkerCommand::Drain { deadline_ms: 1_000 })),
        body(&StreamRequest::Fetch { store: ObjectStore::Data, digest: Digest([1; 32]) }),
        body(&StreamRequest::Checkpoint {
            attempt: HeldAttempt { key: KEY, revision: 9 },
            save: 3,
            state: inline(),
        }),
        body(&StreamRequest::Upgrade),
        body(&StreamReply::Upgrade(upgrade())),
        body(&StreamRequest::SecretTerms),
        body(&StreamRequest::Secret {
            attempt: HeldAttempt { key: KEY, revision: 9 },
            name: "TOKEN".parse().expect("a name"),
        }),
        body(&StreamReply::SecretTerms(vec![SecretTerms {
            name: "TOKEN".parse().expect("a name"),
            rule: Some(secret_rule()),
        }])),
        body(&StreamReply::Sealed(AGE.into())),
        body(&StreamReply::Refused("it may not".into())),
        body(&StreamReply::Size(70_000)),
        body(&StreamReply::State(inline())),
        body(&StreamReply::Failed("later".into())),
        body(&LogChunk { key: KEY, source: LogSource::Log, text: "line\n".into() }),
    ];
    for (number, bodies) in messages.iter().enumerate() {
        for (encoding, message) in Encoding::ALL.iter().zip(bodies) {
            keep("frame", &format!("seed-{number}-{encoding:?}"), message);
        }
    }
}

fn upgrade() -> Upgrade {
    Upgrade {
        worker: "w1".parse().expect("a name"),
        number: 3,
        wanted: Wanted::Program(program()),
        deadline_ms: 60_000,
        set_at: WallMillis(1),
        set_by: "alice".into(),
        unknown: Default::default(),
    }
}

fn program() -> Program {
    let parts = SignatureParts { of_bytes: [1; 64], comment: "program:x", of_comment: [2; 64] };
    let signature = Signature::new(KeyId([7; 8]), parts).expect("a signature");
    Program { digest: Digest([9; 32]), size: 70_000, signature }
}

fn hello() -> Hello {
    let attempts = vec![HeldAttempt { key: KEY, revision: 9 }];
    let (to, session) = (SessionId(2), SessionId(1));
    Hello {
        to,
        session,
        attempts,
        holds: Mark::default(),
        version: "1".into(),
        frames: FrameRange::SPOKEN,
    }
}

fn body(message: &impl Message) -> [Vec<u8>; 2] {
    Encoding::ALL.map(|encoding| {
        let mut out = Vec::new();
        frame::encode(encoding, message, &mut out).expect("a small message");
        out.split_off(frame::HEADER_SIZE)
    })
}

/// Requests to every endpoint, and subjects of answers.
pub fn requests() {
    let (task, second) = (TaskId(7), TaskId(8));
    let worker = "w1".parse().expect("a name");
    let submit = |ids: &[TaskId]| {
        let tasks = ids.iter().map(|&id| NewTask { id, spec: Arc::new(spec()) });
        json(&Submit { tasks: tasks.collect() })
    };
    let list = ListTasks {
        state: Some("queued".into()),
        group: Some("default".into()),
        limit: 3,
        before: Some(ListPlace { submitted_ms: 1, id: task }),
        due_before: Some(WallMillis(9)),
    };
    let (name, version) = (String::from("upper"), Some(String::from("1.2")));
    let (store, digest) = (ObjectStore::Modules, Digest([1; 32]));
    let invite = Invite {
        secret: digest,
        worker: None,
        entitlement: Entitlement::any(),
        ttl_s: 900,
        uses: 2,
        approve: true,
    };
    let place = StreamPlace { sequence: 7, created_ms: 1, server: Some(ServerId("a".into())) };
    let requests = [
        submit(&[task]),
        submit(&[task, second]),
        json(&TaskIds { ids: vec![task, second] }),
        json(&list),
        json(&ListTasks::default()),
        json(&ListAfter { after: Some("w1".into()) }),
        json(&NameWorker { worker: WorkerId::clone(&worker) }),
        json(&SetUpgrade {
            worker: worker.clone(),
            wanted: Wanted::Program(program()),
            deadline_ms: 1_000,
        }),
        json(&CommandWorker { worker, order: WorkerCommand::Drain { deadline_ms: 1_000 } }),
        json(&invite),
        json(&FindObject { store, digest }),
        json(&PutPiece {
            store,
            digest,
            upload: Nonce(7),
            after: 0,
            bytes: b"abc".as_slice().into(),
            whole: Some(3),
        }),
        json(&GetPiece { store, digest, after: Some(PiecePlace { copy: "a".into(), at: 1 }) }),
        json(&SetUser {
            user: "alice".into(),
            called: Some("Alice".into()),
            rights: Rights {
                everywhere: Role::Read,
                groups: [("default".parse().expect("a name"), Role::Admin)].into(),
            },
        }),
        json(&NameUser { user: "alice".into() }),
        json(&SetSecret {
            worker: "w1".parse().expect("a name"),
            name: "TOKEN".parse().expect("a name"),
            recipient: RECIPIENT.parse().expect("a key"),
            rule: Some(secret_rule()),
            file: AGE.into(),
        }),
        json(&NameSecret {
            worker: "w1".parse().expect("a name"),
            name: "TOKEN".parse().expect("a name"),
        }),
        json(&SetGroup {
            group: "default".parse().expect("a name"),
            signers: [SignerKey { id: KeyId([1; 8]), key: [2; 32] }].into(),
        }),
        json(&FindModule { name: name.clone(), version: version.clone() }),
        json(&ReadEvents { from: PageStart::SinceMs(1_000) }),
        json(&ReadLogs { task, from: PageStart::After(place) }),
        json(&RegisterModule {
            name: name.clone(),
            version: version.clone(),
            digest: Digest([1; 32]),
            signature: Some(signature()),
        }),
        json(&RemoveModule { name, version }),
    ];
    let subjects = ["_INBOX.a.b", "_R_.a", "_GR_.a.b._INBOX.c", "$KV.muster_default_tasks.a"];
    let subjects = subjects.map(|subject| subject.as_bytes().to_vec());
    for (number, bytes) in requests.iter().chain(&subjects).enumerate() {
        keep("api", &format!("seed-{number}"), bytes);
    }
}

/// Records of every kind, and HTTP rules.
pub fn records() {
    let mut task = TaskRecord::queued(TaskId(7), Arc::new(spec()), WallMillis(1));
    task.history.push(PastAttempt {
        attempt: attempt(),
        ended_at: WallMillis(3),
        lost: true,
        reason: "its worker was lost".into(),
    });
    let mut running = task.clone();
    running.state = TaskState::Dispatched(attempt());
    let mut done = task.clone();
    done.state = TaskState::Done {
        outcome: Arc::new(outcome()),
        attempt: Some(attempt()),
        ended_at: WallMillis(4),
    };
    let master = MasterLease {
        master: "m1".parse().expect("a name"),
        session: SessionId(1),
        renewal: 2,
        state: LeaseState::Live,
        wait_ms: 4_500,
        workers: 3,
        remembers: Vec::new(),
        vouches: None,
        connected_to: None,
        address: None,
        issues: false,
        renewed_at: WallMillis(1),
        unknown: Default::default(),
    };
    let checkpoint = Checkpoint {
        submitted_at: WallMillis(1),
        attempt: AttemptId(8),
        number: 1,
        save: 2,
        state: Some(inline()),
        saved_at: WallMillis(1),
        unknown: Default::default(),
    };
    let version = ModuleVersion {
        version: "1.2".into(),
        digest: Digest([1; 32]),
        size: 3,
        kind: "module".into(),
        pushed_at: WallMillis(1),
        signature: Some(signature()),
        unknown: Default::default(),
    };
    let module = ModuleEntry {
        versions: vec![version],
        removed: vec!["0".into()],
        ..ModuleEntry::new("upper")
    };
    let secret = SealedSecret {
        worker: "w1".parse().expect("a name"),
        name: "TOKEN".parse().expect("a name"),
        content: Some(SealedContent {
            recipient: RECIPIENT.parse().expect("a key"),
            joined: 1,
            rule: Some(secret_rule()),
            file: AGE.into(),
        }),
        set_at: WallMillis(1),
        set_by: "alice".into(),
        unknown: Default::default(),
    };
    let values = [
        json(&secret),
        json(&task),
        json(&running),
        json(&done),
        json(&spec()),
        json(&lease()),
        json(&master),
        json(&checkpoint),
        json(&module),
    ];
    let rules = ["api.example.com", "*.example.com:8443", "*:*", "10.0.0.0/8:*", "[fd00::]/8:1"];
    let rules = rules.map(|rule| rule.as_bytes().to_vec());
    for (number, value) in values.iter().chain(&rules).enumerate() {
        keep("record", &format!("seed-{number}"), value);
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it can be written")
}

/// Wasm texts of every shape, and the built guests.
pub fn modules() {
    for (number, text) in TEXTS.iter().enumerate() {
        keep("module", &format!("seed-{number}"), &wat::parse_str(text).expect("Wasm text"));
    }
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/guests");
    for guest in fs::read_dir(guests).into_iter().flatten().flatten() {
        let is_small = guest.metadata().is_ok_and(|metadata| metadata.len() <= GUEST_MAX);
        if is_small && let Ok(bytes) = fs::read(guest.path()) {
            keep("module", &guest.file_name().to_string_lossy(), &bytes);
        }
    }
}

const TEXTS: [&str; 6] = [
    r#"(module (func (export "_start")))"#,
    r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1 2) (table 3 funcref) (global (mut i64) (i64.const 1))
        (data (i32.const 8) "text") (elem (i32.const 0) 0)
        (func (export "_start") (local i32) (loop (br_if 0 (local.get 0))) (call 0 (i32.const 1))))"#,
    r#"(module (func (export "run")))"#,
    r#"(component (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $exports (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $exports)))"#,
    r#"(component (import "wasi:random/insecure@0.2.0"
        (instance (export "get-insecure-random-u64" (func (result u64))))))"#,
    r#"(component (import "muster:task/host@0.1.0"
        (instance (export "progress" (func (param "done" u64) (param "total" u64))))))"#,
];

fn spec() -> TaskSpec {
    let module = ModuleRef { name: Some("upper:1.2".into()), digest: Digest([1; 32]) };
    let mut spec = TaskSpec::new(module, inline());
    spec.args = vec!["--top".into(), "10".into()];
    spec.selector = [("region".into(), "eu".into())].into();
    spec.grants = Arc::new(grants());
    spec
}

fn grants() -> Grants {
    Grants {
        env: [("KEY".into(), "value".into())].into(),
        secrets: ["TOKEN".into()].into(),
        http: ["*.example.com".parse().expect("a rule")].into(),
        dir_bytes: 1 << 20,
        random: true,
        ..Grants::default()
    }
}

fn signature() -> Signature {
    let parts = SignatureParts { of_bytes: [1; 64], comment: "upper", of_comment: [2; 64] };
    Signature::new(KeyId([1; 8]), parts).expect("a signature")
}

fn dispatch() -> Dispatch {
    Dispatch {
        key: KEY,
        session: SessionId(1),
        revision: 5,
        stream: Default::default(),
        held_max: 4,
        alone: false,
        number: 1,
        module: Digest([1; 32]),
        signature: Some(signature()),
        input: inline(),
        args: vec!["-v".into()],
        limits: Limits::default(),
        grants: Arc::new(grants()),
        trace: None,
    }
}

fn attempt() -> Attempt {
    Attempt {
        id: AttemptId(8),
        number: 1,
        worker: "w1".parse().expect("a name"),
        session: SessionId(1),
        lease: 5,
        lease_stream: Default::default(),
        dispatched_at: WallMillis(2),
        alone: true,
        to_silent: true,
        unknown: Default::default(),
    }
}

fn outcome() -> Outcome {
    Outcome::bare(Verdict::OverLimit { limit: LimitName::MemoryBytes.into(), max: 65_536 })
}

fn lease() -> Lease {
    let mut lease = Lease::new("w1".parse().expect("a name"), SessionId(1));
    lease.home_dir = Nonce(3);
    lease
}

fn unwell() -> Lease {
    Lease { unwell: Some("a disk is full".into()), ..lease() }
}

fn inline() -> Data {
    Data::Inline("input".into())
}
