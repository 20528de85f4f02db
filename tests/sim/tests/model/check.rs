//! Explores a model in every order of events, and reports the result. Never stops before it has explored
//! all states or found a counterexample.

use stateright::{Checker, HasDiscoveries, Model};
use std::{collections::BTreeSet, fmt::Debug, hash::Hash, time::Instant};

/// The promise that every fault has to break.
pub const AT_MOST_ONE: &str = "at_most_one_attempt_runs_at_any_moment";

/// Demands that all states were explored, and that all properties hold.
pub fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let start = Instant::now();
    let checker = model.checker().threads(2).spawn_bfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    println!("{name}: {states} states, {steps} steps in {:.1?}", start.elapsed());
    assert!(checker.is_done(), "{name}: the search ended early");
    checker.assert_properties();
}

/// Demands a counterexample to `property`, and prints the shortest one.
pub fn breaks<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let start = Instant::now();
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    // With one thread the search is breadth first, and the same every time.
    let checker = model.checker().finish_when(found).spawn_bfs().join();
    println!("{name}: {} states in {:.1?}", checker.unique_state_count(), start.elapsed());
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("{name}: nothing breaks {property}"));
    println!("    {:?}", path.into_actions());
}
