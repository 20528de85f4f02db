//! HTTP requests by wasi:http, because the standard library has none. It must never follow a
//! redirection: that is another request, to another place.

use crate::{Place, Wanted};
use wasip2::http::{
    outgoing_handler::handle,
    types::{
        Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
        RequestOptions, Scheme,
    },
};
use wasip2::io::{poll::poll, streams::StreamError};

/// The number of bytes to read at once.
const CHUNK: u64 = 64 * 1024;

/// The most bytes that `blocking-write-and-flush` takes.
const WRITE_MAX: u64 = 4096;

/// Sends all requests first, and then waits. Returns the status and the body of each, in the order of
/// the requests.
pub fn ask(wanted: &Wanted) -> Result<Vec<(u16, Vec<u8>)>, String> {
    let mut waiting = Vec::new();
    for (index, place) in wanted.places.iter().enumerate() {
        waiting.push((index, place, send(place, wanted)?));
    }
    if wanted.forget {
        return Ok(Vec::new());
    }
    let mut answers = Vec::new();
    while !waiting.is_empty() {
        // Read the answer that comes first. A worker allows only a limited number of requests at once,
        // and an unread answer would block the next request.
        let ready = {
            let pollables: Vec<_> = waiting.iter().map(|(.., answer)| answer.subscribe()).collect();
            poll(&pollables.iter().collect::<Vec<_>>())[0]
        };
        let (index, place, answer) = waiting.remove(ready as usize);
        let refused = |error: String| format!("{}: {error}", place.authority);
        let response = match answer.get() {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(error))) => return Err(refused(format!("{error:?}"))),
            _ => return Err(refused("no answer".into())),
        };
        answers.push((index, (response.status(), read(&response).map_err(refused)?)));
    }
    answers.sort_by_key(|(index, _)| *index);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

fn send(place: &Place, wanted: &Wanted) -> Result<FutureIncomingResponse, String> {
    let fields = Fields::new();
    for (name, value) in &wanted.headers {
        let refused = |error| format!("the header {name}: {error:?}");
        fields.append(name, value.as_bytes()).map_err(refused)?;
    }
    let request = OutgoingRequest::new(fields);
    let scheme = if place.is_secure { Scheme::Https } else { Scheme::Http };
    let method = if wanted.body > 0 { Method::Post } else { Method::Get };
    request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_method(&method))
        .and_then(|()| request.set_authority(Some(&place.authority)))
        .and_then(|()| request.set_path_with_query(Some(&place.path)))
        .map_err(|()| format!("{place:?} cannot be asked for"))?;
    let options = RequestOptions::new();
    let between = wanted.between_ms.map(|ms| ms.saturating_mul(1_000_000));
    options
        .set_between_bytes_timeout(between)
        .map_err(|()| "the worker knows no such time limit".to_string())?;
    // A GET has no body, rather than an empty one.
    let body = (wanted.body > 0).then(|| request.body());
    let body = body.transpose().map_err(|()| "it takes no body".to_string())?;
    let answer = handle(request, Some(options))
        .map_err(|error| format!("{}: {error:?}", place.authority))?;
    if let Some(body) = body {
        write(body, wanted.body)?;
    }
    Ok(answer)
}

/// Sends that many bytes. If the server stops reading them, its answer says why.
fn write(body: OutgoingBody, mut left: u64) -> Result<(), String> {
    let stream = body.write().map_err(|()| "its body cannot be written".to_string())?;
    let bytes = [b'x'; WRITE_MAX as usize];
    while left > 0 {
        let size = left.min(WRITE_MAX);
        if stream.blocking_write_and_flush(&bytes[..size as usize]).is_err() {
            return Ok(());
        }
        left -= size;
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
    Ok(())
}

fn read(response: &IncomingResponse) -> Result<Vec<u8>, String> {
    let body = response.consume().map_err(|()| "it has no body".to_string())?;
    let stream = body.stream().map_err(|()| "its body cannot be read".to_string())?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(format!("the answer broke off: {}", error.to_debug_string()));
            }
        }
    }
}
