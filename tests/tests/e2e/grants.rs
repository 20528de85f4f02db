//! The grants of tasks, from the command line to the guest and back, and the refusal of what no worker's
//! policy allows.

use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
};
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

/// A fleet of one worker with this policy.
fn fleet(policy: &str) -> Fleet {
    let mut fleet = Fleet::start(0, 0);
    let file = fleet.path("policy.toml");
    std::fs::write(&file, policy).expect("a file");
    fleet.start_worker("w1", &["--slots", "2", "--policy", text(&file)]);
    // A master can refuse a task only if it knows the policies of the workers.
    wait_for("the master to know its policy", || {
        let worker = fleet.run(&["-o", "json", "worker", "get", "w1"]);
        (worker.code == 0 && worker.json()["linked"] == true).then_some(())
    });
    fleet
}

/// Runs the guest that prints what it has been granted. Returns its lines.
fn inventory(fleet: &Fleet, options: &[&str]) -> Vec<String> {
    let ran = fleet.run(&[&["task", "run", "inventory", "--wait"], options].concat()).ok();
    ran.text().lines().map(ToString::to_string).collect()
}

/// The text after a word, in the only line that begins with this word.
fn said<'a>(lines: &'a [String], word: &str) -> &'a str {
    let mut found = lines.iter().filter_map(|line| line.strip_prefix(&format!("{word} ")));
    let said = found.next().unwrap_or_else(|| panic!("no {word} in {lines:?}"));
    assert_eq!(found.next(), None, "{lines:?}");
    said
}

fn grain(lines: &[String]) -> u64 {
    said(lines, "clock").trim_end_matches(" ns").parse().expect("a number")
}

#[test]
fn a_task_has_what_it_names_and_nothing_else() {
    let mut fleet = Fleet::start(0, 0);
    let (policy, secret) = (fleet.path("policy.toml"), fleet.path("secret"));
    std::fs::write(&secret, "hush\n").expect("a file");
    let rules = format!("dir_mib = 8\n[secrets]\nTOKEN = '{}'\n", text(&secret));
    std::fs::write(&policy, rules).expect("a file");
    fleet.start_worker("w1", &["--slots", "2", "--policy", text(&policy)]);
    fleet.push("inventory");

    let bare = inventory(&fleet, &[]);
    assert!(!bare.iter().any(|line| line.starts_with("variable")), "{bare:?}");
    assert!(!bare.iter().any(|line| line.starts_with("argument")), "{bare:?}");
    assert!(said(&bare, "file").starts_with("none: "), "{bare:?}");
    assert_eq!(grain(&bare) % 1_000_000, 0, "{bare:?}");

    let options = "--env A=1 --env B=x=y --secret TOKEN --dir 1MiB --clock 1us --random -- one two";
    let options: Vec<&str> = options.split_whitespace().collect();
    let full = inventory(&fleet, &options);
    for line in
        ["argument one", "argument two", "variable A=1", "variable B=x=y", "variable TOKEN=hush"]
    {
        assert!(full.iter().any(|found| found == line), "{line:?} is not in {full:?}");
    }
    assert_eq!(full.iter().filter(|line| line.starts_with("variable")).count(), 3, "{full:?}");
    assert_eq!(said(&full, "file"), "so far");
    assert!(grain(&full) < 1_000_000 && grain(&full).is_multiple_of(1_000), "{full:?}");
    let scratch = fleet.path("w1.state").join("scratch");
    wait_for("its directory to go", || {
        let left = std::fs::read_dir(&scratch).map_or(0, Iterator::count);
        (left == 0).then_some(())
    });

    // Without a grant, random numbers are derived from the task's id.
    let id = "01m7y31ehbzwpzdmwrs5vq8rjp";
    let once = inventory(&fleet, &["--id", id]);
    assert_ne!(said(&once, "random"), said(&bare, "random"));
    assert_ne!(said(&full, "random"), said(&inventory(&fleet, &["--random"]), "random"));
}

