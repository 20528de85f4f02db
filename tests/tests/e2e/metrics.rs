//! The metrics and the health of a master over HTTP, and the dashboard and the alert rules that are made of them.

use crate::{
    failover::{start_long_task, worker_of},
    http_client,
};
use muster_tests::{
    Fleet,
    fleet::{NATS, wait_for},
    net::{Net, own_port},
    place,
};
use std::{
    collections::BTreeSet,
    net::TcpStream,
    time::{Duration, Instant},
};

/// Connections that a master serves at once, and how long a request may take to arrive.
const CONNECTIONS_MAX: usize = 128;
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// Sends a request. Returns the status and the body.
fn ask(port: u16, method: &str, path: &str) -> (u16, String) {
    let answer = http_client::ask(port, method, path, &[]);
    (answer.status, answer.body)
}

fn fleet() -> (Fleet, u16) {
    let mut fleet = Fleet::within(Net::Plain, Some("fast"));
    let port = own_port();
    fleet.start_master_with("m1", &["--http", &format!("127.0.0.1:{port}")]);
    fleet.start_worker("w1", &[]);
    fleet.push("upper");
    (fleet, port)
}

/// The value of a metric with its labels, as it is written.
fn value(text: &str, metric: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The names of metrics in a text, without what the text format adds to them.
fn names(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c| !is_name(c)).filter(|word| word.starts_with("muster_"));
    let base = |word: &str| {
        let endings = ["_bucket", "_count", "_sum", "_total", "_info"];
        endings.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_string()
    };
    words.map(base).collect()
}

#[test]
fn a_master_counts_and_times_its_tasks() {
    let (mut fleet, port) = fleet();
    for _ in 0..3 {
        fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    }
    for number in 0..250 {
        let group = format!("group-{number}");
        fleet.run(&["task", "run", "upper", "--input", "a", "--group", &group]).ok();
    }
    let (status, text) = ask(port, "GET", "/metrics");
    assert_eq!(status, 200, "{text}");
    let completed = "muster_task_duration_seconds_count{verdict=\"completed\",group=\"default\"}";
    for (metric, wanted) in [
        ("muster_up", 1.0),
        (completed, 3.0),
        ("muster_task_queue_seconds_count{group=\"default\"}", 3.0),
        ("muster_workers{state=\"live\",group=\"default\"}", 1.0),
        ("muster_workers_linked{group=\"default\"}", 1.0),
        ("muster_workers_unwell{group=\"default\"}", 0.0),
        ("muster_tasks{state=\"dispatched\",group=\"default\"}", 0.0),
        // Whoever may submit does not make labels.
        ("muster_tasks{state=\"queued\",group=\"other\"}", 250.0),
        ("muster_events_total{about=\"task\",event=\"completed\"}", 3.0),
        ("muster_events_total{about=\"worker\",event=\"joined\"}", 1.0),
    ] {
        assert_eq!(value(&text, metric), Some(wanted), "{metric}\n{text}");
    }
    assert!(!text.contains("group-"), "{text}");
    let writes = value(&text, "muster_registry_write_seconds_count").expect("writes");
    assert!(writes >= 3.0 * 2.0 + 250.0, "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let age = value(&text, "muster_lease_age_seconds{group=\"default\"}").expect("an age");
    assert!((0.0..5.0).contains(&age), "{age}");

    // A failure, and a failover.
    fleet.start_worker("w2", &[]);
    let (task, worker) = start_long_task(&fleet);
    assert_ne!(fleet.run(&["task", "run", "primes", "--input", "no", "--wait"]).code, 0);
    fleet.kill(&worker);
    fleet.until("another worker to have it", &task, |record| {
        worker_of(record).is_some_and(|other| other != worker)
    });
    fleet.run(&["task", "cancel", &task]).ok();
    fleet.until("its end", &task, |record| record["state"]["done"].is_object());
    let (_, text) = ask(port, "GET", "/metrics");
    for (metric, wanted) in [
        ("muster_failover_seconds_count{group=\"default\"}", 1.0),
        ("muster_workers{state=\"lost\",group=\"default\"}", 1.0),
        ("muster_task_duration_seconds_count{verdict=\"failed\",group=\"default\"}", 1.0),
        ("muster_events_total{about=\"task\",event=\"redispatched\"}", 1.0),
    ] {
        assert_eq!(value(&text, metric), Some(wanted), "{metric}\n{text}");
    }

    let samples: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let served = names(&samples);
    let page = |path: &str| std::fs::read_to_string(place::root().join(path)).expect("a file");
    for path in ["deploy/prometheus/muster.rules.yaml", "deploy/grafana/muster.json"] {
        let named = names(&page(path));
        let unknown: Vec<_> = named.difference(&served).collect();
        assert!(named.len() > 5 && unknown.is_empty(), "{path}: no metric is called {unknown:?}");
    }
    let table: String =
        page("docs/METRICS.md").lines().filter(|line| line.starts_with("| `muster_")).collect();
    assert_eq!(names(&table), served, "docs/METRICS.md and the metrics of a master");
    serde_json::from_str::<serde_json::Value>(&page("deploy/grafana/muster.json")).expect("JSON");

    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(port, "GET", path).0, 200, "{path}");
    }
    assert_eq!(ask(port, "GET", "/nothing").0, 404);
    assert_eq!(ask(port, "POST", "/metrics").0, 405);
    fleet.kill(NATS);
    wait_for("the master to miss its registry", || {
        (ask(port, "GET", "/readyz").0 == 503).then_some(())
    });
    assert_eq!(ask(port, "GET", "/healthz").0, 200);
}

#[test]
fn connections_that_ask_nothing_hold_up_nobody_for_long() {
    let (_fleet, port) = fleet();
    let silent = || TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX + 8).map(|_| silent()).collect();
    let began = Instant::now();
    assert_eq!(ask(port, "GET", "/metrics").0, 200);
    let took = began.elapsed();
    // Two rounds of connections end before this one is served.
    assert!(took < 3 * REQUEST_WITHIN, "{took:?}");
    drop(silent);
}
