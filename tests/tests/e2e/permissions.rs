//! Users of NATS with limited permissions: the permissions in the docs are enough, and a process that
//! lacks a permission names it.

use muster_tests::{Fleet, fleet::NATS, fleet::text, fleet::wait_for, place};
use std::time::{Duration, Instant};

/// The limit for a refused command: it does not wait for an answer that cannot come.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// The words in the error of a request that was not answered.
const SILENT: [&str; 2] = ["timed out", "no answer"];

pub const MASTER: &str = "master:change-this-1";
pub const OBSERVER: &str = "observer:change-this-2";
pub const CLIENT: &str = "client:change-this-3";
pub const WORKER: &str = "w1:change-this-4";
pub const ALICE: &str = "alice:change-this-5";
pub const BOB: &str = "bob:change-this-6";

/// The configuration from the docs.
pub fn documented() -> &'static str {
    let page = place::root().join("docs/PERMISSIONS.md");
    let page = std::fs::read_to_string(page).expect("a page");
    let block = page.split("```\n").find(|part| part.starts_with("accounts {")).expect("a block");
    Box::leak(block.to_owned().into_boxed_str())
}

/// A user with all permissions, and one that may not publish to a subject or subscribe to it.
fn may_not(verb: &str, subject: &str) -> &'static str {
    let config = format!(
        "authorization {{ users: [ {{ user: all, password: a }}, {{ user: some, password: s, \
         permissions: {{ {verb}: {{ deny: [\"{subject}\"] }} }} }} ] }}\n"
    );
    Box::leak(config.into_boxed_str())
}

const ALL: &str = "all:a";
const SOME: &str = "some:s";

fn until_logged(fleet: &Fleet, name: &str, words: &str) {
    wait_for(words, || fleet.log(name).contains(words).then_some(()));
}

