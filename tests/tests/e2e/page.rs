//! The page of a master: its files, what it is told, what it may change, and what a hostile client can do.

use crate::{
    failover::start_long_task,
    http_client::{Event, Events, ask, get},
};
use muster_tests::{
    Fleet,
    fleet::{text, wait_for},
    net::own_port,
};
use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

const TOKEN: &str = "an-example-of-a-token";

/// Pages at once, and how long a silent connection lasts.
const PAGES_MAX: usize = 32;
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// What a master may need for hostile clients, besides what it needs for tasks: buffers of its connections.
const HOSTILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn fleet() -> (Fleet, u16) {
    let mut fleet = Fleet::registry();
    let (port, token) = (own_port(), fleet.path("token"));
    std::fs::write(&token, format!("{TOKEN}\n")).expect("a file");
    let address = format!("127.0.0.1:{port}");
    let options = ["--http", &address, "--http-token-file", text(&token)];
    fleet.start_master_with("m1", &options);
    fleet.start_worker("w1", &["--slots", "2"]);
    fleet.push("upper");
    (fleet, port)
}

fn authorized() -> String {
    format!("Bearer {TOKEN}")
}

/// The row of a task in an event.
fn row<'a>(event: &'a Event, task: &str) -> Option<&'a serde_json::Value> {
    event.data["tasks"].as_array()?.iter().find(|row| row["id"] == task)
}

#[test]
fn the_files_of_the_page_have_their_types_and_no_other_site_may_use_them() {
    let (_fleet, port) = fleet();
    let page = get(port, "/");
    assert_eq!(
        (page.status, page.headers["content-type"].as_str()),
        (200, "text/html; charset=utf-8")
    );
    let names = page.body.split(['"', '\'']).filter(|name| {
        name.ends_with(".js")
            || name.ends_with(".mjs")
            || name.ends_with(".css")
            || name.ends_with(".svg")
    });
    let mut files = 0;
    for name in names {
        let file = get(port, &format!("/{name}"));
        let kind = match name.rsplit('.').next() {
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/javascript; charset=utf-8",
        };
        assert_eq!((file.status, file.headers["content-type"].as_str()), (200, kind), "{name}");
        files += 1;
    }
    assert!(files > 30, "only {files} files");
    for path in ["/", "/api/self", "/nothing", "/metrics"] {
        let answer = get(port, path);
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["x-frame-options"], "DENY", "{path}");
    }
    for (path, host) in
        [("/", "evil.example.com"), ("/api/self", "evil.example.com:80"), ("/events", "")]
    {
        assert_eq!(ask(port, "GET", path, &[("Host", host)]).status, 421, "{path} {host}");
    }
    for path in ["/events", "/api/tasks"] {
        let from = [("Sec-Fetch-Site", "cross-site")];
        assert_eq!(ask(port, "GET", path, &from).status, 403, "{path}");
    }
}

#[test]
fn a_page_gets_a_snapshot_and_then_what_changes_and_may_come_back() {
    let (fleet, port) = fleet();
    fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    let mut page = Events::open(port, "/events", None);
    let first = page.next().expect("a snapshot");
    assert_eq!(first.what, "snapshot");
    let data = &first.data;
    assert_eq!((&data["fleet"], &data["master"]), (&"default".into(), &"m1".into()));
    assert_eq!(data["workers"][0]["worker"], "w1");
    assert_eq!(data["workers"][0]["standing"], "live");
    assert_eq!(data["workers"][0]["lease_ms"], 4_000);
    assert_eq!(data["groups"][0]["workers"], 1);
    assert_eq!(data["ended"]["completed"], 1);
    assert_eq!(data["tasks"][0]["verdict"], "completed");
    assert_eq!(data["series"].as_array().map(Vec::len), Some(600));

    fleet.run(&["task", "run", "upper", "--input", "b", "--wait", "--id", "second"]).ok();
    let task = fleet.run(&["-o", "json", "task", "get", "second"]).ok().json();
    let task = task["record"]["id"].as_str().expect("an id").to_string();
    let ended = page.until("the end of the task", |event| {
        row(event, &task).is_some_and(|row| row["verdict"] == "completed")
    });
    assert_eq!(ended.what, "change");
    assert_eq!(row(&ended, &task).map(|row| row["worker"].clone()), Some("w1".into()));
    page.until("a renewal without its worker", |event| event.data["renewed"][0][0] == "w1");
    drop(page);

    // The page comes back, and misses nothing.
    let mut again = Events::open(port, "/events", Some(&ended.id));
    let next = again.next().expect("a change");
    assert_eq!(next.what, "change");
    let number = |id: &str| id.rsplit('-').next().and_then(|number| number.parse::<u64>().ok());
    assert_eq!(number(&next.id), number(&ended.id).map(|number| number + 1));
    // The chart has whole seconds.
    wait_for("the second in which it ended to be over", || {
        let first = Events::open(port, "/events", None).next()?;
        let points = first.data["series"].as_array()?;
        let completed = points.iter().filter_map(|point| point[1].as_u64()).sum::<u64>();
        (completed == 2).then_some(())
    });
    for unknown in ["1-1", "nonsense", "1-18446744073709551615"] {
        let mut other = Events::open(port, "/events", Some(unknown));
        assert_eq!(other.next().expect("a snapshot").what, "snapshot", "{unknown}");
    }
}

