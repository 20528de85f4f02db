//! The words of a task: what survives the wire, what is refused.

use super::*;
use bytes::Bytes;

use crate::Digest;

#[test]
fn data_survives_frames() {
    for data in [
        Data::EMPTY,
        Data::Inline(Bytes::from_static(b"plain")),
        Data::Inline(Bytes::from_static(&[0xff, 0, 1])),
        Data::Blob { digest: Digest([7; 32]), size: 9 },
    ] {
        let bytes = postcard::to_allocvec(&data).expect("serialises");
        assert_eq!(postcard::from_bytes::<Data>(&bytes), Ok(data));
    }
}

#[test]
fn backoff_doubles_and_stays_within_its_limit() {
    let retry = Retry { attempts_max: 9, backoff_ms: 100, backoff_max_ms: 1_000 };
    for (failures, least, most) in [(1, 50, 100), (2, 100, 200), (3, 200, 400), (9, 500, 1_000)] {
        for salt in 0..50 {
            let wait = backoff(&retry, failures, salt).as_millis() as u64;
            assert!((least..=most).contains(&wait), "{failures} failures: {wait} ms");
        }
    }
}

#[test]
fn a_clipped_text_ends_between_characters() {
    assert_eq!(clip("größe", 3), "gr");
    assert_eq!(clip("größe", 99), "größe");
}

#[test]
fn values_over_their_limits_are_refused() {
    let module = ModuleRef { name: None, digest: Digest([0; 32]) };
    let good = TaskSpec::new(module, Data::EMPTY);
    assert!(good.check().is_ok());
    type Spoil = fn(&mut TaskSpec);
    let cases: [(&str, Spoil); 7] = [
        ("inline input", |s| s.input = Data::Inline(alloc::vec![0; 20_000].into())),
        ("blob", |s| s.input = Data::Blob { digest: Digest([0; 32]), size: u64::MAX }),
        ("priority", |s| s.priority = 101),
        ("timeout", |s| s.limits.timeout_ms = 0),
        ("memory", |s| s.limits.memory_bytes = u64::MAX),
        ("attempts", |s| s.retry.attempts_max = 0),
        ("arguments", |s| s.args = alloc::vec!["x".repeat(20_000)]),
    ];
    for (what, spoil) in cases {
        let mut spec = good.clone();
        spoil(&mut spec);
        assert!(spec.check().is_err(), "{what}");
    }
}
