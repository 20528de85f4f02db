//! The recorded values: one of each kind, none of whose fields has its default.

use muster_protocol::{
    AttemptId, Digest, Nonce, SessionId, TaskId,
    api::{ModuleEntry, ModuleVersion},
    checkpoint::Checkpoint,
    frame::FrameRange,
    grant::{Grants, Policy},
    lease::{CasAnswer, Home, Lease, LeaseState, MasterLease, Offer},
    message::{
        AttemptKey, Dispatch, HeldAttempt, Hello, LogChunk, LogSource, ObjectStore, StreamReply,
        StreamRequest, ToMaster, ToWorker, WorkerCommand,
    },
    registry::{FailoverGuard, Mark, Marks, ServerId, StreamId},
    subject::Bucket,
    task::{
        Attempt, Data, LimitName, Limits, ModuleRef, OnWorkerLost, Outcome, PastAttempt, Retry,
        TaskRecord, TaskSpec, TaskState, Verdict,
    },
    time::WallMillis,
};
use std::sync::Arc;

pub const KEY: AttemptKey = AttemptKey {
    task: TaskId(0x0190_1234_5678_9abc_def0_1234_5678_9abc),
    attempt: AttemptId(0x1234_5678_9abc_def0),
};

const SESSION: SessionId = SessionId(0xfedc_ba98_7654_3210);

fn bytes() -> Data {
    Data::Inline(vec![0, 159, 146, 150].into())
}

fn blob() -> Data {
    Data::Blob { digest: Digest([0xab; 32]), size: 70_000 }
}

fn mark() -> Mark {
    Mark { stream: StreamId(1_790_000_000_000_000_000), revision: 1_000_000 }
}

fn grants() -> Grants {
    Grants {
        env: [("KEY".into(), "value".into())].into(),
        secrets: ["TOKEN".into()].into(),
        http: ["*.example.com:8443".parse().expect("a rule")].into(),
        dir_bytes: 1 << 20,
        clock_ns: 1_000,
        random: true,
    }
}

fn limits() -> Limits {
    Limits {
        timeout_ms: 1,
        memory_bytes: 300,
        output_bytes: 70_000,
        cpu_ms: 4,
        queue_ms: 5,
        log_bytes: 6,
        checkpoint_bytes: 7,
    }
}

fn spec() -> TaskSpec {
    let module = ModuleRef { name: Some("upper:1.2".into()), digest: Digest([1; 32]) };
    TaskSpec {
        args: vec!["--top".into(), "10".into()],
        group: "shop".parse().expect("a name"),
        selector: [("region".into(), "eu".into())].into(),
        priority: 70,
        limits: limits(),
        grants: Arc::new(grants()),
        retry: Retry { attempts_max: 3, backoff_ms: 2_000, backoff_max_ms: 30_000 },
        on_worker_lost: OnWorkerLost::Fail,
        batch: Some(muster_protocol::BatchId(9)),
        ..TaskSpec::new(module, Data::Inline("input".into()))
    }
}

fn attempt() -> Attempt {
    Attempt {
        id: KEY.attempt,
        number: 2,
        worker: "w1".parse().expect("a name"),
        session: SESSION,
        lease: 5,
        lease_stream: StreamId(6),
        dispatched_at: WallMillis(1_700_000_000_001),
        alone: false,
        to_silent: false,
        unknown: Default::default(),
    }
}

fn task(state: TaskState) -> TaskRecord {
    let mut task = TaskRecord::queued(KEY.task, Arc::new(spec()), WallMillis(1_700_000_000_000));
    task.history.push(PastAttempt {
        attempt: Attempt { number: 1, ..attempt() },
        ended_at: WallMillis(1_700_000_000_002),
        lost: true,
        reason: "worker w1 was lost".into(),
    });
    (task.cancel, task.attempts, task.failures, task.losses) = (true, 2, 1, 1);
    (task.write, task.writer) = (Nonce(7), SESSION);
    TaskRecord { state, ..task }
}

fn outcome(verdict: Verdict, output: Data) -> Outcome {
    let stderr = "the end".into();
    Outcome { verdict, output, stderr, run_us: 1_000, cpu_us: 300, log_dropped: 4 }
}

