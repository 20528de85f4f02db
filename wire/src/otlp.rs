//! Sends spans to a collector by OTLP over HTTP, as JSON (the OpenTelemetry Protocol 1.0). Never delays who hands them
//! over: spans that there is no room for, and those that the collector does not take, are dropped.

use anyhow::{anyhow, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Uri,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use muster_protocol::trace::Span;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::{Value, json};
use std::{
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_rustls::TlsConnector;

/// The variable that names the collector, as OpenTelemetry has it.
pub const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Spans that may wait for the next batch.
const WAITING_MAX: usize = 4 * 1024;

/// Spans in a batch.
const BATCH_MAX: usize = 512;

/// How long a batch waits for further spans.
const BATCH_WITHIN: Duration = Duration::from_secs(1);

/// How long the collector may take for a batch.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where a collector is: `http://HOST:PORT` or `https://HOST:PORT`, perhaps with a path. Spans go to `/v1/traces` below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    host: String,
    port: u16,
    is_tls: bool,
    path: String,
}

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a collector is written http://HOST:PORT or https://HOST:PORT";
        let uri: Uri = text.parse().map_err(|_| form)?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(form.into()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or(form)?;
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = format!("{}/v1/traces", uri.path().trim_end_matches('/'));
        Ok(Collector { host: authority.host().into(), port, is_tls, path })
    }
}

impl Collector {
    /// The collector that an option names, or else the variable [`ENDPOINT`]. What is no collector in the variable is
    /// ignored, since it may be meant for other programs.
    pub fn chosen(option: Option<&Collector>) -> Option<Collector> {
        let of_variable = || {
            let text = std::env::var(ENDPOINT).ok().filter(|text| !text.is_empty())?;
            let read = text.parse();
            read.inspect_err(|why: &String| tracing::warn!(why, "{ENDPOINT} is ignored")).ok()
        };
        option.cloned().or_else(of_variable)
    }

    /// The TCP port to which spans are sent.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Which process makes the spans.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `muster-master`, `muster-worker` or `muster`.
    pub service: &'static str,
    /// The name of the master or worker.
    pub instance: String,
    /// The fleet.
    pub fleet: String,
}

/// Takes spans; cheap to clone.
#[derive(Clone, Debug)]
pub struct Exporter(mpsc::Sender<Input>);

#[derive(Debug)]
enum Input {
    Span(Box<Span>),
    /// Send what waits now, and say so.
    Flush(oneshot::Sender<()>),
}

impl Exporter {
    /// Begins to send, on a thread of its own.
    pub fn start(collector: Collector, origin: Origin) -> std::io::Result<Self> {
        let (spans, waiting) = mpsc::channel(WAITING_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || runtime.block_on(export(collector, origin, waiting)))?;
        Ok(Exporter(spans))
    }

    /// Hands over a span. It is dropped if too many wait.
    pub fn send(&self, span: Span) {
        let _ = self.0.try_send(Input::Span(Box::new(span)));
    }

