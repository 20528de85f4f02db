//! A lease in the registry: two workers, two masters, one task. Never a home: see `home`.
//!
//! A master has no state except the write that it has in flight. So two masters also stand for one
//! master that has stopped waiting for a write which may still be accepted. The model does not contain
//! what a master has seen: a master that saw a renewal at once may declare the loss first, and a master
//! that is behind cannot win its compare-and-set. Where a fault lets such a master win, `wait` counts
//! from the renewal that it saw last.

mod act;

use crate::{check, clock::*};
use stateright::{Model, Property};

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The worker counts a renewal from its acknowledgement.
    StampsAtAnswer,
    /// The masters' wait is a tick less than the inequality demands.
    WaitsTooShort,
    /// A master writes `lost` over any revision (M2).
    DeclaresWithoutCas,
    /// A master dispatches the task again after its wait, without `lost` in the registry (M2).
    RedispatchesBeforeLost,
    /// Any session of the worker runs a dispatch that reaches it.
    DispatchNamesNoSession,
    /// A new session takes the key while the session before it still runs, as if that session were dead.
    SucceedsWithoutProof,
    /// A session that was declared lost before it knew of its lease writes a new lease.
    RisesFromLost,
    /// A dispatch is sent together with its write, and not after it.
    SendsBeforeItIsStored,
    /// An outcome is written over any revision (M3).
    CommitsWithoutCas,
}

/// The model, with one broken rule or none.
pub struct Fleet(pub Option<Fault>);

/// Sessions of a worker: one to be lost and one to come after it.
const SESSIONS: u8 = 2;
/// Attempts of the task: the third may run where the first ran.
const ATTEMPTS: u8 = 3;
/// Dispatches on their way, one for each attempt.
const MAIL_MAX: usize = ATTEMPTS as usize;
/// Renewals of a worker in flight, one for each session.
const SENT_MAX: usize = SESSIONS as usize;
/// The session of another process with the same name.
const STRANGER: u8 = SESSIONS + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    keys: [Key; 2],
    workers: [Worker; 2],
    /// The write that each master has in flight.
    masters: [Option<Write>; 2],
    task: Task,
    mail: [Option<Dispatch>; MAIL_MAX],
    /// The attempts whose outcomes were sent, as bits.
    outcomes: u8,
    committed: u8,
}

