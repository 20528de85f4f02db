//! Sessions, one after the other: what each knows of those before, and what a loss is compared with.

use super::*;
use crate::{
    lease::{Lease, MasterLease},
    registry::StreamId,
    time::WallMillis,
};
use alloc::vec;

fn ends(revision: Revision) -> Marks {
    let mut ends = Marks::default();
    for bucket in Bucket::FOLLOWED {
        ends.set(bucket, Mark { stream: StreamId(1), revision });
    }
    ends
}

fn load(sessions: &mut Sessions) -> Loaded {
    let loaded = Bucket::FOLLOWED.into_iter().filter_map(|bucket| sessions.loaded(bucket));
    loaded.last().expect("the last of them brings it")
}

fn lease_seen(revision: Revision) -> Event {
    Event::LeaseSeen(Lease::new("w1".parse().expect("a name"), SessionId(1)), revision)
}

fn renewed(session: u64, revision: Revision) -> Event {
    let lease = MasterLease {
        master: "m1".parse().expect("a name"),
        session: SessionId(session),
        renewal: 1,
        state: crate::lease::LeaseState::Live,
        wait_ms: 0,
        workers: 0,
        remembers: Vec::new(),
        vouches: None,
        connected_to: None,
        address: None,
        issues: false,
        renewed_at: WallMillis(0),
        unknown: Default::default(),
    };
    Event::MasterWritten { lease, answer: CasAnswer::Written(revision) }
}

#[test]
fn a_session_ends_with_its_connection_and_is_remembered_by_the_next() {
    let mut sessions = Sessions::new(vec![SessionId(1)], Marks::default());
    sessions.begin(SessionId(2), ends(5), Memory::default());
    assert!(sessions.is_current(SessionId(2)));
    assert!(sessions.broken() && !sessions.broken(), "it is news once");
    assert!(!sessions.is_current(SessionId(2)));
    sessions.begin(SessionId(3), ends(5), Memory::default());
    assert_eq!(sessions.succeeds(), [SessionId(1), SessionId(2)]);
    assert_eq!(sessions.remembers(), [SessionId(2)], "the first was another process");
}

#[test]
fn connections_that_flap_without_a_loss_find_none() {
    let mut sessions = Sessions::new(Vec::new(), Marks::default());
    sessions.begin(SessionId(1), ends(5), Memory::default());
    load(&mut sessions);
    sessions.heard(&renewed(1, 9));
    for session in 2..12 {
        sessions.broken();
        sessions.begin(SessionId(session), ends(9), Memory::default());
        // Some break before anything is known, some just after, and none has a renewal acknowledged.
        if session % 2 == 0 {
            let Loaded { ends, known } = load(&mut sessions);
            assert_eq!(known.missing_from(&ends), None);
        }
    }
}

#[test]
fn a_loss_of_any_stream_is_found_and_stays_known_until_it_is_answered() {
    for (bucket, fact) in [
        (Bucket::Workers, lease_seen(9)),
        (Bucket::Masters, renewed(1, 9)),
        (
            Bucket::Tasks,
            Event::TaskWritten { task: crate::TaskId(1), answer: CasAnswer::Written(9) },
        ),
    ] {
        let mut sessions = Sessions::new(Vec::new(), Marks::default());
        sessions.begin(SessionId(1), ends(5), Memory::default());
        load(&mut sessions);
        sessions.heard(&fact);
        sessions.begin(SessionId(2), ends(8), Memory::default());
        let Loaded { ends: found, known } = load(&mut sessions);
        assert_eq!(known.missing_from(&found), Some(bucket));
        // The connection breaks before a guard is raised.
        let owes = Memory { owes_guard: true, ..Memory::default() };
        sessions.begin(SessionId(3), ends(8), owes);
        let Loaded { ends: found, known } = load(&mut sessions);
        assert_eq!(known.missing_from(&found), Some(bucket));
        sessions.begin(SessionId(4), ends(8), Memory::default());
        let Loaded { ends: found, known } = load(&mut sessions);
        assert_eq!(known.missing_from(&found), None, "a guard has answered it");
    }
}

#[test]
fn what_the_state_directory_knew_counts_for_the_same_streams_only() {
    let mut sessions = Sessions::new(Vec::new(), ends(9));
    sessions.begin(SessionId(1), ends(8), Memory::default());
    let Loaded { ends: found, known } = load(&mut sessions);
    assert!(known.missing_from(&found).is_some());
    let mut other = Marks::default();
    other.set(Bucket::Tasks, Mark { stream: StreamId(7), revision: 9 });
    let mut sessions = Sessions::new(Vec::new(), other);
    sessions.begin(SessionId(1), ends(8), Memory::default());
    let Loaded { ends: found, known } = load(&mut sessions);
    assert_eq!(known.missing_from(&found), None, "it is another fleet's");
}
