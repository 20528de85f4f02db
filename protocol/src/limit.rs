//! The limits that several parts must agree on, with the origin of each number.

use core::time::Duration;

/// The largest control frame. An inline payload, its record and room to spare; checked before
/// anything is allocated, so that a peer cannot ask for memory.
pub const FRAME_SIZE_MAX: usize = 256 * 1024;

/// The largest first frame of a stream. It may have the state of a checkpoint, inline.
pub const REQUEST_SIZE_MAX: usize = 32 * 1024;

/// The largest input or output kept inside the task record. Beyond it the bytes go to the object
/// store: a record is rewritten at every change, so it has to stay small.
pub const INLINE_SIZE_MAX: usize = 16 * 1024;

/// The largest specification of a task, as JSON. The limits of its single fields add up to more than a frame
/// holds.
pub const SPEC_SIZE_MAX: usize = 192 * 1024;

/// The largest record of a task, as JSON: its specification, with an outcome and a history of the longest
/// texts. NATS' default `max_payload` is a third more.
pub const RECORD_SIZE_MAX: usize = 768 * 1024;

/// The largest lease, as JSON. Every renewal carries it.
pub const LEASE_SIZE_MAX: usize = 64 * 1024;
/// The largest lease with which a worker starts. The rest is for what a lease gains: earlier sessions, a
/// home, a shortage, fields of a later version.
pub const LEASE_DRAFT_MAX: usize = LEASE_SIZE_MAX / 2;

/// The largest input or output of a task.
pub const PAYLOAD_SIZE_MAX: u64 = 64 * 1024 * 1024;

/// The largest module. Python and JavaScript guests carry their interpreter: 12 to 18 MB.
pub const MODULE_SIZE_MAX: u64 = 64 * 1024 * 1024;

/// The largest signature of a module, as text. The fixed parts take 300 bytes; the rest is for comments. The
/// record of each task has it.
pub const SIGNATURE_SIZE_MAX: usize = 1024;

/// The most digests, and the most keys of signers, that a policy names for one secret, and the most keys that it
/// demands of modules. A lease carries them.
pub const SIGNERS_MAX: usize = 16;

/// The most secrets that the registry keeps for one worker. The worker's lease names all of them, with the modules
/// that may have them.
pub const SEALED_SECRETS_MAX: usize = 32;
/// The largest encrypted secret, in bytes: the longest value of a variable, 4 KiB, and what age adds to it, which is
/// some 500 bytes.
pub const SEALED_SIZE_MAX: usize = 5 * 1024;

/// The most tasks in one submission: with small inputs that is one NATS message of under 1 MiB.
pub const SUBMIT_TASKS_MAX: usize = 1_000;

/// The largest request or answer body: NATS' own default `max_payload`.
pub const API_SIZE_MAX: usize = 1024 * 1024;

/// Earlier attempts kept in a record; older ones are counted, not listed.
pub const HISTORY_MAX: usize = 16;

/// How often a task may be lost with its worker before it is a suspect, which runs alone. A loss may have
/// another cause, such as a power failure; two are seldom chance.
pub const SUSPECT_AFTER: u32 = 2;
/// How often a task may be lost with its worker while it runs alone, before it is quarantined: with the
/// losses that made it a suspect, it has lost five workers by then.
pub const LOST_ALONE_MAX: u32 = 3;

/// The longest message kept of a failure, in bytes.
pub const MESSAGE_SIZE_MAX: usize = 2 * 1024;

/// The end of standard error kept with an outcome, in bytes.
pub const STDERR_TAIL_MAX: usize = 2 * 1024;

/// The longest time limit that a task may ask for.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The time limit of an attempt, unless the task says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(3600);

/// How long a task may be queued, by default and at most: a task that nobody ran for a week is of no
/// use to its client any more.
pub const QUEUE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Bytes of log that a run may write at once: a stack trace or a start-up banner.
pub const LOG_BURST: u64 = 64 * 1024;
/// Bytes of log per second that a run may write over time: 2,000 lines of 128 bytes.
pub const LOG_RATE: u64 = 256 * 1024;
/// Bytes that a piece of a log costs besides its own, so that empty lines are not free.
pub const LOG_CHUNK_COST: u64 = 64;
/// The longest piece of a log, in bytes. A line of `log` is cut there; a line of standard error
/// continues in the next piece.
pub const LOG_CHUNK_MAX: usize = 4 * 1024;

/// The most bytes of log of an attempt, unless the task says otherwise: about a minute at the full rate
/// of 256 KiB/s. The log stream keeps the newest of all tasks together, up to the size that its master
/// was configured with.
pub const LOG_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// The most bytes of log that a task may ask for: about an hour at the full rate.
pub const LOG_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The largest checkpoint of a task unless it says otherwise, in bytes: a second on a slow line of
/// 16 MB/s. At most [`PAYLOAD_SIZE_MAX`].
pub const CHECKPOINT_DEFAULT: u64 = 16 * 1024 * 1024;

