//! The events that a master's state machine observes, and the effects that it returns. Types only; no
//! decisions.

use super::Memory;
use crate::{
    BatchId, GroupName, MasterId, Revision, SessionId, TaskId, WorkerId,
    advisory::Advisory,
    api::{NewTask, TaskEnded, Transport},
    entitlement::Entitlement,
    lease::{CasAnswer, Lease, LeaseTiming, MasterLease},
    limit,
    message::{AttemptKey, Hello, ToWorker, WorkerCommand},
    registry::{FailoverGuard, Mark, Marks, ServerId},
    subject::Bucket,
    task::{Outcome, TaskRecord, TaskTimes},
    time::WallMillis,
    trace::Span,
};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::time::Duration;

pub use crate::LinkId;

/// The number of a client's request that waits for an answer, chosen by the shell.
pub type RequestId = u64;

/// What a master's session must know to begin.
#[derive(Clone, Debug)]
pub struct Config {
    /// The master's name.
    pub me: MasterId,
    /// This session of the master. A master that loses the connection to the registry begins a new
    /// session with a new state machine.
    pub session: SessionId,
    /// Earlier sessions of this master that are over for certain.
    pub succeeds: Vec<SessionId>,
    /// Those of `succeeds` that belonged to this process: what they knew is still known.
    pub remembers: Vec<SessionId>,
    /// What the previous session of this process has left.
    pub memory: Memory,
    /// The process of the registry's server to which this session is connected; `None` where the
    /// registry is several servers.
    pub server: Option<ServerId>,
    /// The process of the registry's server to which this session is connected, also in a cluster.
    pub connected_to: Option<ServerId>,
    /// Where workers reach the master, as `HOST:PORT`.
    pub address: Option<String>,
    /// Whether it issues certificates.
    pub issues: bool,
    /// How long the master waits before it declares a worker lost. A lease that asks for more gets
    /// more.
    pub timing: LeaseTiming,
    /// How long the registry keeps leases that are over: [`LEASE_KEEP`](limit::LEASE_KEEP).
    pub leases_keep: Duration,
}

impl Config {
    /// The first session of a process that knows nothing of the registry.
    pub fn new(me: MasterId, session: SessionId, timing: LeaseTiming) -> Self {
        let (succeeds, remembers, memory) = (Vec::new(), Vec::new(), Memory::default());
        let leases_keep = limit::LEASE_KEEP;
        let (server, connected_to) = (None, None);
        Config {
            me,
            session,
            succeeds,
            remembers,
            memory,
            server,
            connected_to,
            address: None,
            issues: false,
            timing,
            leases_keep,
        }
    }
}

/// What a session found when it loaded the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Where each stream ended when this session began to read it.
    pub ends: Marks,
    /// The highest revision of each stream that this process knows to exist or to have existed.
    pub known: Marks,
}

