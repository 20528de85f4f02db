//! What a master's mind is told and what it asks for. Types only; no decisions.

use crate::{
    BatchId, MasterId, Revision, SessionId, TaskId, WorkerId,
    advisory::Advisory,
    api::{NewTask, TaskEnded},
    lease::{CasAnswer, Lease, LeaseTiming, MasterLease},
    limit,
    message::{AttemptKey, Hello, ToWorker, WorkerCommand},
    registry::{FailoverGuard, Mark, Marks, ServerId},
    sessions::Memory,
    subject::Bucket,
    task::{Outcome, TaskRecord},
    time::WallMillis,
};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

/// A link to a worker, numbered by the shell: a reconnect has another number.
pub type LinkId = u64;

/// A client's request that waits for an answer, numbered by the shell.
pub type RequestId = u64;

/// What a master must know to begin.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name.
    pub me: MasterId,
    /// This life of it. A master that lost its registry begins a new one with a new mind.
    pub session: SessionId,
    /// Earlier sessions of it that are over for certain.
    pub succeeds: Vec<SessionId>,
    /// Those of them that were of this process: what they knew is still known.
    pub remembers: Vec<SessionId>,
    /// What the session before has left.
    pub memory: Memory,
    /// The life of the registry's server to which this session is connected; `None` where the registry
    /// is several servers.
    pub server: Option<ServerId>,
    /// How long it waits before it declares a worker lost; a lease that asks for more gets more.
    pub timing: LeaseTiming,
    /// How long the registry keeps leases that are over: [`LEASE_KEEP`](limit::LEASE_KEEP).
    pub leases_keep: Duration,
}

impl Config {
    /// The first session of a process that knows nothing of the registry.
    pub fn new(me: MasterId, session: SessionId, timing: LeaseTiming) -> Self {
        let (succeeds, remembers, memory) = (Vec::new(), Vec::new(), Memory::default());
        let leases_keep = limit::LEASE_KEEP;
        Config { me, session, succeeds, remembers, memory, server: None, timing, leases_keep }
    }
}

/// What a session has found in the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Where each stream ended when this session began to read it.
    pub ends: Marks,
    /// The highest revisions that this process knows to exist or to have existed.
    pub known: Marks,
}

/// A fact.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "leases, the largest, are most of them")]
pub enum Event {
    /// The registry does not answer any more. Nothing is decided from now on but what needs none of
    /// it; when it is back, a new mind begins.
    RegistryDown,
    /// All that is in the registry has been observed.
    Loaded(Loaded),
    /// The process is about to stop. Answered by [`Effect::Released`].
    Stopping,
    /// The wall clock, for the stamps that people read.
    Clock(WallMillis),
    /// A lease as the registry has it.
    LeaseSeen(Lease, Revision),
    /// The registry has no lease for this worker, but a mark of this revision that one was deleted.
    LeaseGone(WorkerId, Revision),
    /// The failover guard as the registry has it.
    GuardSeen(FailoverGuard, Revision),
    /// The answer to [`Effect::WriteGuard`].
    GuardWritten {
        /// What was to be written.
        guard: FailoverGuard,
        /// The registry's answer.
        answer: CasAnswer<FailoverGuard>,
    },
    /// The answer to [`Effect::ReadEnd`], from the stream's leader.
    EndRead {
        /// The bucket.
        bucket: Bucket,
        /// The number of the read.
        read: u64,
        /// Where the stream ends.
        end: Mark,
    },
    /// A master's lease as the registry has it.
    MasterSeen(MasterLease, Revision),
    /// The registry has no lease for this life of a master any more.
    MasterGone(SessionId),
    /// The answer to [`Effect::WriteMaster`].
    MasterWritten {
        /// What was to be written.
        lease: MasterLease,
        /// The registry's answer.
        answer: CasAnswer<MasterLease>,
    },
    /// The answer to [`Effect::WriteLease`].
    LeaseWritten {
        /// What was to be written.
        lease: Lease,
        /// The worker's link that asked for it, if one did.
        asked_by: Option<LinkId>,
        /// The registry's answer.
        answer: CasAnswer<Lease>,
    },
    /// A record as the watch reports it: possibly late, but in the order of the revisions.
    TaskSeen(Box<TaskRecord>, Revision),
    /// The answer to [`Effect::ReadTask`], from the stream's leader.
    TaskRead {
        /// The task.
        task: TaskId,
        /// The number of the read.
        read: u64,
        /// The record; `None` where there is none.
        found: Option<(Box<TaskRecord>, Revision)>,
    },
    /// The answer to [`Effect::WriteTask`].
    TaskWritten {
        /// The task that was to be written.
        task: TaskId,
        /// The registry's answer.
        answer: CasAnswer<Box<TaskRecord>>,
    },
    /// A worker's link is up, and this is what it says it has.
    Linked {
        /// The name of the worker, from its certificate.
        worker: WorkerId,
        /// The link's number.
        link: LinkId,
        /// What it says.
        hello: Hello,
    },
    /// A link is down.
    Unlinked {
        /// The name of the worker, from its certificate.
        worker: WorkerId,
        /// The number of the link.
        link: LinkId,
    },
    /// A worker wants its lease renewed through this master.
    RenewAsked {
        /// Who, by its certificate.
        worker: WorkerId,
        /// The link on which it asked, and on which the answer is sent.
        link: LinkId,
        /// The revision that the lease must have.
        expect: Revision,
        /// Its new value.
        lease: Lease,
    },
    /// A worker wants its lease extended by this master, its home.
    ExtendAsked {
        /// Who, by its certificate.
        worker: WorkerId,
        /// The link on which it asked, and on which the answer is sent.
        link: LinkId,
        /// The session of the worker whose lease is to be extended.
        session: SessionId,
        /// The renewal with which it asked.
        renewal: u64,
    },
    /// Somebody wants something of a worker.
    CommandAsked {
        /// The request to answer once the worker's lease says that it has obeyed.
        request: RequestId,
        /// The name of the worker that shall obey.
        worker: WorkerId,
        /// What the worker shall do.
        command: WorkerCommand,
    },
    /// An attempt ended.
    Finished {
        /// The worker that reports it, from its certificate.
        worker: WorkerId,
        /// The link on which it was reported, and on which the acknowledgement is sent.
        link: LinkId,
        /// The attempt that ended.
        key: AttemptKey,
        /// The revision of the record that gave it.
        revision: Revision,
        /// How the attempt ended, as its worker reports it.
        outcome: Outcome,
    },
    /// A client submits tasks; their specifications have been checked.
    Submitted {
        /// The request to answer once all are stored.
        request: RequestId,
        /// The tasks.
        tasks: Vec<NewTask>,
    },
    /// A client wants a task cancelled.
    CancelAsked {
        /// The request to answer once the wish is stored.
        request: RequestId,
        /// The task to cancel.
        task: TaskId,
    },
}

