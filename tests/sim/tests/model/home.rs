//! A lease that its home may extend without the registry: one worker, two masters. Never more than one
//! session of the worker: `fleet` models the sessions.

mod act;

use crate::{check, clock::*};
use stateright::{Model, Property};

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The worker counts a renewal from its acknowledgement.
    StampsAtAnswer,
    /// The worker counts an extension from its acknowledgement.
    StampsExtensionAtAnswer,
    /// The masters' wait is a tick less than the inequality demands.
    WaitsTooShort,
    /// A master writes `lost` over any revision (M2).
    DeclaresWithoutCas,
    /// A master that is not the home declares the worker lost.
    NonHomeDeclares,
    /// Another master declares as soon as it sees that the home is lost.
    TakesOverAtOnce,
    /// Another master waits after the home's loss, but not after the newest renewal it saw (M1).
    TakesOverBesideM1,
    /// The home extends when its own lease has lapsed.
    ExtendsPastOwnLease,
    /// The home does not count its extensions when it decides that the worker is lost.
    ForgetsExtensions,
    /// The home extends after it has sent `lost`.
    ExtendsAfterLost,
    /// The worker counts its old home's acknowledgements after it sent a switch.
    CountsOldHomeAfterSwitch,
    /// An answer about an older revision restores the home of that revision.
    CountsOlderAnswer,
    /// An answer about the newest revision restores its home, although the worker knew that revision
    /// when it sent the switch.
    CountsReadBack,
    /// A session whose lease has ended counts an extension, if none of its runs had to be killed.
    CountsAfterLapse,
    /// A session without proof may take the key, and masters dispatch the tasks of the session before it
    /// again when they have seen the new session for `L_m`.
    StrangerIsWaitedFor,
}

/// The model.
pub struct Home {
    /// The broken rules.
    pub broken: &'static [Fault],
    /// The number of renewals in flight, and of questions for an extension. With two, each master may
    /// have one.
    pub in_flight: usize,
}

/// The most renewals in flight. Two are enough for a race, such as one that switches the home and one
/// that does not.
const SENT_MAX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    key: Key,
    worker: Worker,
    masters: [Master; 2],
    /// Another worker runs the task.
    replaced: bool,
}