#[test]
fn a_page_lists_tasks_and_shows_one_with_its_log() {
    let (fleet, port) = fleet();
    for number in 0..5 {
        let id = format!("number-{number}");
        fleet.run(&["task", "run", "upper", "--input", "a", "--wait", "--id", &id]).ok();
    }
    fleet.run(&["task", "run", "upper", "--group", "nowhere", "--input", "a"]).ok();
    let first = get(port, "/api/tasks?limit=4").json();
    assert_eq!(first["tasks"].as_array().map(Vec::len), Some(4));
    assert_eq!(first["tasks"][0]["state"], "queued");
    let why = first["tasks"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("nowhere"), "{why}");
    let more = first["more"].as_str().expect("a place");
    let second = get(port, &format!("/api/tasks?limit=4&before={more}")).json();
    assert_eq!(second["tasks"].as_array().map(Vec::len), Some(2));
    assert!(second["more"].is_null());
    let completed = get(port, "/api/tasks?state=completed&group=default").json();
    assert_eq!(completed["tasks"].as_array().map(Vec::len), Some(5));
    for (path, status) in [
        ("/api/tasks?limit=x", 400),
        ("/api/task/00000000000000000000000000", 404),
        ("/api/task/x", 404),
        ("/api/nothing", 404),
    ] {
        let answer = get(port, path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["error"].is_string(), "{path}");
    }
    let modules = get(port, "/api/modules").json();
    assert_eq!(modules["modules"][0]["name"], "upper");

    let (task, worker) = start_long_task(&fleet);
    let shown = get(port, &format!("/api/task/{task}")).json();
    assert_eq!(shown["task"]["worker"], worker.as_str());
    assert_eq!(shown["record"]["id"], task.as_str());
    assert_eq!(shown["timeline"][1]["what"], "dispatched");
    fleet.run(&["task", "cancel", &task]).ok();
    let mut log = Events::open(port, &format!("/api/task/{task}/log"), None);
    let end = log.until("the end of the log", |event| event.what == "end");
    assert_eq!(end.data, serde_json::json!({}));
    assert!(log.next().is_none());
    let shown = get(port, &format!("/api/task/{task}")).json();
    let timeline = shown["timeline"].as_array().expect("a timeline");
    assert_eq!(timeline.last().map(|event| event["what"].clone()), Some("cancelled".into()));
}

