//! Lists of tasks: the newest first by submission, whatever their ids are, and as many as requested.

use muster_tests::{Fleet, fleet::text};
use serde_json::Value;

fn ids(list: &Value) -> Vec<String> {
    let tasks = list["tasks"].as_array().expect("a list");
    tasks.iter().map(|task| task["record"]["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn the_newest_tasks_are_listed_whatever_their_ids_are() {
    for workers in [0, 1] {
        let fleet = Fleet::start(workers, 1);
        fleet.push("noop");
        let mut submitted = Vec::new();
        // The id of a token sorts anywhere; an id that begins with the time sorts before nearly all of
        // those.
        for at in 0..12 {
            let token = format!("order-{at}");
            let named = ["task", "run", "noop", "--id", &token];
            let args = if at % 2 == 0 { &named[..] } else { &named[..3] };
            submitted.push(fleet.run(args).ok().text());
            if workers > 0 {
                let task = submitted.last().expect("one");
                fleet.until("its end", task, |record| !record["state"]["done"].is_null());
            }
        }
        submitted.reverse();
        let listed = fleet.run(&["-o", "json", "task", "ls", "--limit", "3"]).ok().json();
        assert_eq!(ids(&listed), submitted[..3], "with {workers} workers");
        let shown = fleet.run(&["task", "ls", "--limit", "5"]).ok();
        let hint = shown.err.split("--before ").nth(1).expect("it says how to go on").trim();
        let rest = fleet.run(&["-o", "json", "task", "ls", "--before", hint]).ok().json();
        assert_eq!(ids(&rest), submitted[5..]);
    }
}

#[test]
fn a_list_has_as_many_tasks_as_were_asked_for() {
    const TASKS: usize = 1_200;
    let fleet = Fleet::start(1, 2);
    fleet.push("upper");
    let inputs = fleet.path("inputs");
    let lines: String = (0..TASKS).map(|at| format!("{at} {}\n", "x".repeat(900))).collect();
    std::fs::write(&inputs, lines).expect("a file");
    fleet.run(&["map", "upper", text(&inputs)]).ok();
    for limit in [1_000, 1_150, 5_000] {
        let limit_text = limit.to_string();
        let listed = fleet.run(&["-o", "json", "task", "ls", "--limit", &limit_text]).ok().json();
        let mut ids = ids(&listed);
        assert_eq!(ids.len(), limit.min(TASKS));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), limit.min(TASKS), "some are there twice");
        assert_eq!(listed["more"].is_null(), limit > TASKS, "{}", listed["more"]);
    }
}