/// How many lines of a log contain these words.
fn said(fleet: &Fleet, name: &str, words: &str) -> usize {
    fleet.log(name).lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_fleet_works_with_the_permissions_in_the_docs() {
    works(Fleet::registry_with(documented(), MASTER));
}

#[test]
fn behind_a_leaf_node_every_subject_of_jetstream_names_the_domain() {
    let block = documented().replace("\"$JS.API.", "\"$JS.hub.API.");
    let block = block.replace("\"$KV.", "\"$JS.hub.API.$KV.");
    let (_hub, leafs) = Fleet::hub();
    let mut fleet = Fleet::behind_a_leaf_node(leafs, &block, "masters_default");
    fleet.ask_as(MASTER);
    works(fleet);
}

fn works(mut fleet: Fleet) {
    fleet.start_master("m1");
    fleet.ask_as(WORKER);
    fleet.start_worker("w1", &[]);
    fleet.ask_as(CLIENT);
    fleet.push("upper");
    fleet.push("primes");
    let large = fleet.path("large");
    std::fs::write(&large, "x".repeat(200_000)).expect("a file");
    let input = format!("@{}", text(&large));
    let ran = fleet.run(&["task", "run", "upper", "--input", &input, "--wait"]).ok();
    assert_eq!(ran.text().len(), 200_000);
    let primes = ["task", "run", "primes", "--input", r#"{"from":1,"to":300000000}"#];
    let task = fleet.run(&primes).ok().text();
    fleet.run(&["task", "logs", "--follow", &task]).ok();
    fleet.run(&["task", "get", &task]).ok();
    fleet.run(&["task", "result", &task]).ok();
    fleet.run(&["events", "--since", "1h"]).ok();
    fleet.ask_as(OBSERVER);
    fleet.run(&["worker", "cordon", "w1"]).ok();
    fleet.run(&["worker", "uncordon", "w1"]).ok();
    fleet.ask_as(CLIENT);
    wait_for("all to be well", || (fleet.run(&["check"]).code == 0).then_some(()));
    // A restarted master finds its streams, and a second master joins.
    fleet.ask_as(MASTER);
    fleet.start_master("m2");
    fleet.kill("m1");
    fleet.start_master("m1");
    for name in ["m1", "m2", "w1"] {
        assert_eq!(said(&fleet, name, "NATS refuses"), 0, "{}", fleet.log(name));
    }
}

#[test]
fn a_master_names_the_bucket_that_it_may_not_write() {
    let mut fleet = Fleet::registry_with(may_not("publish", "$KV.muster_default_tasks.>"), SOME);
    fleet.start_master("m1");
    fleet.ask_as(ALL);
    fleet.start_worker("w1", &[]);
    fleet.push("upper");
    let mut run = fleet.muster(&["task", "run", "upper", "--input", "a"]);
    let run = run.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut run = run.spawn().expect("muster starts");
    let words = "NATS refuses to publish to $KV.muster_default_tasks.>";
    until_logged(&fleet, "m1", words);
    assert!(fleet.log("m1").contains("give its user the permission"), "{}", fleet.log("m1"));
    // The master retries again and again, and logs that only now and then.
    until_logged(&fleet, "m1", "was not answered within");
    run.kill().expect("it waits");
    run.wait().expect("a child");
    assert_eq!(said(&fleet, "m1", words), 1, "{}", fleet.log("m1"));
}

#[test]
fn a_master_that_may_not_make_its_streams_says_which_and_ends() {
    let mut fleet = Fleet::registry_with(may_not("publish", "$JS.API.STREAM.CREATE.>"), SOME);
    fleet.launch_master("m1");
    assert_eq!(fleet.ended("m1"), 2);
    let log = fleet.log("m1");
    assert!(log.contains("NATS refuses to publish to $JS.API.STREAM.CREATE.KV_"), "{log}");
    assert!(!SILENT.iter().any(|words| log.contains(words)), "{log}");
    // Waiting does not help either if the server does not know the user.
    fleet.ask_as("nobody:n");
    fleet.launch_master("m2");
    assert_eq!(fleet.ended("m2"), 2);
    assert!(fleet.log("m2").contains("does not let this process in"), "{}", fleet.log("m2"));
}

#[test]
fn a_worker_names_what_it_may_not_write_and_renews_through_its_master() {
    let mut fleet = Fleet::registry_with(may_not("publish", "$KV.muster_default_workers.>"), ALL);
    fleet.start_master("m1");
    fleet.ask_as(SOME);
    fleet.start_worker("w1", &[]);
    let words = "NATS refuses to publish to $KV.muster_default_workers.>";
    until_logged(&fleet, "w1", words);
    assert_eq!(said(&fleet, "w1", words), 1, "{}", fleet.log("w1"));
    fleet.ask_as("nobody:n");
    fleet.start_worker("w2", &[]);
    until_logged(&fleet, "w2", "no direct connection to NATS");
}

#[test]
fn a_command_that_is_refused_ends_at_once_and_says_what_it_lacks() {
    for (verb, subject, does) in [
        ("publish", "muster.default.api.>", "publish to muster.default.api.worker.list"),
        ("subscribe", "_INBOX.>", "subscribe to _INBOX.>"),
    ] {
        let mut fleet = Fleet::registry_with(may_not(verb, subject), ALL);
        fleet.start_master("m1");
        fleet.ask_as(SOME);
        let began = Instant::now();
        let ran = fleet.run(&["worker", "ls"]);
        assert!(began.elapsed() < REFUSED_WITHIN, "{:?}", began.elapsed());
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(&format!("NATS refuses to {does}")), "{ran:?}");
        assert!(ran.err.contains("docs/PERMISSIONS.md"), "{ran:?}");
        assert!(!SILENT.iter().any(|words| ran.err.contains(words)), "{ran:?}");
    }
}

#[test]
fn a_master_waits_for_a_nats_server_that_is_not_there_yet() {
    let mut fleet = Fleet::registry();
    fleet.kill(NATS);
    fleet.launch_master("m1");
    until_logged(&fleet, "m1", "no nats-server answers at");
    assert!(fleet.bury().is_empty(), "{}", fleet.log("m1"));
    fleet.start_nats();
    wait_for("the master to serve", || fleet.is_ready("m1").then_some(()));
    // A master that waits for the server can be stopped.
    fleet.kill(NATS);
    fleet.launch_master("m2");
    until_logged(&fleet, "m2", "no nats-server answers at");
    fleet.signal("m2", rustix::process::Signal::TERM);
    assert_eq!(fleet.ended("m2"), 0);
}

#[test]
fn a_check_names_what_its_user_may_not_do() {
    let some = "{ user: carol, password: c, permissions: {\n\
                publish: { allow: [\"muster.default.api.>\", \"$SRV.PING.muster-master\"], \
                deny: \"muster.default.api.task.cancel\" }\n\
                subscribe: [\"_INBOX.>\", \"muster.default.done.>\", \"muster.default.event.>\", \
                \"muster.default.log.>\"] } }\n      { user: client,";
    let config = documented().replace("{ user: client,", some);
    let mut fleet = Fleet::registry_with(Box::leak(config.into_boxed_str()), MASTER);
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    let mut found = |user, inbox: &str| {
        fleet.ask_as(user);
        let findings = fleet.run(&["-o", "json", "--nats-inbox-prefix", inbox, "check"]).json();
        let findings = findings.as_array().expect("findings").clone();
        let of = findings.into_iter().filter(|finding| finding["about"] == "permissions");
        let of: Vec<_> = of.collect();
        assert_eq!(of.len(), 1, "{of:?}");
        of[0].clone()
    };
    for (user, inbox, hears) in [
        (CLIENT, "_INBOX", "you hear what masters publish"),
        (OBSERVER, "_INBOX", "you hear what masters publish"),
        (BOB, "_INBOX_bob", "you hear nothing that masters publish"),
    ] {
        let found = found(user, inbox);
        let detail = found["detail"].as_str().expect("a sentence");
        assert!(found["health"] == "ok" && detail.contains(hears), "{found}");
    }
    let found = found("carol:c", "_INBOX");
    assert_eq!(found["health"], "warn", "{found}");
    let lacks = ["muster.default.api.task.cancel", "muster.default.progress.>"];
    assert_eq!(found["names"], serde_json::json!(lacks), "{found}");
    assert_eq!(said(&fleet, "m1", "without an inbox"), 0, "{}", fleet.log("m1"));
}
