//! Many tasks at once: each of them has exactly one result.

use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{collections::BTreeSet, fs::File, path::Path, process::Stdio};

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

/// Runs a map that can be resumed, and appends its results to a file. Sends the signal when there are so
/// many results, or lets the map end. Returns its exit code, or the signal that ended it.
fn gone_on(fleet: &Fleet, args: &[&str], results: &Path, struck: Option<(usize, Signal)>) -> i32 {
    let out = File::options().create(true).append(true).open(results).expect("a file");
    let mut command = fleet.muster(args);
    let mut map =
        command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn().expect("it starts");
    if let Some((lines, signal)) = struck {
        wait_for("results", || {
            assert_eq!(map.try_wait().expect("a child"), None, "it ended before it was struck");
            let text = std::fs::read_to_string(results).expect("a file");
            (text.lines().count() >= lines).then_some(())
        });
        kill_process(Pid::from_child(&map), signal).expect("it runs");
    }
    let ended = map.wait().expect("a child");
    ended.code().or_else(|| std::os::unix::process::ExitStatusExt::signal(&ended)).expect("one")
}

#[test]
fn a_run_that_is_interrupted_and_one_that_is_killed_go_on_where_they_were() {
    const TASKS: usize = 600;
    const INTERRUPTED: i32 = 130;
    let fleet = Fleet::start(2, 2);
    fleet.push("heart");
    let (inputs, results) = (fleet.path("inputs.jsonl"), fleet.path("results"));
    // A task takes 20 ms, so that the whole map takes seconds.
    let beat = "{\"for_ms\":20,\"every_us\":5000,\"rest\":true}\n";
    std::fs::write(&inputs, beat.repeat(TASKS)).expect("a file");
    let state = fleet.path("state");
    let args = ["map", "heart", text(&inputs), "--resume", text(&state), "--in-flight", "100"];
    let code = gone_on(&fleet, &args, &results, Some((100, Signal::INT)));
    assert_eq!(code, INTERRUPTED);
    let code = gone_on(&fleet, &args, &results, Some((300, Signal::KILL)));
    assert_eq!(code, Signal::KILL.as_raw());
    // As if the map had been killed while it wrote a line. It may also have been killed after a whole
    // line.
    let kept = std::fs::read_to_string(&state).expect("a file");
    let kept: serde_json::Value = serde_json::from_str(&kept).expect("a line of JSON");
    let kept = usize::try_from(kept["size"].as_u64().expect("a size")).expect("it fits");
    let whole = std::fs::read(&results).expect("a file");
    let with = |more: &[u8]| std::fs::write(&results, [&whole[..kept], more].concat());
    // The results of another run are kept.
    with(b"{\"line\":1,\"task\":\"x\"}\n").expect("a file");
    let size = std::fs::metadata(&results).expect("a file").len();
    assert_eq!(gone_on(&fleet, &args, &results, None), 2);
    assert_eq!(std::fs::metadata(&results).expect("a file").len(), size, "it was cut");
    with(b"{\"line\":").expect("a file");
    let other = fleet.run(&[&args[..], &["--priority", "60"]].concat());
    assert_eq!(other.code, 2, "{other:?}");
    assert!(other.err.contains("with other options"), "{other:?}");
    assert_eq!(gone_on(&fleet, &args, &results, None), 0);
    assert_eq!(gone_on(&fleet, &args, &results, None), 0, "there is nothing left to do");

    let text = std::fs::read_to_string(&results).expect("a file");
    let mut tasks = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let result: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        assert_eq!(result["line"], at + 1, "in order, each once");
        assert_eq!(result["verdict"], "completed", "{result}");
        assert!(tasks.insert(result["task"].to_string()), "twice: {result}");
    }
    assert_eq!(tasks.len(), TASKS);
    let listed = fleet.run(&["-o", "json", "task", "ls", "--limit", "1000"]).ok().json();
    assert_eq!(listed["tasks"].as_array().map(Vec::len), Some(TASKS), "none ran a second time");
    let more = |record: &serde_json::Value| record["record"]["attempts"] != 1;
    assert!(!listed["tasks"].as_array().expect("a list").iter().any(more), "{listed}");

    // A shell that redirects with > instead of >> has already emptied the file.
    std::fs::write(&results, "").expect("a file");
    assert_eq!(gone_on(&fleet, &args, &results, None), 2);
}

#[test]
fn failures_are_told_by_line_and_bad_lines_are_not_submitted() {
    let fleet = Fleet::start(1, 2);
    fleet.push("primes");
    let inputs =
        "{\"from\":1,\"to\":10}\n\n{\"from\"\n{\"from\":9,\"to\":1}\n{\"from\":1,\"to\":5}\n";
    let mapped = fleet.run_with(&["map", "primes", "-", "--json"], inputs.as_bytes());
    assert_eq!(mapped.code, 1, "{mapped:?}");
    for words in ["line 2: it is blank", "line 3: it is not JSON", "line 4: exit code 1"] {
        assert!(mapped.err.contains(words), "{words:?} is not in {mapped:?}");
    }
    assert!(mapped.err.contains("5 lines: 2 completed, 1 failed, 2 refused"), "{mapped:?}");
    let verdicts: Vec<_> = mapped
        .text()
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["verdict"].clone()
        })
        .collect();
    assert_eq!(verdicts, ["completed", "refused", "refused", "failed", "completed"]);
    let tasks = fleet.run(&["-o", "json", "task", "ls"]).ok().json();
    assert_eq!(tasks["tasks"].as_array().map(Vec::len), Some(3), "{tasks}");
}

#[test]
fn after_a_failure_no_further_line_is_submitted_where_that_is_wanted() {
    let fleet = Fleet::start(1, 1);
    fleet.push("primes");
    let good = "{\"from\":1,\"to\":10}\n";
    let inputs = format!("{good}{{\"from\":9,\"to\":1}}\n{}", good.repeat(1_000));
    let args = ["map", "primes", "-", "--fail-fast", "--in-flight", "1"];
    let mapped = fleet.run_with(&args, inputs.as_bytes());
    assert_eq!(mapped.code, 1, "{mapped:?}");
    assert_eq!(mapped.text().lines().count(), 2, "{mapped:?}");
    assert!(mapped.err.contains("no further line is submitted"), "{mapped:?}");
}
