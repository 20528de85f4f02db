//! A master as a home: which leases it extends, and for how long.

use super::{
    masters::{MS, held, home},
    *,
};

fn ask(w: &mut World, session: u64) -> Vec<String> {
    let (worker, link) = (name("w1"), 11);
    w.see(Event::ExtendAsked { worker, link, session: SessionId(session), renewal: 5 })
}

fn extended(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains("Extended"))
}

#[test]
fn a_home_extends_while_its_own_lease_lasts_and_counts_from_then() {
    let mut w = held(home(7));
    w.see(Event::RegistryDown);
    w.pass(SECOND * 30);
    assert!(extended(&ask(&mut w, 1)));
    assert!(!extended(&ask(&mut w, 2)), "another session of the worker");
    w.pass(SECOND * 31);
    assert!(!extended(&ask(&mut w, 1)), "its own lease has run out");
}

#[test]
fn an_extension_puts_off_the_declaration() {
    let mut w = held(home(7));
    w.pass(WAIT - SECOND);
    assert!(extended(&ask(&mut w, 1)));
    check(w.pass(WAIT - MS), &[]);
    check(w.pass(MS), &["lease w1@1: Lost"]);
}

#[test]
fn a_master_extends_nothing_that_it_has_declared_or_is_not_the_home_of() {
    let mut stranger = held(home(9));
    assert!(!extended(&ask(&mut stranger, 1)));
    let mut nobody = held(None);
    assert!(!extended(&ask(&mut nobody, 1)));
    let mut w = held(home(7));
    w.pass(WAIT);
    assert!(!extended(&ask(&mut w, 1)), "`lost` is on its way");
    w.lease_unsure("w1", false);
    assert!(!extended(&ask(&mut w, 1)), "and may land at any time");
    w.renews("w1", 1, |lease| lease.home = home(7));
    w.watch_lease("w1");
    assert!(extended(&ask(&mut w, 1)), "until a newer renewal is known");
}

#[test]
fn a_master_that_stops_or_was_declared_lost_extends_nothing() {
    let mut w = held(home(7));
    w.see(Event::Stopping);
    assert!(!extended(&ask(&mut w, 1)));
    let mut w = held(home(7));
    let mut lease = w.fleet.masters().remove(0);
    lease.state = LeaseState::Lost;
    check(w.see(Event::MasterSeen(lease, 1_000)), &["begin anew"]);
    assert!(!extended(&ask(&mut w, 1)));
}

/// The next session of the process begins, and has loaded nothing yet.
fn begin_next(w: &mut World, session: u64) {
    let memory = w.fleet.memory();
    w.fleet = Fleet::new(Config { memory, succeeds: vec![SessionId(7)], ..config(session) });
}

#[test]
fn a_session_extends_for_the_earlier_one_until_it_has_loaded_the_registry() {
    let mut w = held(home(7));
    w.see(Event::RegistryDown);
    begin_next(&mut w, 8);
    check(
        ask(&mut w, 1),
        &["link 11: Extended { session: 0000000000001, home: 0000000000007, renewal: 5 }"],
    );
    assert!(!extended(&ask(&mut w, 2)), "another session of the worker");
    w.see(Event::RegistryDown);
    begin_next(&mut w, 9);
    assert!(extended(&ask(&mut w, 1)), "also if the session in between has loaded nothing");
    w.watch_lease("w1");
    assert!(extended(&ask(&mut w, 1)));
    let found = w.found();
    w.see(Event::Loaded(found));
    assert!(!extended(&ask(&mut w, 1)), "this session may declare the earlier one lost now");
}

#[test]
fn a_session_extends_for_the_earlier_one_only_while_the_lease_of_that_one_lasts() {
    let mut w = held(home(7));
    w.see(Event::RegistryDown);
    begin_next(&mut w, 8);
    w.pass(LeaseTiming::STANDARD.outage() - SECOND);
    assert!(extended(&ask(&mut w, 1)));
    w.pass(SECOND * 2);
    assert!(!extended(&ask(&mut w, 1)));
}

#[test]
fn a_session_does_not_extend_what_the_earlier_one_could_not() {
    let mut w = held(home(7));
    w.pass(WAIT);
    begin_next(&mut w, 8);
    assert!(!extended(&ask(&mut w, 1)), "its `lost` may land at any time");
    let mut w = held(home(9));
    begin_next(&mut w, 8);
    assert!(!extended(&ask(&mut w, 1)), "another master was its home");
    let mut w = held(home(7));
    w.see(Event::Stopping);
    begin_next(&mut w, 8);
    assert!(!extended(&ask(&mut w, 1)), "its own lease was given back");
}

#[test]
fn a_session_that_the_registry_does_not_answer_ends_and_its_extensions_go_on() {
    let mut w = held(home(7));
    w.pass(SECOND);
    w.is_silent = true;
    let mut begun_anew = Vec::new();
    for second in 1..=30 {
        if w.pass(SECOND).contains(&"begin anew".into()) {
            begun_anew.push(second);
        }
        assert!(extended(&ask(&mut w, 1)));
    }
    assert_eq!(begun_anew, [13], "later than a cluster elects, and once");
    begin_next(&mut w, 8);
    assert!(extended(&ask(&mut w, 1)));
}

#[test]
fn an_answer_now_and_then_keeps_a_session() {
    let mut w = held(home(7));
    for _ in 0..9 {
        w.is_silent = true;
        check(w.pass(SECOND * 4), &[]);
        assert!(extended(&ask(&mut w, 1)));
        w.is_silent = false;
        w.pass(SECOND);
        assert!(extended(&ask(&mut w, 1)));
    }
}