/// A worker's key in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    session: u8,
    lost: bool,
    /// The remaining part of `L_m`, for a master that saw the newest renewal at once.
    wait: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Worker {
    session: u8,
    /// Whether any renewal of this session was acknowledged.
    held: bool,
    /// Ticks until the kernel kills the runs. The gate is open while there are more than [`MARGIN`] of
    /// them.
    left: u8,
    /// The attempts that run, as bits.
    runs: u8,
    /// Renewals from the key's present revision that are neither accepted nor lost.
    sent: [Option<Renewal>; SENT_MAX],
    /// The age of the accepted renewal, until the worker learns that it was accepted.
    landed: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Renewal {
    session: u8,
    age: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Dispatch {
    attempt: u8,
    worker: u8,
    session: u8,
}

/// A master's compare-and-set from the newest revision of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Write {
    Lost(u8),
    Dispatch(Dispatch),
    Commit(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Task {
    Queued,
    Dispatched(Dispatch),
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick,
    /// This worker sends a renewal.
    Renew(u8),
    /// The registry accepts a renewal of this worker.
    Land(u8, u8),
    Lose(u8, u8),
    /// This worker learns that its renewal was accepted.
    Learn(u8),
    /// This worker ends with all its runs, and begins a new session with proof of that.
    Restart(u8),
    /// The run of this worker ends and its outcome is sent.
    Finish(u8),
    /// This dispatch arrives.
    Deliver(u8),
    /// A master sends `lost` for a worker.
    Declare(u8, u8),
    /// A master writes that the task is dispatched to a worker.
    Dispatch(u8, u8),
    /// A master writes the outcome of an attempt.
    Commit(u8, u8),
    /// The registry accepts the write of this master.
    Store(u8),
    LoseWrite(u8),
    /// Another process takes the key: [`Fault::SucceedsWithoutProof`].
    Usurp(u8),
}

impl State {
    fn has_lapsed(&self, w: usize) -> bool {
        self.workers[w].held && self.workers[w].left <= MARGIN
    }

    /// Whether the registry has declared this worker's present session lost.
    fn is_lost(&self, w: usize) -> bool {
        self.keys[w].lost && self.keys[w].session == self.workers[w].session
    }
}

impl Model for Fleet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let worker = Worker {
            session: 1,
            held: true,
            left: KILLED,
            runs: 0,
            sent: [None; SENT_MAX],
            landed: None,
        };
        vec![State {
            keys: [Key { session: 1, lost: false, wait: self.wait() }; 2],
            workers: [worker; 2],
            masters: [None; 2],
            task: Task::Queued,
            mail: [None; MAIL_MAX],
            outcomes: 0,
            committed: 0,
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        use Action::*;
        // No run can start any more.
        if s.task == Task::Done && s.mail == [None; MAIL_MAX] && s.masters == [None; 2] {
            return;
        }
        actions.push(Tick);
        for i in 0..2 {
            actions.extend([Renew(i), Learn(i), Restart(i), Finish(i), Usurp(i)]);
            actions.extend((0..SENT_MAX as u8).flat_map(|slot| [Land(i, slot), Lose(i, slot)]));
            actions.extend((0..2).flat_map(|w| [Declare(i, w), Dispatch(i, w)]));
            actions.extend((1..=ATTEMPTS).map(|attempt| Commit(i, attempt)));
            actions.extend([Store(i), LoseWrite(i)]);
        }
        actions.extend((0..MAIL_MAX as u8).map(Deliver));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        self.act(&mut next, action)?;
        self.forget(&mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(check::AT_MOST_ONE, |_, s: &State| {
                s.workers.iter().map(|worker| worker.runs.count_ones()).sum::<u32>() <= 1
            }),
            Property::always(ONE_OUTCOME, |_, s: &State| s.committed <= 1),
            Property::always("no_effect_after_the_lease_ends", |_, s: &State| {
                (0..2).all(|w| !(s.is_lost(w) && s.workers[w].left > MARGIN))
            }),
            Property::sometimes(
                "a re-dispatch happened, twice",
                |_, s: &State| matches!(s.task, Task::Dispatched(dispatch) if dispatch.attempt == ATTEMPTS),
            ),
            // The write was accepted in this tick, and its session had lapsed.
            Property::sometimes("a late write landed", |_, s: &State| {
                (0..2).any(|w| {
                    let key = s.keys[w];
                    let own = !key.lost && key.session == s.workers[w].session;
                    s.has_lapsed(w) && own && key.wait == WAIT
                })
            }),
            Property::sometimes("an outcome was committed", |_, s: &State| s.committed == 1),
        ]
    }
}

const ONE_OUTCOME: &str = "one_outcome_is_committed";

#[test]
fn a_lease_in_the_registry_is_safe() {
    check::holds("fleet", Fleet(None));
}

#[test]
fn every_broken_rule_breaks_it() {
    use Fault::*;
    let broken = [
        (StampsAtAnswer, check::AT_MOST_ONE),
        (WaitsTooShort, check::AT_MOST_ONE),
        (DeclaresWithoutCas, check::AT_MOST_ONE),
        (RedispatchesBeforeLost, check::AT_MOST_ONE),
        (DispatchNamesNoSession, check::AT_MOST_ONE),
        (SucceedsWithoutProof, check::AT_MOST_ONE),
        (RisesFromLost, check::AT_MOST_ONE),
        (SendsBeforeItIsStored, check::AT_MOST_ONE),
        (CommitsWithoutCas, ONE_OUTCOME),
    ];
    for (fault, property) in broken {
        check::breaks(&format!("fleet, {fault:?}"), Fleet(Some(fault)), property);
    }
}
