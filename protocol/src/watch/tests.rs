//! Consumers that are late, dead or not needed.

use super::{watermark::BEYOND_MAX, *};

const ME: SessionId = SessionId(1);
const STREAM: StreamId = StreamId(7);

fn tasks() -> Watch {
    Watch::new(Bucket::Tasks, ME, STREAM, false)
}

fn end(revision: Revision) -> Mark {
    Mark { stream: STREAM, revision }
}

fn asked(upto: Revision) -> EndQuestion {
    EndQuestion { sent: Time::ZERO, upto }
}

fn shown(revision: Revision) -> Shown {
    Shown { revision, has_more: false, writer: Some(SessionId(2)), is_done: false }
}

/// A watch that has loaded a bucket which ended at 10.
fn loaded() -> Watch {
    let mut watch = tasks();
    assert_eq!(watch.begin(), Start::Newest);
    assert!(watch.began(10, false));
    watch
}

#[test]
fn a_write_of_somebody_else_is_a_gap_until_it_is_shown() {
    let mut watch = loaded();
    for own in [12, 11, 13, 15, 16] {
        watch.wrote(own);
    }
    assert_eq!(watch.upto(), 13, "14 is not ours");
    watch.showed(&shown(12));
    assert_eq!(watch.upto(), 13, "the consumer is late");
    watch.showed(&shown(14));
    assert_eq!(watch.upto(), 16);
    watch.wrote(9);
    assert_eq!(watch.upto(), 16, "what is known stays known");
    watch.wrote(18);
    assert_eq!(watch.begin(), Start::After(16), "17 is for the new consumer to show");
}

#[test]
fn nothing_is_known_before_a_consumer_has_begun() {
    let mut watch = tasks();
    watch.wrote(7);
    assert_eq!(watch.upto(), 0);
    assert_eq!(watch.begin(), Start::Newest);
    watch.showed(&shown(6));
    assert_eq!(watch.upto(), 7);
}

#[test]
fn an_own_write_that_is_forgotten_is_a_gap() {
    let mut watch = tasks();
    (2..).take(BEYOND_MAX + 1).for_each(|own| watch.wrote(own));
    watch.showed(&shown(1));
    assert_eq!(watch.upto(), 1 + BEYOND_MAX as Revision, "the last is not remembered");
}

#[test]
fn a_bucket_is_loaded_once_and_only_when_all_of_it_has_been_shown() {
    let mut watch = tasks();
    watch.begin();
    assert!(!watch.began(3, true));
    assert!(!watch.showed(&Shown { has_more: true, ..shown(2) }));
    assert!(watch.showed(&shown(3)));
    assert!(!watch.showed(&shown(4)));
    watch.begin();
    assert!(!watch.began(4, false));
}

#[test]
fn own_writes_and_what_had_ended_before_are_no_news() {
    let mut watch = tasks();
    let own = Shown { writer: Some(ME), ..shown(1) };
    let done = Shown { is_done: true, ..shown(2) };
    let news = |watch: &Watch| [own, done, shown(3)].map(|shown| watch.is_news(&shown));
    assert_eq!(news(&watch), [false, false, true]);
    watch.began(3, false);
    assert_eq!(news(&watch), [false, true, true], "another master's end is news");
    let workers = Watch::new(Bucket::Workers, ME, STREAM, false);
    assert_eq!(news(&workers), [true; 3]);
}

#[test]
fn only_who_is_alone_and_knows_everything_rests() {
    let mut watch = tasks();
    watch.meet(false);
    assert!(!watch.may_rest(), "nothing is loaded");
    watch.began(10, false);
    assert!(watch.may_rest());
    watch.meet(true);
    assert!(!watch.may_rest());
    watch.meet(false);
    watch.showed(&Shown { has_more: true, ..shown(11) });
    assert!(!watch.may_rest(), "the consumer has more to show");
    watch.wrote(12);
    assert!(watch.may_rest(), "what it has to show is this session's own");
    let mut workers = Watch::new(Bucket::Workers, ME, STREAM, false);
    workers.meet(false);
    workers.began(10, false);
    assert!(!workers.may_rest(), "workers write there");
}

#[test]
fn a_watch_that_stands_still_before_the_end_is_behind() {
    let mut watch = loaded();
    assert_eq!(watch.compared(asked(10), end(12)), Compared::Fine, "it may be late");
    watch.showed(&shown(11));
    assert_eq!(watch.compared(asked(11), end(13)), Compared::Fine, "it moves");
    assert_eq!(watch.compared(asked(11), end(13)), Compared::Behind);
    watch.begin();
    assert_eq!(
        watch.compared(asked(11), end(13)),
        Compared::Fine,
        "a new consumer has its own time"
    );
}

#[test]
fn a_stream_that_ends_before_what_is_known_or_is_another_went_back() {
    let mut watch = loaded();
    watch.wrote(11);
    assert_eq!(
        watch.compared(asked(10), end(10)),
        Compared::Fine,
        "11 was written after the question"
    );
    assert_eq!(watch.compared(asked(11), end(10)), Compared::WentBack);
    let other = Mark { stream: StreamId(8), revision: 50 };
    assert_eq!(watch.compared(asked(11), other), Compared::WentBack);
}

#[test]
fn in_a_cluster_a_stream_went_back_only_if_no_leader_can_be_behind() {
    let mut watch = Watch::new(Bucket::Tasks, ME, STREAM, true);
    watch.began(11, false);
    let asked = |seconds| EndQuestion { sent: Time::ZERO + Duration::from_secs(seconds), upto: 11 };
    let lag = LEADER_LAG_MAX.as_secs();
    assert_eq!(watch.compared(asked(1), end(10)), Compared::Lagging);
    assert_eq!(watch.compared(asked(lag), end(10)), Compared::Lagging, "it may still be behind");
    assert_eq!(watch.compared(asked(lag + 1), end(11)), Compared::Fine, "it has caught up");
    assert_eq!(watch.compared(asked(lag + 2), end(10)), Compared::Lagging, "another one is behind");
    assert_eq!(watch.compared(asked(lag + 2), end(10)), Compared::Lagging);
    assert_eq!(watch.compared(asked(lag * 2 + 2), end(10)), Compared::WentBack);
    let other = Mark { stream: StreamId(8), revision: 50 };
    assert_eq!(watch.compared(asked(lag + 3), other), Compared::WentBack, "it is another stream");
}
