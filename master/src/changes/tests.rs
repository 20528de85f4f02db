//! What is noted of tasks, and that each end is counted once.

use super::*;
use muster_protocol::{
    Digest,
    task::{Data, ModuleRef, Outcome, TaskSpec, Verdict},
    time::WallMillis,
};

fn record(id: u128, writer: u64, is_done: bool) -> TaskRecord {
    let module = ModuleRef { name: Some("upper:1".into()), digest: Digest([0; 32]) };
    let spec = Arc::new(TaskSpec::new(module, Data::EMPTY));
    let mut record = TaskRecord::queued(TaskId(id), spec, WallMillis(1));
    record.writer = SessionId(writer);
    if is_done {
        let outcome = Arc::new(Outcome::bare(Verdict::Completed));
        record.state = TaskState::Done { outcome, attempt: None, ended_at: clock::wall() };
    }
    record
}

fn seen(id: u128, writer: u64, is_done: bool, revision: Revision) -> Event {
    Event::TaskSeen(Box::new(record(id, writer, is_done)), revision)
}

#[test]
fn each_end_is_counted_once_whoever_wrote_it_and_however_often_it_is_seen() {
    let changes = Changes::default();
    changes.begin_session(SessionId(7));
    for event in [
        seen(1, 6, true, 1),
        seen(2, 8, true, 2),
        seen(3, 7, true, 3),
        // The watch begins anew.
        seen(1, 6, true, 1),
        seen(2, 8, true, 2),
        seen(4, 8, false, 4),
    ] {
        changes.heard(&event);
    }
    changes.ended(StateName::Completed);
    assert_eq!(changes.throughput(0).0.completed, 3);
    assert!(changes.take().tasks.is_empty(), "nobody looks");
}

#[test]
fn tasks_are_noted_while_somebody_looks_and_too_many_are_not_kept() {
    let changes = Changes::default();
    changes.begin_session(SessionId(7));
    changes.follow(true);
    let own = Arc::new(record(1, 7, true));
    changes.writing(&own);
    assert!(changes.take().tasks.is_empty(), "it is not written yet");
    changes.heard(&Event::TaskWritten { task: TaskId(1), answer: CasAnswer::Written(5) });
    changes.writing(&Arc::new(record(2, 7, true)));
    changes.heard(&Event::TaskWritten { task: TaskId(2), answer: CasAnswer::Unknown });
    changes.heard(&seen(3, 8, false, 6));
    let changed = changes.take();
    assert_eq!(changed.tasks, [TaskId(1), TaskId(3)].into());
    assert_eq!(changed.ended[&TaskId(1)].verdict, Some("completed"));
    for id in 0..=CHANGED_MAX as u128 {
        changes.heard(&seen(id, 8, false, 10));
    }
    let changed = changes.take();
    assert!(changed.is_cut && changed.tasks.is_empty());
    assert!(!changes.take().is_cut);
}
