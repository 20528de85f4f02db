//! Tasks under tokens of their submitters: a repeated submission is the same task, and another task
//! under the same token is refused.

use muster_tests::Fleet;

/// Submits `upper` under a token.
fn submit(fleet: &Fleet, token: &str, input: &str, more: &[&str]) -> muster_tests::Ran {
    let args = ["task", "run", "upper", "--id", token, "--input", input];
    fleet.run(&[&args[..], more].concat())
}

fn count(fleet: &Fleet) -> usize {
    let tasks = fleet.run(&["-o", "json", "task", "ls"]).ok().json();
    tasks["tasks"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_token_is_one_task_however_often_it_is_submitted() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let first = submit(&fleet, "order-4711", "a", &["--wait"]).ok();
    assert_eq!(first.text(), "A");
    let task = fleet.run(&["-o", "json", "task", "get", "order-4711"]).ok().json();
    let attempt = task["record"]["state"]["done"]["attempt"]["id"].clone();
    assert!(attempt.is_string(), "{task}");
    let again = submit(&fleet, "order-4711", "a", &["--wait"]).ok();
    assert_eq!(again.text(), "A", "its result is read back");
    let task = fleet.run(&["-o", "json", "task", "get", "order-4711"]).ok().json();
    assert_eq!(task["record"]["state"]["done"]["attempt"]["id"], attempt, "and it did not run");
    assert_eq!(count(&fleet), 1);
    let id = task["record"]["id"].as_str().expect("an id");
    assert_eq!(submit(&fleet, id, "a", &[]).ok().text(), id, "its id names it as well");
    assert_eq!(fleet.run(&["task", "result", "order-4711"]).ok().text(), "A");
}

#[test]
fn another_task_under_the_same_token_is_refused_while_it_runs_and_afterwards() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    fleet.push("spin-forever");
    let open = ["task", "run", "spin-forever", "--id", "endless"];
    let id = fleet.run(&open).ok().text();
    assert_eq!(fleet.run(&open).ok().text(), id);
    let refused = |ran: muster_tests::Ran, what: &str| {
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(&format!("and its {what} differs")), "{ran:?}");
        assert!(ran.err.contains("another --id"), "{ran:?}");
    };
    refused(fleet.run(&[&open[..], &["--priority", "60"]].concat()), "priority");
    refused(submit(&fleet, "endless", "a", &[]), "module");
    fleet.run(&["task", "cancel", "endless"]).ok();

    submit(&fleet, "order-4711", "a", &["--wait"]).ok();
    refused(submit(&fleet, "order-4711", "b", &["--wait"]), "input");
    refused(submit(&fleet, "order-4711", "a", &["--env", "A=1"]), "grants");
    assert_eq!(fleet.run(&["task", "result", "order-4711"]).ok().text(), "A");
    assert_eq!(count(&fleet), 2);
}

#[test]
fn a_token_for_several_tasks_names_each_of_them() {
    let fleet = Fleet::start(1, 2);
    fleet.push("upper");
    let five = submit(&fleet, "night", "a", &["--count", "5"]).ok().text();
    assert_eq!(submit(&fleet, "night", "a", &["--count", "5"]).ok().text(), five);
    let seven = submit(&fleet, "night", "a", &["--count", "7"]).ok().text();
    assert!(seven.starts_with(&five), "{seven}");
    let waited = submit(&fleet, "night", "a", &["--count", "7", "--wait"]).ok();
    assert_eq!(waited.text(), "AAAAAAA");
    assert_eq!(count(&fleet), 7);
}
