//! The answers to HTTP requests: bodies, and the headers that each of them has. Never what is in them.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
        REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use serde::Serialize;
use std::convert::Infallible;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer.
pub type Answer = Response<Body>;

/// The media type of a text.
pub const PLAIN: &str = "text/plain; charset=utf-8";

const JSON: &str = "application/json";

/// The media type of the text format of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Headers of every answer. The page has no inline scripts and no inline styles, and nobody may frame it or embed what
/// is served here.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri \
         'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// What an error says to people: a sentence, and what to do about it.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    hint: Option<&'a str>,
}

/// An answer that is known as a whole.
pub fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    with_headers(status, kind, Full::new(body.into()).boxed_unsync())
}

/// A short text.
pub fn plain(status: StatusCode, text: &'static str) -> Answer {
    whole(status, PLAIN, text)
}

/// The answer to a request that is no `GET`, where nothing can be changed.
pub fn only_get() -> Answer {
    plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n")
}

/// Metrics in the text format of OpenMetrics, or why they cannot be written.
pub fn metrics(text: Result<String, std::fmt::Error>) -> Answer {
    match text {
        Ok(text) => whole(StatusCode::OK, OPEN_METRICS, text),
        Err(error) => {
            let text = format!("the metrics cannot be written: {error}\n");
            whole(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, text)
        }
    }
}

/// JSON.
pub fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => whole(StatusCode::OK, JSON, text),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string(), None),
    }
}

/// A change was carried out.
pub fn done() -> Answer {
    whole(StatusCode::NO_CONTENT, JSON, Bytes::new())
}

/// A request was not carried out.
pub fn failure(status: StatusCode, error: &str, hint: Option<&str>) -> Answer {
    let text = serde_json::to_vec(&Failure { error, hint }).unwrap_or_default();
    whole(status, JSON, text)
}

/// Server-sent events, as they come.
pub fn events(events: impl futures::Stream<Item = Bytes> + Send + 'static) -> Answer {
    use futures::StreamExt as _;
    let frames = events.map(|text| Ok(Frame::data(text)));
    with_headers(StatusCode::OK, "text/event-stream", StreamBody::new(frames).boxed_unsync())
}

fn with_headers(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers: &mut HeaderMap = answer.headers_mut();
    for (name, value) in &HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
