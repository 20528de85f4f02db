//! The properties that must hold for any bytes. Never a property that only valid input has.

pub mod seeds;

use muster_module::{inspect, to_component};
use muster_protocol::{
    api::ModuleEntry,
    checkpoint::Checkpoint,
    frame,
    grant::HttpRule,
    lease::{Lease, MasterLease},
    message::{LogChunk, StreamReply, StreamRequest, ToMaster, ToWorker},
    task::{TaskRecord, TaskSpec},
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// No bytes make a decoder panic. A message that was decoded encodes to the same message again.
pub fn frame(bytes: &[u8]) {
    let mut header = [0; frame::HEADER_SIZE];
    if let Some(first) = bytes.first_chunk() {
        header = *first;
    }
    let _ = frame::size(header);
    message::<ToMaster>(bytes);
    message::<ToWorker>(bytes);
    message::<StreamRequest>(bytes);
    message::<StreamReply>(bytes);
    message::<LogChunk>(bytes);
}

fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(message) = frame::decode::<T>(body) else { return };
    let mut out = Vec::new();
    frame::encode(&message, &mut out).expect("it fitted into a frame");
    let again = frame::decode::<T>(&out[frame::HEADER_SIZE..]).expect("it was encoded here");
    assert_eq!(again, message);
}

/// The same for what is stored as JSON. The checks of a submission do not panic either.
pub fn record(bytes: &[u8]) {
    let task = json::<TaskRecord>(bytes).map(|record| record.spec);
    json::<Lease>(bytes);
    json::<MasterLease>(bytes);
    json::<Checkpoint>(bytes);
    json::<ModuleEntry>(bytes);
    if let Some(spec) = task {
        let _ = spec.check();
    }
    if let Some(spec) = json::<TaskSpec>(bytes) {
        let _ = spec.check();
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(rule) = text.parse::<HttpRule>()
    {
        assert_eq!(rule.to_string().parse(), Ok(rule.clone()), "{text:?}");
        assert!(rule.covers(&rule), "{text:?}");
    }
}

fn json<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_vec(&value).expect("it can be written");
    let again: T = serde_json::from_slice(&text).expect("it was written here");
    assert_eq!(again, value);
    Some(value)
}

/// No bytes make the inspection panic, nor the encoder, which receives only what the inspection
/// accepted.
pub fn module(bytes: &[u8]) {
    let Ok(info) = inspect(bytes) else { return };
    assert_eq!((info.size, info.digest), (bytes.len() as u64, muster_module::digest(bytes)));
    if info.kind.needs_component()
        && let Ok(component) = to_component(bytes)
    {
        let _ = inspect(&component);
    }
}
