//! Runs the script of each former failure: none may happen again.

use muster_sim::{former::FORMER, mutant};

#[test]
fn what_once_went_wrong_does_not_any_more() {
    for former in FORMER {
        let broken = former.play(false);
        assert!(broken.is_none(), "{}: {broken:?}", former.name);
    }
}

#[test]
fn every_script_names_mutants_that_exist() {
    let names = mutant::names();
    for former in FORMER {
        let exist = former.mutants.iter().all(|mutant| names.contains(mutant));
        assert!(exist, "{}", former.name);
    }
}
