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

/// The names of the metrics that are served.
fn served(text: &str) -> BTreeSet<String> {
    let samples: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    names(&samples)
}

/// A file of the project.
fn page(path: &str) -> String {
    std::fs::read_to_string(place::root().join(path)).expect("a file")
}

fn is_of_worker(name: &str) -> bool {
    name.starts_with("muster_worker_")
}

/// The names in the tables of docs/METRICS.md, of workers or of masters.
fn documented(of_worker: bool) -> BTreeSet<String> {
    let page = page("docs/METRICS.md");
    let rows: String = page.lines().filter(|line| line.starts_with("| `muster_")).collect();
    names(&rows).into_iter().filter(|name| is_of_worker(name) == of_worker).collect()
}

/// The names in the alert rules and the dashboard, of workers or of masters.
fn used(of_worker: bool) -> BTreeSet<String> {
    let files = ["deploy/prometheus/muster.rules.yaml", "deploy/grafana/muster.json"];
    let named = files.iter().flat_map(|path| names(&page(path)));
    named.filter(|name| is_of_worker(name) == of_worker).collect()
}

#[test]
fn a_worker_counts_its_runs_and_tells_that_it_lost_its_lease() {
    let mut fleet = Fleet::within(Net::Plain, Some("fast"));
    let port = own_port();
    fleet.start_master("m1");
    fleet.start_worker("w1", &["--http", &format!("127.0.0.1:{port}"), "--slots", "2"]);
    fleet.push("upper");
    fleet.run(&["task", "run", "upper", "--input", "a", "--wait"]).ok();
    start_long_task(&fleet);
    let (status, text) = ask(port, "GET", "/metrics");
    assert_eq!(status, 200, "{text}");
    for (metric, wanted) in [
        ("muster_worker_leased", 1.0),
        ("muster_worker_links{transport=\"quic\"}", 1.0),
        ("muster_worker_slots", 2.0),
        ("muster_worker_attempts", 1.0),
        ("muster_worker_run_duration_seconds_count{verdict=\"completed\"}", 1.0),
        ("muster_worker_sessions_over_total", 0.0),
    ] {
        assert_eq!(value(&text, metric), Some(wanted), "{metric}\n{text}");
    }
    let age = value(&text, "muster_worker_lease_age_seconds").expect("an age");
    assert!((0.0..1.0).contains(&age), "{age}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(port, "GET", path).0, 200, "{path}");
    }
    assert_eq!((ask(port, "GET", "/").0, ask(port, "POST", "/metrics").0), (404, 405));
    let foreign = http_client::ask(port, "GET", "/metrics", &[("Host", "evil.example.com")]);
    assert_eq!(foreign.status, 421, "{}", foreign.body);

    // Without a registry and a master the lease lapses, and its run is killed.
    fleet.kill(NATS);
    fleet.kill("m1");
    let counted =
        ["muster_worker_kills_total{why=\"fenced\"}", "muster_worker_sessions_over_total"];
    let text = wait_for("the run to be killed and the session to end", || {
        let (_, text) = ask(port, "GET", "/metrics");
        let is_counted = counted.iter().all(|metric| value(&text, metric) == Some(1.0));
        is_counted.then_some(text)
    });
    assert_eq!(value(&text, "muster_worker_leased"), Some(0.0), "{text}");
    assert_eq!((ask(port, "GET", "/readyz").0, ask(port, "GET", "/healthz").0), (503, 200));

    let mut served = served(&text);
    assert!(served.remove("muster_build"), "the worker and its version");
    assert_eq!(documented(true), served, "docs/METRICS.md and the metrics of a worker");
    let unknown: Vec<_> = used(true).difference(&served).cloned().collect();
    assert!(!used(true).is_empty() && unknown.is_empty(), "no metric is called {unknown:?}");
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

    let served = served(&text);
    let used = used(false);
    let unknown: Vec<_> = used.difference(&served).collect();
    assert!(used.len() > 5 && unknown.is_empty(), "no metric is called {unknown:?}");
    assert_eq!(documented(false), served, "docs/METRICS.md and the metrics of a master");
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