/// The worker's key in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    home: u8,
    lost: bool,
    /// The newest renewal was accepted after its session had lapsed.
    late: bool,
    /// The home of the previous revision, where a fault can restore it.
    older: Option<u8>,
    /// Another session has the key, where a fault allows that.
    stranger: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Worker {
    /// Ticks until the kernel kills the run. The gate is open while there are more than [`MARGIN`] of
    /// them.
    left: u8,
    run: Run,
    /// The home whose acknowledgements count. `None` from a switch until the worker knows a newer
    /// revision.
    home: Option<u8>,
    /// Renewals from the key's present revision that are neither accepted nor lost.
    sent: [Option<Renewal>; SENT_MAX],
    /// The age of the accepted renewal, until the worker learns that it was accepted.
    landed: Option<u8>,
    /// The newest question to each master.
    asks: [Option<ExtendRequest>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Run {
    /// The dispatch is stored and on its way. As long as no session returns from a lapse, this is the
    /// same as [`Run::Runs`] with an open gate.
    Expected,
    Runs,
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Renewal {
    home: u8,
    age: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ExtendRequest {
    age: u8,
    acknowledged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Master {
    lease: MasterLease,
    /// The remaining part of `L_m` since the master saw the newest revision or extended the lease.
    /// `None` if the master is behind.
    seen: Option<u8>,
    /// The master has sent `lost`, from the revision that it saw last.
    declared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MasterLease {
    Held,
    Lapsed,
    /// The remaining part of `L_m` since the other master saw the loss. If it sees the loss later, it
    /// only waits longer.
    Lost(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick,
    /// The worker sends a renewal that names this home.
    Renew(u8),
    /// The registry accepts a renewal.
    Land(u8),
    Lose(u8),
    /// The worker learns that its renewal was accepted.
    Learn,
    /// The worker asks its home for an extension.
    Ask,
    /// This master acknowledges it.
    Extend(u8),
    /// The worker receives this master's acknowledgement.
    Hear(u8),
    /// The dispatch arrives.
    Start,
    /// This master sees the key's newest revision.
    See(u8),
    /// This master sends `lost`.
    Declare(u8),
    /// The registry accepts the `lost` of this master.
    LandLost(u8),
    LapseMaster(u8),
    RenewMaster(u8),
    DeposeMaster(u8),
    /// A master dispatches the task to the other worker.
    Redispatch,
    /// The worker receives an older answer: [`Fault::CountsOlderAnswer`].
    HearOlder,
    /// The worker reads the newest revision: [`Fault::CountsReadBack`].
    ReadBack,
    /// Another process takes the key: [`Fault::StrangerIsWaitedFor`].
    Usurp,
}

impl Model for Home {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let idle = self.broken.contains(&Fault::CountsAfterLapse);
        let worker = Worker {
            left: KILLED,
            run: if idle { Run::Expected } else { Run::Runs },
            home: Some(0),
            sent: [None; SENT_MAX],
            landed: None,
            asks: [None; 2],
        };
        let key = Key { home: 0, lost: false, late: false, older: None, stranger: false };
        let master = Master { lease: MasterLease::Held, seen: None, declared: false };
        vec![State { key, worker, masters: [master; 2], replaced: false }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([Tick, Learn, Ask, Start, Redispatch, HearOlder, ReadBack, Usurp]);
        for i in 0..2 {
            actions.extend([Renew(i), Land(i), Lose(i), Extend(i), Hear(i)]);
            actions.extend([See(i), Declare(i), LandLost(i)]);
            actions.extend([LapseMaster(i), RenewMaster(i), DeposeMaster(i)]);
        }
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
                !(s.replaced && s.worker.run == Run::Runs)
            }),
            Property::always("no_effect_after_the_lease_ends", |_, s: &State| {
                !(s.key.lost && s.worker.left > MARGIN)
            }),
            Property::sometimes("a re-dispatch happened", |_, s: &State| s.replaced),
            // The master that is not the home saw the newest renewal at least `L_m` ago.
            Property::sometimes("an extension carried a run past its registry lease", |_, s| {
                let s: &State = s;
                let other = s.masters[1 - s.key.home as usize];
                s.worker.run == Run::Runs && s.worker.left > MARGIN && other.seen == Some(0)
            }),
            Property::sometimes("a home switch happened", |_, s: &State| s.key.home == 1),
            Property::sometimes("a late write landed", |_, s: &State| s.key.late),
            Property::sometimes("a master took over from a lost home", |_, s: &State| {
                let other = s.masters[1 - s.key.home as usize];
                other.declared && other.seen.is_some()
            }),
        ]
    }
}

#[test]
fn a_lease_with_a_home_is_safe() {
    check::holds("home", Home { broken: &[], in_flight: 2 });
}

/// The rule that the home extends nothing after it has sent `lost` is a second protection. When such a
/// `lost` can still be accepted, the worker has lapsed, and a lapsed session counts nothing. Either rule
/// is enough. Without both, a session that was idle when it lapsed returns and may get a run.
#[test]
fn either_of_two_walls_is_enough() {
    for broken in [&[Fault::ExtendsAfterLost], &[Fault::CountsAfterLapse]] {
        check::holds(&format!("home, {broken:?}"), Home { broken, in_flight: 1 });
    }
}

#[test]
fn every_broken_rule_breaks_it() {
    use Fault::*;
    let broken: [&'static [Fault]; 14] = [
        &[StampsAtAnswer],
        &[StampsExtensionAtAnswer],
        &[WaitsTooShort],
        &[DeclaresWithoutCas],
        &[NonHomeDeclares],
        &[TakesOverAtOnce],
        &[TakesOverBesideM1],
        &[ExtendsPastOwnLease],
        &[ForgetsExtensions],
        &[ExtendsAfterLost, CountsAfterLapse],
        &[CountsOldHomeAfterSwitch],
        &[CountsOlderAnswer],
        &[CountsReadBack],
        &[StrangerIsWaitedFor],
    ];
    for broken in broken {
        let model = Home { broken, in_flight: 1 };
        check::breaks(&format!("home, {broken:?}"), model, check::AT_MOST_ONE);
    }
}
