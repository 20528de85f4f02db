//! Processes: incarnations, turns, and what reaches them. Never decides anything that a mind decides.
//!
//! A process gets no turn while it is stopped or its machine sleeps, and a loop none while it is
//! busy; what reaches it then waits in order.

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

/// What any process is.
#[derive(Debug)]
pub struct Process {
    /// Counts its starts.
    pub incarnation: u64,
    /// Whether it lives.
    pub alive: bool,
    /// Where it runs.
    pub machine: usize,
    /// Until when it is stopped.
    pub stopped_until: Nanos,
}

/// What waits for a loop's turn.
#[derive(Debug)]
pub struct LoopQueue<T> {
    /// Until when the loop is busy with something.
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
    /// Takes something in. Gives it back if the loop is free to handle it now; else says when a
    /// turn has to be given to it, if none is coming yet.
    pub fn take_in(&mut self, now: Nanos, free: Nanos, input: T) -> (Option<T>, Option<Nanos>) {
        if free <= now && self.inbox.is_empty() {
            return (Some(input), None);
        }
        self.inbox.push_back(input);
        let needs = !core::mem::replace(&mut self.turn, true);
        (None, needs.then_some(free.max(now)))
    }

    /// What waits next, at a turn.
    pub fn next_in(&mut self) -> Option<T> {
        let next = self.inbox.pop_front();
        self.turn = next.is_some();
        next
    }
}

/// What reaches a master's loop.
#[derive(Clone, Debug)]
pub enum MasterIn {
    /// News for one incarnation of it.
    OfSession(SessionId, Box<fleet::Event>),
    /// News for the newest incarnation.
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
    /// Something for what follows a stream in a session: its consumer has a number.
    Word {
        /// The session.
        session: SessionId,
        /// The stream.
        stream: usize,
        /// The consumer.
        number: u64,
        /// What the stream said.
        word: Box<watch::Word>,
    },
    /// Time to plan.
    Tick(Nanos),
    /// A person stops it.
    Stop,
}

/// What reaches the loop that keeps a worker's lease.
#[derive(Clone, Debug)]
pub enum LeaseIn {
    /// A fact.
    Event(Box<LeaseEvent>),
    /// This connection to the registry is lost.
    ConnectionLost(u64),
    /// Time to plan.
    Tick(Nanos),
}

/// What reaches the loop of a worker's mind.
#[derive(Clone, Debug)]
pub enum WorkerLoopInput {
    /// A fact.
    Event(Box<attempts::Event>),
    /// A master has said something.
    Frame(LinkId, Box<ToWorker>),
    /// Time to plan.
    Tick(Nanos),
}

/// What happens to a guest, if the process is not stopped.
#[derive(Clone, Copy, Debug)]
pub enum GuestIn {
    /// It may look at its gate, and have an effect.
    Poll(AttemptKey, u64),
    /// It comes to its end.
    End(AttemptKey, u64),
    /// A kill takes effect.
    Stop(AttemptKey, u64),
    /// It wants to leave its state.
    Save(AttemptKey, u64),
    /// The answer to this question of it has not come.
    Ask(AttemptKey, u64, u64),
}

impl World {
    /// Whether a process gets no turn now.
    pub fn is_still(&self, process: &Process) -> bool {
        self.still_until(process) > self.now
    }

    /// Until when a process gets no turn.
    pub fn still_until(&self, process: &Process) -> Nanos {
        process.stopped_until.max(self.machines[process.machine].asleep_until)
    }
}