#[test]
fn only_who_shows_the_token_may_change_something_and_the_audit_says_so() {
    let (fleet, port) = fleet();
    let (task, _) = start_long_task(&fleet);
    let cancel = format!("/api/task/{task}/cancel");
    let wrong = format!("Bearer {TOKEN}x");
    for headers in [&[][..], &[("Authorization", wrong.as_str())], &[("Authorization", TOKEN)]] {
        for path in [cancel.as_str(), "/api/worker/w1/cordon"] {
            let answer = ask(port, "POST", path, headers);
            assert_eq!(answer.status, 403, "{path} {headers:?}: {}", answer.body);
        }
        assert_eq!(ask(port, "GET", "/api/self", headers).json()["may_change"], false);
    }
    let lease = |fleet: &Fleet| {
        let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
        workers["workers"][0]["lease"]["standing"].clone()
    };
    assert_eq!(lease(&fleet), "live");
    let bearer = authorized();
    let headers = [("Authorization", bearer.as_str())];
    assert_eq!(ask(port, "GET", "/api/self", &headers).json()["may_change"], true);
    assert_eq!(ask(port, "GET", &cancel, &headers).status, 404, "a GET changes nothing");
    for (path, status) in [
        (cancel.as_str(), 204),
        ("/api/worker/w1/cordon", 204),
        ("/api/worker/nobody/cordon", 503),
        ("/api/worker/w1/remove", 404),
    ] {
        let answer = ask(port, "POST", path, &headers);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    fleet.until("its end", &task, |record| record["state"]["done"].is_object());
    assert_eq!(lease(&fleet), "cordoned");
    assert_eq!(ask(port, "POST", "/api/worker/w1/uncordon", &headers).status, 204);
    assert_eq!(lease(&fleet), "live");
    wait_for("the audit", || {
        let audit = fleet.run(&["audit", "ls", "--user", "http"]).ok().text();
        let is_there = |words: &&str| audit.contains(*words);
        ["task.cancel", "worker.order", "refused", "done"].iter().all(is_there).then_some(())
    });
}

#[test]
fn a_master_without_a_token_changes_nothing_and_is_not_reached_from_elsewhere_by_chance() {
    let mut fleet = Fleet::registry();
    let port = own_port();
    fleet.launch_master_with("m1", &["--http", &format!("0.0.0.0:{port}")]);
    assert_ne!(fleet.ended("m1"), 0);
    assert!(fleet.log("m1").contains("--http-public"), "{}", fleet.log("m1"));
    let address = format!("0.0.0.0:{port}");
    let options = ["--http", &address, "--http-public", "--http-host", "fleet.example.com"];
    fleet.start_master_with("m1", &options);
    for (host, status) in [("fleet.example.com", 200), ("evil.example.com", 421), ("10.1.2.3", 200)]
    {
        assert_eq!(ask(port, "GET", "/api/self", &[("Host", host)]).status, status, "{host}");
    }
    let bearer = authorized();
    let answer = ask(port, "POST", "/api/worker/w1/cordon", &[("Authorization", &bearer)]);
    assert_eq!(answer.status, 403);
    let hint = answer.json()["hint"].to_string();
    assert!(hint.contains("--http-token-file"), "{hint}");
}

fn memory(fleet: &Fleet) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", fleet.pid("m1")));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory");
    let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") * 1024
}

#[test]
fn hostile_clients_stop_no_tasks_and_do_not_fill_the_memory() {
    let (fleet, port) = fleet();
    let task = |fleet: &Fleet| {
        let began = Instant::now();
        fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
        began.elapsed()
    };
    task(&fleet);
    let before = memory(&fleet);
    // Pages that never read what they are sent.
    let connect = || TcpStream::connect(("127.0.0.1", port));
    let asks = |path: &str| {
        let mut stream = connect().expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        stream
    };
    let pages: Vec<TcpStream> = (0..PAGES_MAX + 8).map(|_| asks("/events")).collect();
    // Connections that say nothing, and one that never ends its headers.
    let silent: Vec<_> = (0..1_000).filter_map(|_| connect().ok()).collect();
    let mut endless = connect().expect("it listens");
    for _ in 0..64 {
        if endless.write_all(&[b'x'; 4_096]).is_err() {
            break;
        }
    }
    let took: Vec<_> = (0..10).map(|_| task(&fleet)).collect();
    let more = memory(&fleet).saturating_sub(before);
    println!("{} silent connections; tasks took {took:?}; {more} bytes more", silent.len());
    assert!(took.iter().all(|took| *took < Duration::from_secs(5)), "{took:?}");
    assert!(more < HOSTILE_BYTES_MAX, "{more}");
    drop(pages);
    // Those that say nothing are dropped, so others are served after some rounds of them.
    let began = Instant::now();
    assert_eq!(get(port, "/healthz").status, 200);
    println!("served after {:?}", began.elapsed());
    drop(silent);
    wait_for("a place for a page", || (get(port, "/api/self").status == 200).then_some(()));
    let mut page = Events::open(port, "/events", None);
    assert_eq!(page.next().expect("a snapshot").what, "snapshot");
    assert!(began.elapsed() < REQUEST_WITHIN * 12, "{:?}", began.elapsed());
}
