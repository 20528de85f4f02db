//! A lease that its home may extend without the registry: one worker, two masters. Never more than
//! one session of the worker: what sessions do is in `fleet`.

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
    /// The masters' wait is a tick less than the inequality asks for.
    WaitsTooShort,
    /// A master writes `lost` over whatever is there (M2).
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
    /// An answer about an older revision brings the home of that revision back.
    CountsOlderAnswer,
    /// So does one about the newest revision that was known already when the switch was sent.
    CountsReadBack,
    /// A session whose lease ran out, but of which no run had to be killed, is extended.
    CountsAfterLapse,
    /// A session without proof may take the key, and masters give the tasks of the one before it
    /// away when they have seen that for `L_m`.
    StrangerIsWaitedFor,
}

/// The model.
pub struct Home {
    /// The rules that are broken.
    pub broken: &'static [Fault],
    /// Renewals in flight, and questions for an extension: with two, one to each master.
    pub in_flight: usize,
}

/// The most renewals in flight: two are enough for two that race, such as a switch and none.
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
    /// It was written when the session of that renewal had lapsed.
    late: bool,
    /// The home of the revision before, where a fault can bring it back.
    elder: Option<u8>,
    /// Another session has it, where a fault allows that.
    stranger: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Worker {
    /// Ticks until the kernel kills what runs. The gate is open while they are more than [`MARGIN`].
    left: u8,
    run: Run,
    /// The home whose acknowledgements count; none from a switch until a newer revision is known.
    home: Option<u8>,
    /// Renewals from the key's present revision that have neither landed nor got lost.
    sent: [Option<Renewal>; SENT_MAX],
    /// The age of the renewal that landed, while the worker does not know that it did.
    landed: Option<u8>,
    /// The newest question to each master.
    asks: [Option<ExtendRequest>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Run {
    /// The dispatch is stored and on its way. While no session comes back from a lapse it is the
    /// same as [`Run::Runs`], where the gate is open.
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
    /// What is left of `L_m` since it saw the newest revision or extended it; none if it is behind.
    seen: Option<u8>,
    /// It has sent `lost`, from the revision it saw last.
    declared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MasterLease {
    Held,
    Lapsed,
    /// With what is left of `L_m` since the other master saw it. Seeing it later only waits longer.
    Lost(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick,
    /// The worker sends a renewal that names this home.
    Renew(u8),
    /// The registry takes a renewal.
    Land(u8),
    Lose(u8),
    /// The worker learns that its renewal was taken.
    Learn,
    /// The worker asks its home for an extension.
    Ask,
    /// This master acknowledges it.
    Extend(u8),
    /// The worker hears this master's acknowledgement.
    Hear(u8),
    /// The dispatch arrives.
    Start,
    /// This master sees the key's newest revision.
    See(u8),
    /// This master sends `lost`.
    Declare(u8),
    /// The registry takes it.
    LandLost(u8),
    LapseMaster(u8),
    RenewMaster(u8),
    DeposeMaster(u8),
    /// Somebody gives the task to the other worker.
    Redispatch,
    /// By [`Fault::CountsOlderAnswer`].
    HearOlder,
    /// By [`Fault::CountsReadBack`].
    ReadBack,
    /// By [`Fault::StrangerIsWaitedFor`].
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
        let key = Key { home: 0, lost: false, late: false, elder: None, stranger: false };
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
            // A master that is no home saw the newest renewal `L_m` ago.
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

/// That the home extends nothing after it sent `lost` is a second wall: when such a `lost` can
/// still land, the worker has lapsed, and a session that lapsed counts nothing. Either rule is
/// enough; without both, a session that was idle when it lapsed comes back and is given a run.
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
