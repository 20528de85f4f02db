//! Frames of both encodings: cut anywhere, too long, hostile, and from peers of another version.

use super::*;
use crate::{
    AttemptId, Nonce, SessionId, TaskId,
    lease::{CasAnswer, Home, Lease, Unwell},
    message::{AttemptKey, HeldAttempt, Hello, ToMaster, ToWorker},
    record,
    registry::Mark,
    task::{Outcome, Verdict},
};
use alloc::{string::String, vec};

impl Message for String {}
impl Message for u8 {}

fn body<T: Message>(encoding: Encoding, message: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(encoding, message, &mut bytes).expect("it fits");
    bytes.split_off(HEADER_SIZE)
}

fn lease() -> Lease {
    Lease::new("w1".parse().expect("a name"), SessionId(1))
}

#[test]
fn frames_come_back_in_order_however_the_bytes_are_cut() {
    let messages = vec!["a".repeat(5), "".into(), "b".repeat(300)];
    for encoding in Encoding::ALL {
        let mut bytes = Vec::new();
        for message in &messages {
            encode(encoding, message, &mut bytes).expect("fits");
        }
        for cut in 1..bytes.len() {
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for part in bytes.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(body) = split(&mut buffer, FRAME_SIZE_MAX).expect("frames") {
                    seen.push(decode::<String>(encoding, &body).expect("a string"));
                }
            }
            assert_eq!(seen, messages, "cut every {cut} bytes");
        }
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
    let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
    assert_eq!(split(&mut buffer, FRAME_SIZE_MAX), Err(FrameError::TooLong(u32::MAX as usize)));
    for encoding in Encoding::ALL {
        let mut out = vec![7];
        let message = "x".repeat(FRAME_SIZE_MAX);
        assert!(matches!(encode(encoding, &message, &mut out), Err(FrameError::TooLong(_))));
        assert_eq!(out, [7], "nothing is left of it");
    }
}

#[test]
fn bytes_behind_a_message_are_refused() {
    for encoding in Encoding::ALL {
        assert_eq!(decode::<u8>(encoding, &[1]), Ok(1));
        assert_eq!(decode::<u8>(encoding, &[1, 2]), Err(FrameError::Malformed));
    }
}

#[test]
fn messages_come_back_in_either_encoding() {
    let key = AttemptKey { task: TaskId(u128::MAX), attempt: AttemptId(u64::MAX) };
    let unwell = Lease { unwell: Some(Unwell::from("a disk is full")), ..lease() };
    let hello = |frames| Hello {
        to: SessionId(1),
        session: SessionId(2),
        attempts: vec![HeldAttempt { key, revision: 3 }],
        holds: Mark::default(),
        version: "0.2.0".into(),
        frames,
    };
    for encoding in Encoding::ALL {
        let frames = match encoding {
            Encoding::Named => FrameRange { oldest: 2, newest: 9 },
            Encoding::Positional => FrameRange::FIRST,
        };
        let outcome = Outcome::bare(Verdict::Cancelled);
        for message in [
            ToMaster::Hello(hello(frames)),
            ToMaster::Renew { expect: 3, lease: lease() },
            ToMaster::Renew { expect: 3, lease: unwell.clone() },
            ToMaster::Finished { key, revision: 1, outcome },
        ] {
            assert_eq!(decode(encoding, &body(encoding, &message)), Ok(message));
        }
        let master = Home { master: "m1".parse().expect("a name"), session: SessionId(9) };
        let (machine, version) = (Nonce(1), "0.2.0".into());
        let answer = CasAnswer::Conflict(Some((lease(), 3)));
        for message in [
            ToWorker::Welcome { master, machine, version, frames },
            ToWorker::Renewed { session: SessionId(1), renewal: 2, answer },
            ToWorker::Renewed { session: SessionId(1), renewal: 2, answer: CasAnswer::Unknown },
        ] {
            assert_eq!(decode(encoding, &body(encoding, &message)), Ok(message));
        }
    }
}

/// Masters of 0.1 can read the answers that they get, even if the worker is unwell.
#[test]
fn a_lease_in_frames_1_does_not_say_what_its_worker_lacks() {
    let unwell = Lease { unwell: Some(Unwell::from("a disk is full")), ..lease() };
    let renewed = |lease| ToWorker::Renewed {
        session: SessionId(1),
        renewal: 2,
        answer: CasAnswer::Conflict(Some((lease, 3))),
    };
    let first = body(Encoding::Positional, &renewed(unwell));
    assert_eq!(first, body(Encoding::Positional, &renewed(lease())));
}

#[test]
fn a_lease_of_a_later_version_comes_to_its_master_with_all_it_has() {
    let mut value = serde_json::to_value(lease()).expect("JSON");
    value["offer"]["new_field"] = serde_json::json!({"of": [1, null]});
    let bytes = serde_json::to_vec(&value).expect("JSON");
    let lease: Lease = record::read(&bytes).expect("a lease");
    let sent = body(Encoding::Named, &ToMaster::Renew { expect: 3, lease });
    let Ok(ToMaster::Renew { lease, .. }) = decode(Encoding::Named, &sent) else {
        panic!("it came")
    };
    let written = record::write(&lease).expect("JSON");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).expect("JSON"), value);
}

/// Wrong lengths and deep nesting take neither memory nor stack.
#[test]
fn hostile_cbor_is_refused() {
    let (array, map) = (0x80_u8, 0xa0_u8);
    let lying = |major: u8| [&[major | 0x1b][..], &u64::MAX.to_be_bytes()].concat();
    let deep = |byte: u8| vec![byte; FRAME_SIZE_MAX];
    let text = |text: &str| [&[0x60 | text.len() as u8][..], text.as_bytes()].concat();
    // An unknown field with any content.
    let unknown = |value: Vec<u8>| {
        let name = text("Progress");
        [&[map | 1][..], &name, &[map | 4], &text("new"), &value].concat()
    };
    let hello = |attempts: Vec<u8>| {
        [&[map | 1][..], &text("Hello"), &[map | 6], &text("attempts"), &attempts].concat()
    };
    for bytes in [
        vec![],
        lying(array),
        lying(map),
        lying(0x40),
        lying(0x60),
        deep(array | 1),
        deep(map | 1),
        deep(0x9f),
        deep(0xbf),
        deep(0xc1),
        unknown(lying(array)),
        unknown(deep(array | 1)),
        unknown(deep(0x9f)),
        unknown(deep(0xbf)),
        unknown(deep(0xc1)),
        hello(lying(array)),
        hello(deep(0x9f)),
    ] {
        assert_eq!(decode::<ToMaster>(Encoding::Named, &bytes), Err(FrameError::Malformed));
    }
}
