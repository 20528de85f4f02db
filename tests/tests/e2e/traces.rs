//! One trace from the command to the commit: the spans that command, master and worker send to a collector, and what a
//! guest gets of it.

use muster_tests::{Fleet, fleet::wait_for};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::Output,
    sync::{Arc, Mutex},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A collector of spans that speaks as much HTTP as it needs.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
        let taken = spans.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let (mut line, mut size) = (String::new(), 0);
                reader.read_line(&mut line).expect("a request");
                assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).expect("a header");
                    let header = line.to_ascii_lowercase();
                    if let Some(length) = header.strip_prefix("content-length:") {
                        size = length.trim().parse().expect("a length");
                    }
                }
                let mut body = vec![0; size];
                reader.read_exact(&mut body).expect("a body");
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                for of in body["resourceSpans"].as_array().expect("a list") {
                    let service = &of["resource"]["attributes"][0]["value"]["stringValue"];
                    for span in of["scopeSpans"][0]["spans"].as_array().expect("a list") {
                        let mut span = span.clone();
                        span["service"] = service.clone();
                        taken.lock().expect("no panic").push(span);
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                reader.get_mut().write_all(answer).expect("an answer");
            }
        });
        Collector { address, spans }
    }

    /// Waits until there are spans with these names, one of each. Returns them.
    fn until(&self, names: &[&str]) -> BTreeMap<String, Value> {
        wait_for(&format!("{names:?}"), || {
            let spans = self.spans.lock().expect("no panic");
            let named =
                spans.iter().map(|span| (span["name"].as_str().map(Into::into), span.clone()));
            let found: BTreeMap<String, Value> =
                named.filter_map(|(name, span)| Some((name?, span))).collect();
            names.iter().all(|name| found.contains_key(*name)).then_some(found)
        })
    }

    fn forget(&self) {
        self.spans.lock().expect("no panic").clear();
    }
}

fn fleet(collector: &Collector) -> Fleet {
    let mut fleet = Fleet::registry();
    fleet.set_variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.clone().into());
    fleet.start_master("m1");
    fleet.start_worker("w1", &["--slots", "1"]);
    fleet
}

fn run(fleet: &Fleet, flags: &str, args: &[&str]) -> Output {
    let mut command = fleet.muster(&[&["task", "run"], args].concat());
    command.env("TRACEPARENT", format!("00-{TRACE}-{CALLER}-{flags}"));
    command.output().expect("it starts")
}

#[test]
fn a_trace_goes_from_the_caller_through_command_master_and_worker_into_the_guest() {
    let collector = Collector::start();
    let fleet = fleet(&collector);
    fleet.push("inventory");
    let ran = run(&fleet, "01", &["inventory", "--wait"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let spans = collector.until(&["muster task run", "task", "queued", "attempt", "run"]);
    let id = |name: &str| spans[name]["spanId"].as_str().expect("an id").to_owned();
    let parents = [
        ("muster task run", CALLER.to_owned(), "muster"),
        ("task", id("muster task run"), "muster-master"),
        ("queued", id("task"), "muster-master"),
        ("attempt", id("task"), "muster-master"),
        ("run", id("attempt"), "muster-worker"),
    ];
    for (name, parent, service) in parents {
        let span = &spans[name];
        assert_eq!(span["traceId"], TRACE, "{name}");
        assert_eq!(span["parentSpanId"], *parent, "{name}");
        assert_eq!((&span["service"], &span["status"]["code"]), (&service.into(), &1.into()));
        let ns =
            |at: &str| span[at].as_str().and_then(|ns| ns.parse::<u64>().ok()).expect("a time");
        assert!(ns("startTimeUnixNano") <= ns("endTimeUnixNano"), "{span}");
    }
    let seen = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(seen.contains(&format!("00-{TRACE}-{}-01", id("run"))), "{seen}");
    // Who does not record a trace gets no spans, and its guests get the context all the same.
    collector.forget();
    let ran = run(&fleet, "00", &["inventory", "--wait"]);
    let seen = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(seen.contains(&format!("00-{TRACE}-")), "{seen}");
    run(&fleet, "01", &["inventory", "--wait"]);
    collector.until(&["muster task run", "task", "queued", "attempt", "run"]);
    assert_eq!(collector.spans.lock().expect("no panic").len(), 5, "those of the last one");
}

#[test]
fn a_run_that_is_killed_has_a_span_that_says_so() {
    let collector = Collector::start();
    let fleet = fleet(&collector);
    fleet.push("heart");
    let pace = r#"{"for_ms":600000,"every_us":100000,"rest":true}"#;
    let task = fleet.run(&["task", "run", "heart", "--input", pace]).ok().text();
    wait_for("it to run", || {
        fleet.run(&["task", "get", &task]).text().contains("progress ").then_some(())
    });
    fleet.run(&["task", "cancel", &task]).ok();
    let spans = collector.until(&["muster task run", "task", "run"]);
    let status = &spans["run"]["status"];
    assert_eq!(status["code"], 2, "{status}");
    assert_eq!(status["message"], "killed: its master revoked it");
    assert_eq!(spans["task"]["status"]["message"], "cancelled");
    assert!(spans["muster task run"]["parentSpanId"].is_null(), "the command began it");
}
