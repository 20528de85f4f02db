//! Processes: their incarnations, the turns of their loops, and their inputs. Never makes a decision
//! that belongs to a state machine.
//!
//! A process gets no turn while it is stopped or its machine sleeps, and a loop gets no turn while it is
//! busy. Inputs that arrive meanwhile wait in order.

pub mod checkpoint;
pub mod guest;
pub mod health;
pub mod lease_thread;
pub mod master;
pub mod watch;
pub mod worker;

use crate::{
    network::LinkId,
    world::{Nanos, World},
};
use muster_protocol::{
    SessionId, attempts, fleet,
    lease::LeaseEvent,
    message::{AttemptKey, ToMaster, ToWorker},
};
use std::collections::VecDeque;

/// The state that every process has.
#[derive(Debug)]
pub struct Process {
    /// The number of its starts.
    pub incarnation: u64,
    /// Whether the process is running.
    pub alive: bool,
    /// The index of its machine.
    pub machine: usize,
    /// The time until which it is stopped.
    pub stopped_until: Nanos,
}

/// The inputs that wait for a loop's turn.
#[derive(Debug)]
pub struct LoopQueue<T> {
    /// The time until which the loop is busy.
    pub busy_until: Nanos,
    inbox: VecDeque<T>,
    turn: bool,
}

impl<T> Default for LoopQueue<T> {
    fn default() -> Self {
        LoopQueue { busy_until: 0, inbox: VecDeque::new(), turn: false }
    }
}

impl<T> LoopQueue<T> {
    /// Accepts an input. Returns the input if the loop can handle it now. Otherwise queues it, and
    /// returns the time at which the loop needs a turn, unless a turn is scheduled already.
    pub fn take_in(&mut self, now: Nanos, free: Nanos, input: T) -> (Option<T>, Option<Nanos>) {
        if free <= now && self.inbox.is_empty() {
            return (Some(input), None);
        }
        self.inbox.push_back(input);
        let needs = !core::mem::replace(&mut self.turn, true);
        (None, needs.then_some(free.max(now)))
    }

    /// The next queued input, at a turn of the loop.
    pub fn next_in(&mut self) -> Option<T> {
        let next = self.inbox.pop_front();
        self.turn = next.is_some();
        next
    }
}

/// An input of a master's loop.
#[derive(Clone, Debug)]
pub enum MasterIn {
    /// An event for one session of the master.
    OfSession(SessionId, Box<fleet::Event>),
    /// An event for the master's newest session.
    Fact(Box<fleet::Event>),
    /// A link was dialled.
    LinkUp(LinkId),
    /// A link is lost.
    LinkDown(LinkId),
    /// A frame.
    Frame(LinkId, Box<ToMaster>),
    /// The connection to the registry is up.
    Connected,
    /// This connection to the registry is lost.
    ConnectionLost(u64),
    /// A message for the follower of a stream in a session, from the consumer of this number.
    Word {
        /// The session.
        session: SessionId,
        /// The stream.
        stream: usize,
        /// The consumer.
        number: u64,
        /// What the stream or its consumer reports.
        word: Box<watch::Word>,
    },
    /// The time to plan has come.
    Tick(Nanos),
    /// An operator stops the process gracefully.
    Stop,
}

/// An input of the loop that keeps a worker's lease.
#[derive(Clone, Debug)]
pub enum LeaseIn {
    /// An event for the lease.
    Event(Box<LeaseEvent>),
    /// This connection to the registry is lost.
    ConnectionLost(u64),
    /// The time to plan has come.
    Tick(Nanos),
}

/// An input of a worker's main loop.
#[derive(Clone, Debug)]
pub enum WorkerLoopInput {
    /// An event for the state machine.
    Event(Box<attempts::Event>),
    /// A frame of a master.
    Frame(LinkId, Box<ToWorker>),
    /// The time to plan has come.
    Tick(Nanos),
}

/// Something that happens to a guest, unless its process is stopped.
#[derive(Clone, Copy, Debug)]
pub enum GuestIn {
    /// The guest may check its gate and have an effect.
    Poll(AttemptKey, u64),
    /// The guest reaches its end.
    End(AttemptKey, u64),
    /// A kill takes effect.
    Stop(AttemptKey, u64),
    /// The guest sends a checkpoint.
    Save(AttemptKey, u64),
    /// The answer to this question about a checkpoint has not come; the worker asks again.
    Ask(AttemptKey, u64, u64),
}

impl World {
    /// Whether a process gets no turn now.
    pub fn is_still(&self, process: &Process) -> bool {
        self.still_until(process) > self.now
    }

    /// The time until which a process gets no turn.
    pub fn still_until(&self, process: &Process) -> Nanos {
        process.stopped_until.max(self.machines[process.machine].asleep_until)
    }
}