/// Something that happened, for [`Fleet::observe`](super::Fleet::observe).
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "leases, the largest, are most of them")]
pub enum Event {
    /// The registry does not answer any more. From now on the master only extends leases; when the
    /// registry is back, a new session begins.
    RegistryDown,
    /// Everything in the registry has been observed.
    Loaded(Loaded),
    /// The process is about to stop. Answered by [`Effect::Released`].
    Stopping,
    /// The wall clock, for the timestamps that people read.
    Clock(WallMillis),
    /// A worker's lease, as the registry has it.
    LeaseSeen(Lease, Revision),
    /// The registry has no lease for this worker, but a delete marker of this revision.
    LeaseGone(WorkerId, Revision),
    /// The failover guard, as the registry has it.
    GuardSeen(FailoverGuard, Revision),
    /// The answer to [`Effect::WriteGuard`].
    GuardWritten {
        /// The guard that was to be written.
        guard: FailoverGuard,
        /// The registry's answer.
        answer: CasAnswer<FailoverGuard>,
    },
    /// Whether a stream lacks a revision that the session knows, as far as a server of a cluster knows.
    StreamLags {
        /// The bucket.
        bucket: Bucket,
        /// Whether it does now.
        lags: bool,
    },
    /// The answer to [`Effect::ReadEnd`], from the stream's leader.
    EndRead {
        /// The bucket.
        bucket: Bucket,
        /// The number of the read, from [`Effect::ReadEnd`].
        read: u64,
        /// The last revision of the stream.
        end: Mark,
    },
    /// A master's lease, as the registry has it.
    MasterSeen(MasterLease, Revision),
    /// The registry has no lease for this session of a master any more.
    MasterGone(SessionId),
    /// The answer to [`Effect::WriteMaster`].
    MasterWritten {
        /// The lease that was to be written.
        lease: MasterLease,
        /// The registry's answer.
        answer: CasAnswer<MasterLease>,
    },
    /// The answer to [`Effect::WriteLease`].
    LeaseWritten {
        /// The lease that was to be written.
        lease: Lease,
        /// The link of the worker that asked for the renewal, if one did.
        asked_by: Option<LinkId>,
        /// The registry's answer.
        answer: CasAnswer<Lease>,
    },
    /// A task's record, as the watch delivers it: possibly late, but in the order of the revisions.
    TaskSeen(Box<TaskRecord>, Revision),
    /// The answer to [`Effect::ReadTask`], from the stream's leader.
    TaskRead {
        /// The task.
        task: TaskId,
        /// The number of the read, from [`Effect::ReadTask`].
        read: u64,
        /// The record and its revision; `None` where there is none.
        found: Option<(Box<TaskRecord>, Revision)>,
    },
    /// The answer to [`Effect::WriteTask`].
    TaskWritten {
        /// The task that was to be written.
        task: TaskId,
        /// The registry's answer.
        answer: CasAnswer<Box<TaskRecord>>,
    },
    /// A link to a worker is up, and the worker has sent its `Hello`.
    Linked {
        /// The name of the worker, from its certificate.
        worker: WorkerId,
        /// The link's number.
        link: LinkId,
        /// What carries the link.
        transport: Transport,
        /// What the worker may offer, from its certificate.
        entitlement: Arc<Entitlement>,
        /// What the worker has, by its own account.
        hello: Hello,
    },
    /// A link to a worker is down.
    Unlinked {
        /// The name of the worker, from its certificate.
        worker: WorkerId,
        /// The number of the link.
        link: LinkId,
    },
    /// A worker asks this master to renew its lease.
    RenewAsked {
        /// The name of the worker, from its certificate.
        worker: WorkerId,
        /// The link on which it asked, and on which the answer is sent.
        link: LinkId,
        /// The revision that the lease must have in the registry.
        expect: Revision,
        /// The new value of the lease.
        lease: Lease,
    },
    /// A worker asks this master, as its home, to extend its lease.
    ExtendAsked {
        /// The name of the worker, from its certificate.
        worker: WorkerId,
        /// The link on which it asked, and on which the answer is sent.
        link: LinkId,
        /// The session of the worker whose lease is to be extended.
        session: SessionId,
        /// The number of the renewal with which it asked.
        renewal: u64,
    },
    /// An operator sends a command to a worker.
    CommandAsked {
        /// The request to answer once the worker's lease shows that it has obeyed.
        request: RequestId,
        /// The name of the worker that shall obey.
        worker: WorkerId,
        /// What the worker shall do.
        command: WorkerCommand,
    },
    /// A worker reports the end of an attempt.
    Finished {
        /// The worker that reports it, from its certificate.
        worker: WorkerId,
        /// The link on which it was reported, and on which the acknowledgement is sent.
        link: LinkId,
        /// The attempt that ended.
        key: AttemptKey,
        /// The revision of the record that dispatched the attempt.
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
    /// A client asks to cancel a task.
    CancelAsked {
        /// The request to answer once the cancellation is stored.
        request: RequestId,
        /// The task to cancel.
        task: TaskId,
    },
}

/// Something that the executor has to do. It has a reason if the reason is not obvious.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Replace a task record if its revision is still `expect`.
    WriteTask {
        /// The revision it must have; [`ABSENT`](crate::ABSENT) to create it.
        expect: Revision,
        /// The new value.
        record: Arc<TaskRecord>,
        /// How long the registry keeps the record; for ever if absent.
        keep: Option<Duration>,
    },
    /// Read a task record from the stream's leader.
    ReadTask {
        /// The task.
        task: TaskId,
        /// The number of the read. An answer to an earlier read says nothing about a question that came
        /// after it.
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
        /// The link of the worker that asked for the renewal.
        asked_by: Option<LinkId>,
    },
    /// Replace a master's lease if its revision is still `expect`.
    WriteMaster {
        /// The revision it must have.
        expect: Revision,
        /// The new value.
        lease: MasterLease,
    },
    /// This session of the master was declared lost, or the registry does not answer it: begin another
    /// session on another connection, with a new state machine.
    BeginAnew,
    /// This master's own lease is given back, and the process may stop.
    Released,
    /// Send a frame to a worker.
    Send {
        /// The link to the worker. Nothing is sent if it is down by then.
        link: LinkId,
        /// The frame for the worker.
        message: ToWorker,
    },
    /// Close a worker's link. A new link begins with all that both ends must know.
    CloseLink {
        /// The link.
        link: LinkId,
        /// The worker at its other end.
        worker: WorkerId,
        /// Why, as a sentence for people.
        why: &'static str,
    },
    /// Answer a client.
    Reply {
        /// The request that is answered.
        request: RequestId,
        /// The answer to the request.
        answer: ClientReply,
    },
    /// Tell the client that waits for a task that the task has ended.
    Tell {
        /// Who listens for the end: the task's batch, or the task itself.
        audience: BatchId,
        /// The task that ended, and how.
        ended: TaskEnded,
        /// The group of the task.
        group: GroupName,
        /// How long it took.
        times: TaskTimes,
        /// The spans of the task, if its client wants a trace.
        spans: Vec<Span>,
    },
    /// Publish an event.
    Publish(Advisory),
}

/// The answer to a client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientReply {
    /// Every task of the submission is in the registry; this is how many.
    Stored(u64),
    /// The id belongs to another task, which differs in the named part. Other tasks of the submission
    /// may be in the registry or not.
    Differs(TaskId, &'static str),
    /// The cancellation is in the registry, or the task is over.
    CancelStored,
    /// The worker has obeyed.
    Obeyed,
    /// The request was not carried out; the text says why.
    Unavailable(String),
}
