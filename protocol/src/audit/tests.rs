//! What the chain shows, and what waits to be written.

use super::*;
use alloc::{format, vec};

fn entry(number: u64, previous: Option<Digest>) -> Entry {
    Entry {
        number,
        previous,
        at: WallMillis(0),
        master: "m1".parse().expect("a name"),
        write: Nonce(number),
        decisions: vec![],
        lost: 0,
        unknown: Unknown::default(),
    }
}

fn digest(of: u64) -> Digest {
    Digest([of as u8; 32])
}

/// The entries from `first` to `last`, and the digest of each.
fn entries(first: u64, last: u64) -> Vec<(Entry, Digest)> {
    let before = |number: u64| (number > 1).then(|| digest(number - 1));
    (first..=last).map(|number| (entry(number, before(number)), digest(number))).collect()
}

fn read(entries: &[(Entry, Digest)], noted: Option<Place>) -> Result<Option<(u64, Place)>, Broken> {
    let mut chain = Chain::with(noted);
    for (entry, digest) in entries {
        chain.follow(entry, *digest)?;
    }
    chain.end()
}

#[test]
fn a_chain_shows_what_was_changed_or_taken_out() {
    let place = |number| Place { number, digest: digest(number) };
    assert_eq!(read(&[], None), Ok(None));
    assert_eq!(read(&entries(1, 4), None), Ok(Some((1, place(4)))));
    // The oldest ones expire.
    assert_eq!(read(&entries(3, 4), None), Ok(Some((3, place(4)))));
    let mut without = entries(1, 4);
    without.remove(1);
    assert_eq!(read(&without, None), Err(Broken::Number { after: 1, found: 3 }));
    let mut changed = entries(1, 4);
    changed[1].1 = digest(77);
    assert_eq!(read(&changed, None), Err(Broken::Previous(3)));
    let mut twice = entries(1, 2);
    twice.push(twice[1].clone());
    assert_eq!(read(&twice, None), Err(Broken::Number { after: 2, found: 2 }));
    // Whoever writes the whole end anew is found by what was noted elsewhere.
    assert_eq!(read(&entries(1, 4), Some(place(4))), Ok(Some((1, place(4)))));
    assert_eq!(read(&entries(3, 4), Some(place(1))), Ok(Some((3, place(4)))));
    assert_eq!(read(&entries(1, 3), Some(place(4))), Err(Broken::Ended(4)));
    assert_eq!(read(&[], Some(place(4))), Err(Broken::Ended(4)));
    let other = Place { number: 2, digest: digest(77) };
    assert_eq!(read(&entries(1, 4), Some(other)), Err(Broken::Noted(2)));
}

#[test]
fn a_place_survives_text() {
    let place = Place { number: 17, digest: digest(3) };
    assert_eq!(format!("{place}").parse(), Ok(place));
    for wrong in ["", "17", "17:", "x:sha256:00", "17:sha256:00"] {
        assert!(wrong.parse::<Place>().is_err(), "{wrong}");
    }
}

fn decision(user: u64, objects: usize, outcome: Outcome) -> Decision {
    let actor = Actor { user: Some(format!("u{user}")), ..Actor::default() };
    let objects = (0..objects).map(|number| format!("task {number} {}", "é".repeat(4_000)));
    Decision::new(actor, "task.cancel", objects.collect(), outcome)
}

#[test]
fn many_requests_of_one_user_fill_one_place() {
    let mut waiting = Waiting::default();
    for number in 0..1_000 {
        waiting.add(decision(1, 2, Outcome::Refused(format!("no task {number}"))));
    }
    waiting.add(decision(1, 1, Outcome::Done));
    waiting.add(decision(2, 1, Outcome::Done));
    let (decisions, lost) = waiting.take();
    assert!(waiting.is_empty() && lost == 0);
    let shape = |of: &Decision| (of.times, of.objects.len(), of.more);
    let shapes: Vec<_> = decisions.iter().map(shape).collect();
    assert_eq!(shapes, [(1_000, OBJECTS_MAX, 2_000 - OBJECTS_MAX as u64), (1, 1, 0), (1, 1, 0)]);
    assert_eq!(decisions[0].outcome.reason(), Some("no task 0"));
}

#[test]
fn what_waits_is_bounded_and_the_rest_is_counted() {
    let mut waiting = Waiting::default();
    let users = WAITING_MAX as u64 + 5;
    for user in 0..users {
        waiting.add(decision(user, 100, Outcome::Refused("é".repeat(REASON_SIZE_MAX))));
    }
    let (mut taken, mut lost) = (0, 0);
    while !waiting.is_empty() {
        let (decisions, missed) = waiting.take();
        assert!((1..=ENTRY_DECISIONS_MAX).contains(&decisions.len()));
        let size = serde_json::to_vec(&decisions).expect("JSON").len();
        assert!(size < crate::limit::API_SIZE_MAX / 2, "{size}");
        (taken, lost) = (taken + decisions.len(), lost + missed);
    }
    assert_eq!((taken, lost), (WAITING_MAX, 5));
}