/// The linear memory of an attempt in bytes, unless the task says otherwise.
pub const MEMORY_DEFAULT: u64 = 128 * 1024 * 1024;
/// The most linear memory that a task may ask for, in bytes: 32-bit Wasm cannot address more.
pub const MEMORY_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// How long a finished record is kept at most.
pub const RETENTION_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a finished record is kept at least, however fast tasks end: its client must be able to read
/// the result.
pub const RETENTION_MIN: Duration = Duration::from_secs(600);
/// About how many finished records are kept.
pub const RETENTION_TASKS: u64 = 1_000_000;

/// How much work a worker may queue beyond its running attempts: enough to hide a round trip.
pub const AHEAD_WORK: Duration = Duration::from_millis(20);
/// The same as a number of tasks.
pub const AHEAD_TASKS_MAX: u32 = 256;

/// How much work a worker starts beyond its slots. Such a run waits for a slot on a thread that ends
/// others, so that the thread continues with it at once. Little, since a started run is not returned.
pub const BEGUN_WORK: Duration = Duration::from_millis(1);
/// The same as a number of tasks: the shortest take some 15 µs.
pub const BEGUN_TASKS_MAX: u32 = 64;

/// How long attempts wait on a worker for a slot, or for memory, while no run ends there, until it returns them. Its runs
/// take longer then than its master expected, and another worker may have room.
pub const ROOM_WAIT_MAX: Duration = Duration::from_secs(2);

/// The longest version of a program that a frame may name, in bytes.
pub const VERSION_SIZE_MAX: usize = 64;

/// The most attempts in one `Hello`. A worker with more of them leaves out those that have ended: it sends
/// their outcomes anyway.
pub const HELLO_ATTEMPTS_MAX: usize = 2_048;
/// How many inquiries of one worker about attempts that its master does not know may wait for the registry:
/// as many as one `Hello` has attempts, and as many outcomes besides.
pub const INQUIRIES_MAX: usize = 2 * HELLO_ATTEMPTS_MAX;

/// How many writes of tasks a master has under way at once. Enough to saturate the registry (90,000
/// writes/s at under 10 ms), few enough to bound memory.
pub const WRITES_MAX: usize = 1_024;

/// The takeover delay: how long masters leave a task to its owner or its last writer before they act as
/// well. A master's silence is noticed in the same time.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// The longest wait that a worker's lease may ask of masters. Each profile asks for less, and so must
/// those of later versions: masters of this version would declare their workers lost too early. A forged
/// lease makes its tasks wait no longer.
pub const MASTER_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a nats-server of a cluster may consider itself the leader of a stream that another server
/// leads: it steps down when it has not heard from most of the others for ten seconds.
pub const LEADER_LAG_MAX: Duration = Duration::from_secs(12);

/// How long the registry may leave all renewals of a master's own lease unanswered before the master
/// connects to another server. Longer than a cluster elects, which takes up to nine seconds.
pub const REGISTRY_SILENCE_MAX: Duration = Duration::from_secs(12);

/// How much higher a task's priority must be than that of a run it preempts. The gap keeps neighbouring
/// priorities from preempting each other in turn.
pub const PREEMPT_GAP: u8 = 10;

/// How long a lease that is over is kept for people, and how long masters remember its worker.
pub const LEASE_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a master declares no worker lost because too many are silent at once. Afterwards it does:
/// half a fleet may really have lost power.
pub const MASS_SILENCE_MAX: Duration = Duration::from_secs(60);
/// The smallest fleet, in workers, for which failovers are paused.
pub const MASS_SILENCE_WORKERS_MIN: usize = 4;

/// The longest text in a lease on what the worker's host lacks, in bytes: a path and two sentences.
/// Every renewal carries it.
pub const UNWELL_SIZE_MAX: usize = 512;

/// The longest reason in a lease for which a worker gave up an upgrade, in bytes. Every renewal carries it.
pub const UPGRADE_REASON_MAX: usize = 512;

/// How many sites a master watches. Each costs the hub a stream, and NATS reserves room for it; and each
/// is looked at every few seconds.
pub const SITES_MAX: usize = 64;
/// How often a master looks at the copy of a site's events: a source that stands still goes on after this
/// time and a second.
pub const SITE_LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a site that is heard may be silent: its heartbeat comes every second.
pub const SITE_SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long the copy of a site's events may be incomplete before it counts as lagging: longer than the
/// restart of a server takes, or a bad moment of a long line.
pub const SITE_LAGGING_AFTER: Duration = Duration::from_secs(15);
/// How long a source that was set up anew is left alone: several times as long as an answer takes on a
/// slow line.
pub const SITE_RENEW_EVERY: Duration = Duration::from_secs(15);

/// The longest deadline of a drain.
pub const DRAIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// How many labels a worker or a selector may have.
pub const LABELS_MAX: usize = 32;
