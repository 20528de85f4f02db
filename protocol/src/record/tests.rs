//! Records with fields of a later version, at every depth, through every change of the record.

use super::*;
use crate::{
    AttemptId, Digest, SessionId, TaskId,
    api::{ModuleEntry, Submit},
    checkpoint::Checkpoint,
    lease::{Lease, LeaseState, MasterLease},
    registry::FailoverGuard,
    task::{ModuleRef, Outcome, PastAttempt, TaskRecord, TaskSpec, TaskState, Verdict},
    time::WallMillis,
};
use alloc::{string::ToString, sync::Arc, vec};
use serde_json::json;

fn attempt() -> Value {
    json!({
        "id": AttemptId(8), "number": 1, "worker": "w1", "session": SessionId(3), "lease": 5,
        "lease_stream": 0, "dispatched_at": 2, "new_attempt": [1, {"deep": null}],
    })
}

/// A task's record, as a later version might write it.
fn task() -> Value {
    let module = ModuleRef { name: None, digest: Digest([0; 32]) };
    let spec = Arc::new(TaskSpec::new(module, Default::default()));
    let mut record = serde_json::to_value(TaskRecord::queued(TaskId(7), spec, WallMillis(1)));
    let record = record.as_mut().expect("JSON");
    record["new_record"] = json!({"a": 1.5});
    record["spec"]["limits"]["new_limit"] = json!(9);
    record["spec"]["module"]["new_module"] = json!("x");
    record["state"] = json!({"dispatched": attempt()});
    let mut past = attempt();
    past["ended_at"] = json!(3);
    past["lost"] = json!(true);
    past["reason"] = json!("lost");
    past["new_past"] = json!(true);
    record["history"] = json!([past]);
    record.clone()
}

fn read_value<T: Record>(value: &Value) -> T {
    read(value.to_string().as_bytes()).expect("a record")
}

fn written<T: Record>(record: &T) -> Value {
    serde_json::from_slice(&write(record).expect("JSON")).expect("JSON")
}

#[test]
fn what_a_later_version_has_added_is_written_back() {
    fn check<T: Record>(mut value: Value, places: &[&str]) {
        let known = read_value::<T>(&value);
        assert!(known.unknown().is_empty());
        assert_eq!(written(&known), value);
        for place in places {
            value.pointer_mut(place).expect("a place")["new_field"] = json!({"x": [1, "y"]});
        }
        assert_eq!(written(&read_value::<T>(&value)), value);
    }
    let lease = Lease::new("w1".parse().expect("a name"), SessionId(1));
    check::<Lease>(serde_json::to_value(lease).expect("JSON"), &["", "/offer", "/offer/policy"]);
    let module = json!({"name": "upper", "versions": [
        {"version": "1", "digest": Digest([1; 32]), "size": 3, "kind": "module", "pushed_at": 1},
        {"version": "2", "digest": Digest([2; 32]), "size": 3, "kind": "module", "pushed_at": 1},
    ]});
    check::<ModuleEntry>(module, &["", "/versions/1"]);
    let master = json!({
        "master": "m1", "session": SessionId(1), "renewal": 2, "standing": "live", "wait_ms": 1,
        "workers": 0, "remembers": [], "vouches": null, "renewed_at": 1,
    });
    check::<MasterLease>(master, &[""]);
    let checkpoint = json!({
        "born": 1, "attempt": AttemptId(1), "number": 1, "save": 1, "state": {"text": "x"}, "saved_at": 1,
    });
    check::<Checkpoint>(checkpoint, &[""]);
    let guard = json!({
        "nonce": crate::Nonce(1), "raised_by": SessionId(1), "lifted": false,
        "tasks": {"stream": 1, "revision": 2}, "wait_ms": 1, "reason": "", "raised_at": 1,
    });
    check::<FailoverGuard>(guard, &["", "/tasks"]);
    let record: TaskRecord = read_value(&task());
    assert_eq!(written(&record), task());
}

