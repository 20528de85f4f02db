//! A small HTTP client: one request a connection, and server-sent events. Never waits longer than [`WITHIN`].

use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// How long the next bytes may take.
const WITHIN: Duration = Duration::from_secs(30);

/// An answer.
pub(crate) struct Answer {
    pub status: u16,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends a request with these headers. `Host` is `localhost` if they do not say it.
pub(crate) fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut reader = send(port, method, path, headers);
    let (status, headers) = head(&mut reader);
    let mut body = String::new();
    reader.read_to_string(&mut body).expect("an answer in UTF-8");
    Answer { status, headers, body }
}

pub(crate) fn get(port: u16, path: &str) -> Answer {
    ask(port, "GET", path, &[])
}

fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(WITHIN)).expect("a socket");
    // HTTP/1.0: the answer ends with the connection.
    let mut request = format!("{method} {path} HTTP/1.0\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += "Host: localhost\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).expect("it reads");
    BufReader::new(stream)
}

fn head(reader: &mut BufReader<TcpStream>) -> (u16, BTreeMap<String, String>) {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        line.trim_end().to_string()
    };
    let status = line().split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line().split_once(": ") {
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    (status.expect("a status"), headers)
}

/// Server-sent events.
pub(crate) struct Events(BufReader<TcpStream>);

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub id: String,
    pub what: String,
    pub data: Value,
}

impl Events {
    /// Opens a stream, from after the event `last`.
    pub(crate) fn open(port: u16, path: &str, last: Option<&str>) -> Self {
        let last = last.map(|last| ("Last-Event-ID", last));
        let mut reader = send(port, "GET", path, last.as_slice());
        let (status, headers) = head(&mut reader);
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], "text/event-stream");
        Events(reader)
    }

    /// The next event. `None` after the last one.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("a line in time") == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => event.id = id.into(),
                Some(("event", what)) => event.what = what.into(),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON"),
                _ if !event.what.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    /// The next event that meets a condition.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        for _ in 0..1_000 {
            match self.next() {
                Some(event) if wanted(&event) => return event,
                Some(_) => {}
                None => panic!("the stream ended before {what}"),
            }
        }
        panic!("no {what} in a thousand events")
    }
}
