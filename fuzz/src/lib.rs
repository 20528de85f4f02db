//! The properties that must hold for any bytes. Never a property that only valid input has.

pub mod seeds;

use muster_module::{inspect, to_component};
use muster_protocol::{
    Digest,
    api::{Endpoint, ModuleEntry, Request},
    audit::{Chain, Entry},
    checkpoint::Checkpoint,
    enrolment::{Invitation, Member},
    frame::{self, Encoding, Message},
    grant::HttpRule,
    group::Group,
    lease::{Lease, MasterLease},
    message::{Join, JoinReply, LogChunk, StreamReply, StreamRequest, ToMaster, ToWorker},
    record::{self, Record},
    registry::FailoverGuard,
    role::{Actor, Rights, Role, User},
    sealed::SealedSecret,
    subject::is_inbox,
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
    message::<Join>(bytes);
    message::<JoinReply>(bytes);
}

fn message<T: Message + PartialEq + Debug>(body: &[u8]) {
    for encoding in Encoding::ALL {
        let Ok(message) = frame::decode::<T>(encoding, body) else { continue };
        let mut out = Vec::new();
        // With the names of its fields it may be longer than what was read, which had fewer of them.
        if frame::encode(encoding, &message, &mut out).is_ok() {
            let again = frame::decode::<T>(encoding, &out[frame::HEADER_SIZE..]);
            assert_eq!(again.expect("it was encoded here"), message);
        }
    }
}

/// No bytes that come to an endpoint make a master panic when it reads and checks them. A request that it
/// accepts is the same request when a client sends it again. The subject of the answer is as hostile.
pub fn api(bytes: &[u8]) {
    for endpoint in Endpoint::ALL {
        let Ok(request) = Request::read(endpoint, bytes) else { continue };
        let _ = (request.demand(&Rights::everywhere(Role::Read)), request.objects());
        let text = match &request {
            Request::Submit(asked) => serde_json::to_vec(asked),
            Request::Get(asked) | Request::Cancel(asked) => serde_json::to_vec(asked),
            Request::List(asked) => serde_json::to_vec(asked),
            Request::Workers(asked) | Request::Modules(asked) | Request::Members(asked) => {
                serde_json::to_vec(asked)
            }
            Request::Invite(asked) => serde_json::to_vec(asked),
            Request::Approve(asked) | Request::Revoke(asked) => serde_json::to_vec(asked),
            Request::Find(asked) => serde_json::to_vec(asked),
            Request::Put(asked) => serde_json::to_vec(asked),
            Request::Fetch(asked) => serde_json::to_vec(asked),
            Request::Events(asked) => serde_json::to_vec(asked),
            Request::Logs(asked) => serde_json::to_vec(asked),
            Request::Order(asked) => serde_json::to_vec(asked),
            Request::SetUpgrade(asked) => serde_json::to_vec(asked),
            Request::Masters | Request::Who => Ok(Vec::new()),
            Request::Users(asked) | Request::Secrets(asked) => serde_json::to_vec(asked),
            Request::SetSecret(asked) => serde_json::to_vec(asked),
            Request::ForgetSecret(asked) => serde_json::to_vec(asked),
            Request::SetUser(asked) => serde_json::to_vec(asked),
            Request::ForgetUser(asked) => serde_json::to_vec(asked),
            Request::Groups(asked) => serde_json::to_vec(asked),
            Request::Loads(asked) => serde_json::to_vec(asked),
            Request::SetGroup(asked) => serde_json::to_vec(asked),
            Request::FindModule(asked) => serde_json::to_vec(asked),
            Request::Audit(asked) => serde_json::to_vec(asked),
            Request::Register(asked) => serde_json::to_vec(asked),
            Request::Remove(asked) => serde_json::to_vec(asked),
        };
        let again = Request::read(endpoint, &text.expect("it can be written"));
        assert_eq!(again.expect("it was accepted before"), request);
    }
    let _ = is_inbox(&String::from_utf8_lossy(bytes));
}

/// The same for what is stored as JSON. The checks of a task do not panic either.
pub fn record(bytes: &[u8]) {
    let task = kept::<TaskRecord>(bytes).map(|record| record.spec);
    kept::<Lease>(bytes);
    kept::<MasterLease>(bytes);
    kept::<FailoverGuard>(bytes);
    kept::<Checkpoint>(bytes);
    kept::<Invitation>(bytes);
    kept::<Member>(bytes);
    kept::<User>(bytes);
    kept::<SealedSecret>(bytes);
    kept::<Group>(bytes);
    if let Some(entry) = kept::<Entry>(bytes) {
        let _ = Chain::default().follow(&entry, Digest([0; 32]));
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = Actor::of(Some(&text));
    kept::<ModuleEntry>(bytes);
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

/// The same with what is not known of it: that is written back.
fn kept<T: Record + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    json::<T>(bytes)?;
    // One may have more that is not known than a record may.
    let value: T = record::read(bytes).ok()?;
    let text = record::write(&value).expect("it can be written");
    let again: T = record::read(&text).expect("it was written here");
    assert_eq!(again, value);
    Some(value)
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