#[test]
fn unknown_fields_follow_what_they_are_about() {
    let record: TaskRecord = read_value(&task());
    // The attempt ends and another one follows: the field of the attempt moves into the history.
    let attempt = record.attempt().expect("it is dispatched").clone();
    let mut waits = record.in_state(TaskState::queued_for(Default::default()));
    waits.push_history(PastAttempt {
        attempt: attempt.clone(),
        ended_at: WallMillis(9),
        lost: false,
        reason: "trapped".into(),
    });
    let shown = written(&waits);
    assert_eq!(shown["history"][0]["new_past"], json!(true));
    assert_eq!(shown["history"][1]["new_attempt"], task()["state"]["dispatched"]["new_attempt"]);
    assert_eq!(shown["spec"], task()["spec"]);
    assert_eq!(shown["new_record"], task()["new_record"]);
    // The attempt ends the task.
    let outcome = Arc::new(Outcome::bare(Verdict::Completed));
    let done = record.in_state(TaskState::Done {
        outcome,
        attempt: Some(attempt),
        ended_at: WallMillis(9),
    });
    let shown = written(&done)["state"]["done"]["attempt"].clone();
    assert_eq!(shown, task()["state"]["dispatched"]);
}

#[test]
fn a_field_of_a_state_that_is_over_does_not_come_back_with_another_of_its_kind() {
    let mut queued = task();
    queued["state"] = json!({"queued": {"wait_ms": 1, "new_wait": 2}});
    let queued: TaskRecord = read_value(&queued);
    assert_eq!(written(&queued)["state"]["queued"]["new_wait"], json!(2));
    let dispatched: TaskRecord = read_value(&task());
    let again = queued.in_state(dispatched.state);
    let again = again.in_state(TaskState::queued_for(core::time::Duration::from_millis(3)));
    assert_eq!(written(&again)["state"], json!({"queued": {"wait_ms": 3}}));
    assert_eq!(written(&again)["new_record"], task()["new_record"]);
}

#[test]
fn a_value_that_is_known_by_now_is_not_overwritten() {
    let mut lease = serde_json::to_value(Lease::new("w1".parse().expect("a name"), SessionId(1)));
    let lease = lease.as_mut().expect("JSON");
    lease["new_field"] = json!(1);
    let mut read: Lease = read_value(lease);
    read.state = LeaseState::Lost;
    let stale = Field { path: vec!["standing".to_string()], value: json!("live") };
    read.unknown = Unknown(read.unknown.0.into_iter().chain([stale]).collect());
    assert_eq!(written(&read)["standing"], json!("lost"));
    assert_eq!(written(&read)["new_field"], json!(1));
}

#[test]
fn more_than_the_limit_is_refused_and_the_sentence_says_whom_to_upgrade() {
    let lease = Lease::new("w1".parse().expect("a name"), SessionId(1));
    let with = |value: Value| {
        let mut lease = serde_json::to_value(&lease).expect("JSON");
        lease["x"] = value;
        read::<Lease>(lease.to_string().as_bytes())
    };
    let text = |size| Value::String("x".repeat(size));
    assert!(with(text(UNKNOWN_SIZE_MAX - 3)).is_ok());
    let refused = with(text(UNKNOWN_SIZE_MAX - 2)).expect_err("it is too long");
    assert!(refused.to_string().contains("upgrade this process"), "{refused}");
    // Many small fields.
    let mut many = serde_json::to_value(&lease).expect("JSON");
    for number in 0..UNKNOWN_SIZE_MAX {
        many[number.to_string()] = json!(0);
    }
    assert!(read::<Lease>(many.to_string().as_bytes()).is_err());
    // Fields of an element.
    let mut task = task();
    task["state"]["dispatched"]["x"] = text(UNKNOWN_SIZE_MAX);
    assert!(read::<TaskRecord>(task.to_string().as_bytes()).is_err());
}

#[test]
fn a_request_with_a_name_that_is_not_known_is_refused_by_it() {
    let module = ModuleRef { name: None, digest: Digest([0; 32]) };
    let spec = TaskSpec::new(module, Default::default());
    let submit = json!({"tasks": [{"id": TaskId(1), "spec": spec}]});
    assert!(read_request::<Submit>(submit.to_string().as_bytes()).is_ok());
    for (place, path) in [
        ("", "tusks"),
        ("/tasks/0", "tasks.0.tusks"),
        ("/tasks/0/spec", "tasks.0.spec.tusks"),
        ("/tasks/0/spec/limits", "tasks.0.spec.limits.tusks"),
        ("/tasks/0/spec/retry", "tasks.0.spec.retry.tusks"),
    ] {
        let mut submit = submit.clone();
        submit.pointer_mut(place).expect("a place")["tusks"] = json!(1);
        let refused = read_request::<Submit>(submit.to_string().as_bytes());
        let refused = refused.expect_err("a name is wrong").to_string();
        assert!(
            refused.contains(&format!("unknown field `{path}`; correct the name")),
            "{refused}"
        );
    }
}