/// Each verdict, with different kinds of output.
pub fn outcomes() -> Vec<Outcome> {
    let message = String::from("why");
    let verdicts = [
        Verdict::Completed,
        Verdict::Failed { code: 3, message: message.clone() },
        Verdict::Trapped { message: message.clone() },
        Verdict::TimedOut { limit_ms: 1_000 },
        Verdict::OverLimit { limit: LimitName::MemoryBytes.into(), max: 65_536 },
        Verdict::Rejected { message: message.clone() },
        Verdict::Cancelled,
        Verdict::Returned { reason: message },
        Verdict::Lost { workers: 5 },
    ];
    let outputs = [Data::Inline("text".into()), bytes(), blob()].into_iter().cycle();
    verdicts.into_iter().zip(outputs).map(|(verdict, output)| outcome(verdict, output)).collect()
}

/// Records of tasks, by name.
pub fn tasks() -> Vec<(String, TaskRecord)> {
    let queued = TaskState::Queued { wait_ms: 250, kept: None };
    let mut tasks = vec![
        ("task-queued".into(), task(queued)),
        ("task-dispatched".into(), task(TaskState::Dispatched(attempt()))),
    ];
    for outcome in outcomes() {
        let name = format!("task-{}", outcome.verdict.word());
        let attempt = Some(attempt());
        let ended_at = WallMillis(1_700_000_000_009);
        tasks.push((name, task(TaskState::Done { outcome: Arc::new(outcome), attempt, ended_at })));
    }
    tasks
}

pub fn lease() -> Lease {
    let policy = Policy {
        env: false,
        secrets: ["TOKEN".into()].into(),
        secret_modules: Default::default(),
        signers: Default::default(),
        http: ["api.example.com".parse().expect("a rule")].into(),
        dir_bytes: 9,
        clock_ns: 10,
        random: false,
    };
    let offer = Offer {
        group: "shop".parse().expect("a name"),
        labels: [("zone".into(), "north".into())].into(),
        slots: 4,
        memory_bytes: 1 << 33,
        memory_total: None,
        version: "0.1.0".into(),
        policy: Arc::new(policy),
    };
    Lease {
        renewal: 300,
        state: LeaseState::Draining,
        home_dir: Nonce(3),
        succeeds: vec![SessionId(6)],
        fenced: true,
        holds: mark(),
        home: Some(Home { master: "m1".parse().expect("a name"), session: SESSION }),
        master_wait_ms: 4_500,
        offer,
        renewed_at: WallMillis(1_700_000_000_000),
        ..Lease::new("w1".parse().expect("a name"), SESSION)
    }
}

pub fn unwell() -> Lease {
    Lease { unwell: Some("a disk is full".into()), ..lease() }
}

pub fn master() -> MasterLease {
    MasterLease {
        master: "m1".parse().expect("a name"),
        session: SESSION,
        renewal: 2,
        state: LeaseState::Live,
        wait_ms: 60_121,
        workers: 3,
        remembers: vec![SessionId(4)],
        vouches: Some(ServerId("NSERVER".into())),
        connected_to: None,
        address: None,
        issues: false,
        renewed_at: WallMillis(1_700_000_000_000),
        unknown: Default::default(),
    }
}

pub fn guard() -> FailoverGuard {
    FailoverGuard {
        nonce: Nonce(1),
        raised_by: SESSION,
        lifted: true,
        tasks: mark(),
        wait_ms: 65_000,
        reason: "the registry has lost writes".into(),
        raised_at: WallMillis(1_700_000_000_000),
        unknown: Default::default(),
    }
}

pub fn checkpoint() -> Checkpoint {
    Checkpoint {
        submitted_at: WallMillis(1_700_000_000_000),
        attempt: KEY.attempt,
        number: 2,
        save: 3,
        state: Some(blob()),
        saved_at: WallMillis(1_700_000_000_001),
        unknown: Default::default(),
    }
}

pub fn module() -> ModuleEntry {
    let version = ModuleVersion {
        version: "1.2".into(),
        digest: Digest([1; 32]),
        size: 3,
        kind: "component".into(),
        pushed_at: WallMillis(1_700_000_000_000),
        signature: None,
        unknown: Default::default(),
    };
    ModuleEntry { versions: vec![version], ..ModuleEntry::new("upper") }
}

pub fn marks() -> Marks {
    let mut marks = Marks::default();
    // The others were added later.
    for bucket in [Bucket::Workers, Bucket::Masters, Bucket::Tasks, Bucket::Modules] {
        marks.set(bucket, mark());
    }
    marks
}

fn held() -> HeldAttempt {
    HeldAttempt { key: KEY, revision: 1_000_000 }
}

