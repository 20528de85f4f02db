//! What operators do: set time limits, cancel tasks, stop daemons gracefully, and watch through NATS.

use async_nats::{HeaderMap, jetstream};
use muster_protocol::subject::{Bucket, SERVICE};
use muster_tests::{Fleet, fleet::text, fleet::wait_for};
use rustix::process::Signal;
use std::process::Stdio;

#[test]
fn a_guest_that_loops_is_killed_at_its_time_limit_and_its_neighbours_never_notice() {
    let fleet = Fleet::start(1, 2);
    fleet.push("spin-forever");
    fleet.push("upper");
    let inputs = fleet.path("inputs");
    std::fs::write(&inputs, "line\n".repeat(2_000)).expect("a file");
    let neighbours = fleet
        .muster(&["map", "upper", text(&inputs)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster starts");
    let spun = fleet.run(&[
        "task",
        "run",
        "spin-forever",
        "--timeout",
        "1s",
        "--wait",
        "--priority",
        "90",
    ]);
    assert_eq!(spun.code, 124, "{spun:?}");
    let tasks = fleet.run(&["-o", "json", "task", "ls", "--state", "timed_out"]).ok().json();
    let outcome = &tasks["tasks"][0]["record"]["state"]["done"]["outcome"];
    assert_eq!(outcome["verdict"]["timed_out"]["limit_ms"], 1_000);
    let run_us = outcome["run_us"].as_u64().expect("a time");
    println!("killed after {run_us} us");
    assert!((1_000_000..1_100_000).contains(&run_us), "{run_us} us");
    let output = neighbours.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout);
    assert_eq!(lines.lines().filter(|line| line.contains("LINE")).count(), 2_000);
}

#[test]
fn a_running_task_is_cancelled_and_a_queued_one_too() {
    let fleet = Fleet::start(1, 1);
    fleet.push("spin-forever");
    let running = fleet.run(&["task", "run", "spin-forever"]).ok().text();
    fleet.until("it to run", &running, |record| !record["state"]["dispatched"].is_null());
    let queued = fleet.run(&["task", "run", "spin-forever"]).ok().text();
    fleet.run(&["task", "cancel", &queued, &running]).ok();
    for task in [&queued, &running] {
        fleet.until("its end", task, |record| {
            record["state"]["done"]["outcome"]["verdict"] == "cancelled"
        });
    }
}

#[test]
fn a_worker_that_is_told_to_stop_finishes_its_run_and_gives_its_lease_back() {
    let mut fleet = Fleet::start(1, 1);
    fleet.push("heart");
    // It takes this long on a slow machine as well, which is less than the grace of 8 s.
    let pace = r#"{"for_ms":3000,"every_us":10000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", pace]).ok().text();
    wait_for("it to run", || {
        fleet.run(&["task", "get", &task]).text().contains("progress ").then_some(())
    });
    fleet.signal("w1", Signal::TERM);
    assert_eq!(fleet.ended("w1"), 0);
    let record = fleet.record(&task);
    assert_eq!(record["state"]["done"]["outcome"]["verdict"], "completed", "{record}");
    let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    assert_eq!(workers["workers"][0]["lease"]["standing"], "released");
    fleet.signal("m1", Signal::TERM);
    assert_eq!(fleet.ended("m1"), 0);
}

#[test]
fn a_drain_waits_until_the_worker_is_empty_and_says_why_a_run_went_back() {
    let fleet = Fleet::start(1, 1);
    fleet.push("spin-forever");
    let task = fleet.run(&["task", "run", "spin-forever"]).ok().text();
    fleet.until("it to run", &task, |record| !record["state"]["dispatched"].is_null());
    let drain = ["-o", "json", "worker", "drain", "w1", "--deadline", "1s", "--wait"];
    let workers = fleet.run(&drain).ok().json();
    assert_eq!(workers["workers"][0]["attempts"], serde_json::json!([]), "{workers}");
    let record = fleet.until("it to go back", &task, |record| !record["history"][0].is_null());
    let reason = record["history"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("its worker drains"), "{reason}");
}

#[test]
fn the_fleet_is_watched_with_what_nats_users_have() {
    let fleet = Fleet::start(1, 1);
    fleet.push("upper");
    let task = fleet.run(&["task", "run", "upper", "--input", "a"]).ok().text();
    fleet.until("its end", &task, |record| !record["state"]["done"].is_null());
    let names = fleet.names();
    tokio::runtime::Runtime::new().expect("threads").block_on(async {
        let client = async_nats::connect(fleet.nats_url()).await.expect("nats-server answers");
        for verb in ["PING", "INFO", "STATS"] {
            let answer = client.request(format!("$SRV.{verb}.{SERVICE}"), "".into()).await;
            let answer: serde_json::Value =
                serde_json::from_slice(&answer.expect("a master answers").payload).expect("JSON");
            assert_eq!(answer["name"], SERVICE, "{answer}");
        }
        let context = jetstream::new(client);
        // A standard key-value client reads the buckets, and the values are JSON.
        let tasks = context.get_key_value(names.bucket(Bucket::Tasks)).await.expect("a bucket");
        let value = tasks.get(task.as_str()).await.expect("it answers").expect("the record");
        let record: serde_json::Value = serde_json::from_slice(&value).expect("JSON");
        assert_eq!(record["id"], task.as_str());
        // A client that may write one lease cannot delete the others.
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "all");
        let subject = names.key(Bucket::Workers, "w1");
        let erased = context.publish_with_headers(subject, headers, "{}".into()).await;
        let refusal = erased.expect("it is sent").await.expect_err("rollups are refused");
        assert!(refusal.to_string().contains("rollup"), "{refusal}");
        let workers = context.get_key_value(names.bucket(Bucket::Workers)).await.expect("a bucket");
        assert!(workers.get("w1").await.expect("it answers").is_some());
    });
}