#[test]
fn a_variable_without_a_value_is_the_callers_and_grants_can_be_seen() {
    let fleet = fleet("dir_mib = 8\nhttp = ['*.example.com']\nrandom = false\nclock_ns = 1000\n");
    fleet.push("inventory");
    let mut command = fleet.muster(&["task", "run", "inventory", "--wait", "--env", "HERE"]);
    let output = command.env("HERE", "value").output().expect("muster starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains("variable HERE=value"), "{output:?}");
    let ran = fleet.run(&["task", "run", "inventory", "--env", "NOT_HERE_AT_ALL"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("--env NOT_HERE_AT_ALL=VALUE"), "{ran:?}");

    let grants = ["--env", "A=1", "--dir", "1MiB", "--allow-http", "a.example.com"];
    let task = fleet.run(&[&["task", "run", "inventory"], &grants[..]].concat()).ok().text();
    let shown = fleet.run(&["task", "get", &task]).ok().text();
    assert!(shown.contains("env A, http a.example.com, dir of 1048576 bytes"), "{shown}");
    let worker = fleet.run(&["worker", "get", "w1"]).ok().text();
    for line in
        ["environment variables", "HTTP to *.example.com", "a directory of 8 MiB", "a clock of 1us"]
    {
        assert!(worker.contains(line), "{line:?} is not in {worker}");
    }
    assert!(!worker.contains("random numbers"), "{worker}");
}

#[test]
fn what_no_policy_allows_is_refused_when_it_is_submitted() {
    let fleet = fleet("env = false\nrandom = false\nclock_ns = 1000000\ndir_mib = 1\n");
    fleet.push("inventory");
    for (grant, words) in [
        (&["--env", "A=1"][..], "has no environment variables"),
        (&["--secret", "TOKEN"], "has no secret TOKEN"),
        (&["--allow-http", "example.com:8080"], "does not allow HTTP to example.com:8080"),
        (&["--dir", "2MiB"], "allows a scratch directory of 1048576 bytes, not of 2097152"),
        (&["--clock", "1us"], "allows a clock of 1000000 ns, not of 1000 ns"),
        (&["--random"], "has no random numbers"),
    ] {
        let ran = fleet.run(&[&["task", "run", "inventory", "--wait"], grant].concat());
        assert_eq!(ran.code, 2, "{grant:?}: {ran:?}");
        assert!(ran.err.contains(&format!("the policy of w1 {words}")), "{grant:?}: {ran:?}");
    }
    let tasks = fleet.run(&["-o", "json", "task", "ls"]).ok().json();
    assert_eq!(tasks["tasks"].as_array().map(Vec::len), Some(0), "nothing was stored: {tasks}");
    let lines = inventory(&fleet, &["--dir", "1MiB"]);
    assert_eq!(said(&lines, "file"), "so far", "what is allowed is granted");
}

/// A server that answers every request with `hello` and keeps the requests, until the test ends.
fn server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = heard.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let lines = BufReader::new(&connection).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            kept.lock().expect("nobody panics with it").push(head.join("\n"));
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
            let _ = (&connection).write_all(answer.as_bytes());
        }
    });
    (address, heard)
}

#[test]
fn http_goes_where_task_and_policy_say_and_names_the_task() {
    let ((address, heard), (other, other_heard)) = (server(), server());
    let fleet = fleet(&format!("http = ['{address}', '{other}']\n"));
    fleet.push("fetch");
    let rule = address.to_string();
    let page = format!("http://{address}/page?a=b");
    let fetch = |options: &[&str]| {
        fleet.run(&[&["task", "run", "fetch", "--input", &page, "--wait"], options].concat())
    };
    let id = "01m7y31ehbzwpzdmwrs5vq8rjp";
    let ran = fetch(&["--allow-http", &rule, "--id", id]).ok();
    assert_eq!(ran.text(), "hello");
    let record = fleet.record(id);
    let attempt = record["state"]["done"]["attempt"]["id"].as_str().expect("an attempt");
    let [head] = &heard.lock().expect("nobody panics with it")[..] else { panic!("one request") };
    assert!(head.starts_with("GET /page?a=b HTTP/1.1"), "{head}");
    for header in [format!("muster-task: {id}"), format!("muster-attempt: {attempt}")] {
        assert!(head.to_lowercase().lines().any(|line| line == header), "{header:?} in {head}");
    }

    // A loopback address that the policy allows and the task does not name.
    for options in [&[][..], &["--allow-http", &other.to_string()]] {
        let ran = fetch(options);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("HttpRequestDenied"), "{ran:?}");
    }
    assert!(other_heard.lock().expect("nobody panics with it").is_empty());
    // A loopback address that the task names and the policy does not allow.
    let ran = fetch(&["--allow-http", "127.0.0.1:1"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("does not allow HTTP to 127.0.0.1:1"), "{ran:?}");
}