/// The frames of a worker on the control stream, by name.
pub fn to_master(frames: FrameRange) -> Vec<(String, ToMaster)> {
    let hello = Hello {
        to: SessionId(1),
        session: SESSION,
        attempts: vec![held()],
        holds: mark(),
        version: "0.1.0".into(),
        frames,
    };
    let mut messages = vec![
        ("hello".into(), ToMaster::Hello(hello)),
        ("renew".into(), ToMaster::Renew { expect: 1_000_000, lease: lease() }),
        ("renew-unwell".into(), ToMaster::Renew { expect: 1_000_000, lease: unwell() }),
        ("extend".into(), ToMaster::Extend { session: SESSION, renewal: 300 }),
        ("progress".into(), ToMaster::Progress { key: KEY, done: 1, total: 300 }),
    ];
    for outcome in outcomes() {
        let name = format!("finished-{}", outcome.verdict.word());
        messages.push((name, ToMaster::Finished { key: KEY, revision: 1_000_000, outcome }));
    }
    messages
}

pub fn dispatch() -> Dispatch {
    Dispatch {
        key: KEY,
        session: SESSION,
        revision: 1_000_000,
        stream: mark().stream,
        held_max: 256,
        alone: false,
        number: 2,
        module: Digest([1; 32]),
        signature: None,
        input: bytes(),
        args: vec!["-v".into()],
        limits: limits(),
        grants: Arc::new(grants()),
        trace: None,
    }
}

/// The frames of a master on the control stream, by name.
pub fn to_worker(frames: FrameRange) -> Vec<(String, ToWorker)> {
    let master = Home { master: "m1".parse().expect("a name"), session: SESSION };
    let machine = Nonce(u64::MAX);
    let renewed = |answer| ToWorker::Renewed { session: SESSION, renewal: 300, answer };
    let (key, revision) = (KEY, 1_000_000);
    [
        ("welcome", ToWorker::Welcome { master, machine, version: "0.1.0".into(), frames }),
        ("dispatch", ToWorker::Dispatch(dispatch())),
        ("revoke", ToWorker::Revoke { key, revision }),
        ("preempt", ToWorker::Preempt { key, revision }),
        ("renewed-written", renewed(CasAnswer::Written(revision))),
        ("renewed-conflict", renewed(CasAnswer::Conflict(Some((lease(), revision))))),
        ("renewed-nothing", renewed(CasAnswer::Conflict(None))),
        ("renewed-gone", renewed(CasAnswer::Gone(revision))),
        ("renewed-unknown", renewed(CasAnswer::Unknown)),
        ("extended", ToWorker::Extended { session: SESSION, home: SessionId(1), renewal: 300 }),
        ("ack", ToWorker::Ack { key, committed: true }),
        ("order-cordon", ToWorker::Command(WorkerCommand::Cordon)),
        ("order-drain", ToWorker::Command(WorkerCommand::Drain { deadline_ms: 1_000 })),
        ("order-uncordon", ToWorker::Command(WorkerCommand::Uncordon)),
    ]
    .map(|(name, message)| (name.into(), message))
    .into()
}

/// The requests of a worker on other streams, by name.
pub fn asks() -> Vec<(String, StreamRequest)> {
    let digest = Digest([0xcd; 32]);
    [
        ("ask-control", StreamRequest::Control),
        ("ask-fetch-module", StreamRequest::Fetch { store: ObjectStore::Modules, digest }),
        ("ask-fetch-data", StreamRequest::Fetch { store: ObjectStore::Data, digest }),
        ("ask-put", StreamRequest::Put { digest, size: 70_000 }),
        ("ask-checkpoint", StreamRequest::Checkpoint { attempt: held(), save: 3, state: bytes() }),
        ("ask-resume", StreamRequest::Resume { attempt: held() }),
    ]
    .map(|(name, message)| (name.into(), message))
    .into()
}

/// The replies to them, by name.
pub fn tolds() -> Vec<(String, StreamReply)> {
    [
        ("told-size", StreamReply::Size(70_000)),
        ("told-stored", StreamReply::Stored),
        ("told-state", StreamReply::State(blob())),
        ("told-stale", StreamReply::Stale),
        ("told-missing", StreamReply::Missing),
        ("told-failed", StreamReply::Failed("later".into())),
        ("told-behind", StreamReply::Behind),
    ]
    .map(|(name, message)| (name.into(), message))
    .into()
}

/// Log chunks, by name.
pub fn logs() -> Vec<(String, LogChunk)> {
    let chunk = |source, text: &'static [u8]| LogChunk { key: KEY, source, text: text.into() };
    [
        ("log-stderr", chunk(LogSource::Stderr, b"line\n\xff")),
        ("log-log", chunk(LogSource::Log, b"line\n")),
    ]
    .map(|(name, message)| (name.into(), message))
    .into()
}