#[test]
fn two_workers_cannot_share_a_state_directory() {
    let fleet = Fleet::start(1, 1);
    let state = fleet.path("w1.state");
    let tls = fleet.path("tls");
    let file = |name: &str| tls.join(name).to_str().expect("UTF-8").to_string();
    let second = fleet.run(&[
        "worker",
        "--allow-root",
        "--name",
        "w1",
        "--master",
        "127.0.0.1:1",
        "--state-dir",
        text(&state),
        "--ca",
        &file("ca.pem"),
        "--cert",
        &file("w1.pem"),
        "--key",
        &file("w1.key"),
    ]);
    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.err.contains("belongs to a daemon that is running"), "{second:?}");
}

#[test]
fn a_checkup_says_what_is_well() {
    let fleet = Fleet::start(1, 1);
    let check =
        wait_for("a master to be seen", || Some(fleet.run(&["check"])).filter(|ran| ran.code == 0));
    assert!(check.text().contains("group default"), "{check:?}");
}

#[test]
fn short_tasks_do_not_wait_behind_long_ones_while_another_worker_has_room() {
    let fleet = Fleet::start(2, 1);
    fleet.push("upper");
    fleet.push("heart");
    let inputs = fleet.path("inputs");
    std::fs::write(&inputs, "line\n".repeat(400)).expect("a file");
    // Short runs let masters expect more of them.
    fleet.run(&["map", "upper", text(&inputs)]).ok();
    let pace = r#"{"for_ms":600000,"every_us":1000000,"rest":true}"#;
    let long = fleet.run(&["task", "run", "heart", "--input", pace]).ok().text();
    wait_for("it to run", || {
        fleet.run(&["task", "get", &long]).text().contains("progress ").then_some(())
    });
    fleet.run(&["map", "upper", text(&inputs)]).ok();
    assert!(!fleet.record(&long)["state"]["dispatched"].is_null(), "the long one goes on");
}
