//! One request by wasi:http, as std has none. It must never follow a redirection: that is another
//! request, to another place.

use crate::Place;
use wasip2::http::{
    outgoing_handler::handle,
    types::{Fields, IncomingBody, IncomingResponse, OutgoingRequest, Scheme},
};
use wasip2::io::streams::StreamError;

/// Bytes asked for at once.
const CHUNK: u64 = 64 * 1024;

/// Sends a GET; its status and body.
pub fn get(place: &Place) -> Result<(u16, Vec<u8>), String> {
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if place.is_secure { Scheme::Https } else { Scheme::Http };
    request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(&place.authority)))
        .and_then(|()| request.set_path_with_query(Some(&place.path)))
        .map_err(|()| format!("{place:?} cannot be asked for"))?;
    let refused = |error| format!("{}: {error:?}", place.authority);
    let answer = handle(request, None).map_err(refused)?;
    answer.subscribe().block();
    let response = match answer.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(error))) => return Err(refused(error)),
        _ => return Err(format!("{} gave no answer", place.authority)),
    };
    let body = read(&response)?;
    Ok((response.status(), body))
}

fn read(response: &IncomingResponse) -> Result<Vec<u8>, String> {
    let body: IncomingBody = response.consume().map_err(|()| "it has no body".to_string())?;
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
