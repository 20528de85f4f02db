//! Many tasks at once: every one has a result, and one.

use muster_tests::{Fleet, fleet::text};
use std::collections::BTreeSet;

#[test]
fn ten_thousand_tasks_end_with_ten_thousand_results_each_exactly_once() {
    const TASKS: usize = 10_000;
    let fleet = Fleet::start(2, 2);
    fleet.push("noop");
    let inputs = fleet.path("inputs");
    let lines: Vec<String> = (1..=TASKS).map(|line| line.to_string()).collect();
    std::fs::write(&inputs, lines.join("\n")).expect("a file");
    let mapped = fleet.run(&["map", "noop", text(&inputs)]).ok();
    let results: Vec<serde_json::Value> = mapped
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(results.len(), TASKS);
    let mut tasks = BTreeSet::new();
    for (at, result) in results.iter().enumerate() {
        assert_eq!(result["line"], at + 1, "in the order of the inputs");
        assert_eq!(result["verdict"], "completed");
        assert!(
            tasks.insert(result["task"].as_str().expect("an id").to_string()),
            "twice: {result}"
        );
    }
}

#[test]
fn results_belong_to_their_inputs() {
    let fleet = Fleet::start(2, 2);
    fleet.push("upper");
    let inputs: String = (0..500).map(|number| format!("line {number}\n")).collect();
    let mapped = fleet.run_with(&["map", "upper", "-"], inputs.as_bytes()).ok();
    for (at, line) in mapped.text().lines().enumerate() {
        let result: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        assert_eq!(result["output"].as_str().map(str::trim), Some(format!("LINE {at}").as_str()));
    }
}