    /// Waits until what was handed over has been sent or dropped, but no longer than `within`.
    pub async fn flush(&self, within: Duration) {
        let (sent, done) = oneshot::channel();
        let flushed = async {
            if self.0.send(Input::Flush(sent)).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = tokio::time::timeout(within, flushed).await;
    }
}

async fn export(collector: Collector, origin: Origin, mut waiting: mpsc::Receiver<Input>) {
    let resource = origin.resource();
    while let Some(first) = waiting.recv().await {
        let (mut spans, mut flushed) = (Vec::new(), Vec::new());
        let mut take = |input, spans: &mut Vec<Span>| match input {
            Input::Span(span) => spans.push(*span),
            Input::Flush(done) => flushed.push(done),
        };
        let hurries = matches!(first, Input::Flush(_));
        take(first, &mut spans);
        let until = tokio::time::Instant::now() + BATCH_WITHIN;
        while spans.len() < BATCH_MAX && !hurries {
            match tokio::time::timeout_at(until, waiting.recv()).await {
                Ok(Some(input)) => {
                    let hurries = matches!(input, Input::Flush(_));
                    take(input, &mut spans);
                    if hurries {
                        break;
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        if !spans.is_empty() {
            let body = json!({ "resourceSpans": [{
                "resource": resource,
                "scopeSpans": [{
                    "scope": { "name": "muster", "version": env!("CARGO_PKG_VERSION") },
                    "spans": spans.iter().map(written).collect::<Vec<Value>>(),
                }],
            }]});
            let sent = tokio::time::timeout(ANSWER_WITHIN, post(&collector, body.to_string()));
            let sent =
                sent.await.unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER_WITHIN:?}")));
            if let Err(error) = sent {
                let error = format!("{error:#}");
                tracing::warn!(
                    error,
                    spans = spans.len(),
                    "spans are dropped: the collector does not take them"
                );
            }
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

async fn post(collector: &Collector, body: String) -> anyhow::Result<()> {
    let Collector { host, port, is_tls, .. } = collector;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, *port)).await?;
    match is_tls {
        false => exchange(collector, stream, body).await,
        true => {
            let name = ServerName::try_from(name.to_owned())?;
            let stream = TlsConnector::from(tls()).connect(name, stream).await?;
            exchange(collector, stream, body).await
        }
    }
}

async fn exchange(
    collector: &Collector,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    body: String,
) -> anyhow::Result<()> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(&collector.path)
        .header(HOST, format!("{}:{}", collector.host, collector.port))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let carried = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    // The rest of the answer says nothing that is used here.
    drop(answer.into_body().frame().await);
    carried.abort();
    match status.is_success() {
        true => Ok(()),
        false => bail!("the collector answers {status}"),
    }
}

/// TLS with the authorities of the system, which are read once.
fn tls() -> Arc<ClientConfig> {
    static TLS: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    TLS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions();
        let config = config.expect("the provider has the default versions");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    })
    .clone()
}

impl Origin {
    fn resource(&self) -> Value {
        let Origin { service, instance, fleet } = self;
        json!({ "attributes": [
            text("service.name", service),
            text("service.instance.id", instance),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("muster.fleet", fleet),
        ]})
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// A span as the JSON of OTLP has it: ids in hex, and times as texts.
fn written(span: &Span) -> Value {
    let attributes = span.attributes.iter().map(|(key, value)| text(key, value));
    let mut written = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": span.times_ns.0.to_string(),
        "endTimeUnixNano": span.times_ns.1.to_string(),
        "attributes": attributes.collect::<Vec<Value>>(),
        "status": match &span.failed {
            None => json!({ "code": 1 }),
            Some(why) => json!({ "code": 2, "message": why }),
        },
    });
    if let Some(parent) = span.parent {
        written["parentSpanId"] = format!("{parent:016x}").into();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_url() {
        let read = |text: &str| text.parse::<Collector>().map(|at| (at.host, at.port, at.path));
        let is = |host: &str, port, path: &str| Ok((host.into(), port, path.into()));
        assert_eq!(read("http://127.0.0.1:4318"), is("127.0.0.1", 4318, "/v1/traces"));
        assert_eq!(
            read("https://otel.example.com/in/"),
            is("otel.example.com", 443, "/in/v1/traces")
        );
        assert_eq!(read("http://[::1]:4318/"), is("[::1]", 4318, "/v1/traces"));
        for text in ["", "127.0.0.1:4318", "grpc://a:4317", "http://", "http://a:b@c:1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_is_written_as_otlp_has_it() {
        let span = Span {
            trace: 0xab,
            id: 0xcd,
            parent: Some(1),
            name: "run",
            times_ns: (1, 2),
            failed: Some("it trapped".into()),
            attributes: vec![("muster.worker", "w1".into())],
        };
        let written = written(&span);
        assert_eq!(written["traceId"], "000000000000000000000000000000ab");
        assert_eq!(written["spanId"], "00000000000000cd");
        assert_eq!(written["parentSpanId"], "0000000000000001");
        assert_eq!(
            (&written["startTimeUnixNano"], &written["endTimeUnixNano"]),
            (&"1".into(), &"2".into())
        );
        assert_eq!(written["status"], json!({ "code": 2, "message": "it trapped" }));
        assert_eq!(written["attributes"][0]["value"]["stringValue"], "w1");
    }
}