/// Something to be done. It carries its reason where it is not plain.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Replace a task record if its revision is still `expect`.
    WriteTask {
        /// The revision it must have; [`ABSENT`](crate::ABSENT) to create it.
        expect: Revision,
        /// The new value.
        record: Arc<TaskRecord>,
        /// How long the registry keeps it; for ever where absent.
        keep: Option<Duration>,
    },
    /// Read a task record from the stream's leader.
    ReadTask {
        /// The task.
        task: TaskId,
        /// The number of the read, by which its answer is known: an answer to an earlier read says
        /// nothing about what was asked after it.
        read: u64,
    },
    /// Read the end of a bucket's stream from its leader.
    ReadEnd {
        /// The bucket.
        bucket: Bucket,
        /// The number of the read.
        read: u64,
    },
    /// Replace the failover guard if its revision is still `expect`.
    WriteGuard {
        /// The revision it must have.
        expect: Revision,
        /// The new value.
        guard: FailoverGuard,
    },
    /// Replace a lease if its revision is still `expect`.
    WriteLease {
        /// The revision it must have.
        expect: Revision,
        /// The new value.
        lease: Lease,
        /// The worker's link that asked for it.
        asked_by: Option<LinkId>,
    },
    /// Replace a master's lease if its revision is still `expect`.
    WriteMaster {
        /// The revision it must have.
        expect: Revision,
        /// The new value.
        lease: MasterLease,
    },
    /// This life of the master was declared lost: begin another, with a new mind.
    BeginAnew,
    /// This master's own lease is given back, and the process may stop.
    Released,
    /// Say something to a worker.
    Send {
        /// The link to the worker. Nothing is sent if it is down by then.
        link: LinkId,
        /// The frame for the worker.
        message: ToWorker,
    },
    /// Answer a client.
    Reply {
        /// The request that is answered.
        request: RequestId,
        /// The answer to the request.
        answer: ClientReply,
    },
    /// Tell those who wait for it that a task has ended.
    Tell {
        /// Who listens for the end: the task's batch, or the task itself.
        audience: BatchId,
        /// The task that ended, and how.
        ended: TaskEnded,
    },
    /// Tell the world.
    Publish(Advisory),
}

/// The answer to a client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientReply {
    /// Every task is in the registry.
    Stored(u64),
    /// The id of this one is that of another task, which asks for this differently. The others of the
    /// submission may be in the registry or not.
    Differs(TaskId, &'static str),
    /// The wish to cancel is in the registry, or the task is over.
    CancelStored,
    /// The worker has obeyed.
    Obeyed,
    /// It was not done; the reason says why.
    Unavailable(String),
}
