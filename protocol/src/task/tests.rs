//! The words of a task: what survives the wire, what is refused.

use super::*;
use crate::{Digest, grant::Grants};
use alloc::format;
use bytes::Bytes;

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
    let cases: [(&str, Spoil); 8] = [
        ("inline input", |s| s.input = Data::Inline(alloc::vec![0; 20_000].into())),
        ("blob", |s| s.input = Data::Blob { digest: Digest([0; 32]), size: u64::MAX }),
        ("priority", |s| s.priority = 101),
        ("timeout", |s| s.limits.timeout_ms = 0),
        ("memory", |s| s.limits.memory_bytes = u64::MAX),
        ("attempts", |s| s.retry.attempts_max = 0),
        ("arguments", |s| s.args = alloc::vec!["x".repeat(20_000)]),
        ("all of it", |s| s.grants = Arc::new(with_variables(60))),
    ];
    for (what, spoil) in cases {
        let mut spec = good.clone();
        spoil(&mut spec);
        assert!(spec.check().is_err(), "{what}");
    }
}

/// So many variables of nearly the largest size.
fn with_variables(count: usize) -> Grants {
    let variable = |at| (format!("V{at}"), "v".repeat(4_000));
    Grants { env: (0..count).map(variable).collect(), ..Grants::default() }
}

/// A control character takes six bytes of JSON.
#[test]
fn the_largest_record_is_within_its_bound() {
    let longest = |bytes: usize| "\u{1}".repeat(bytes);
    let module = ModuleRef { name: None, digest: Digest([0; 32]) };
    let mut spec = TaskSpec::new(module, Data::EMPTY);
    let fits = |count: &usize| {
        spec.grants = Arc::new(with_variables(*count));
        spec.check().is_ok()
    };
    let count = (1..64).take_while(fits).count();
    spec.grants = Arc::new(with_variables(count));
    let attempt = Attempt {
        id: AttemptId(u64::MAX),
        number: u32::MAX,
        worker: "w".repeat(crate::id::NAME_SIZE_MAX).parse().expect("a name"),
        session: SessionId(u64::MAX),
        lease: Revision::MAX,
        lease_stream: StreamId(u64::MAX),
        dispatched_at: WallMillis(u64::MAX),
        alone: true,
        to_silent: true,
        unknown: Unknown::default(),
    };
    let message = longest(limit::MESSAGE_SIZE_MAX);
    let verdict = Verdict::Failed { code: 255, message };
    let reason = verdict.reason();
    let outcome = Outcome {
        output: Data::Inline(longest(limit::INLINE_SIZE_MAX).into()),
        stderr: longest(limit::STDERR_TAIL_MAX),
        ..Outcome::bare(verdict)
    };
    let mut record = TaskRecord::queued(TaskId(u128::MAX), spec.into(), WallMillis(u64::MAX));
    for _ in 0..2 * limit::HISTORY_MAX {
        let (attempt, reason) = (attempt.clone(), reason.clone());
        let ended_at = WallMillis(u64::MAX);
        record.push_history(PastAttempt { attempt, ended_at, lost: false, reason });
    }
    let (outcome, attempt) = (Arc::new(outcome), Some(attempt));
    record.state = TaskState::Done { outcome, attempt, ended_at: WallMillis(u64::MAX) };
    let bytes = crate::record::write(&record).expect("JSON");
    let size = bytes.len() + crate::record::UNKNOWN_SIZE_MAX;
    assert!((limit::RECORD_SIZE_MAX / 2..limit::RECORD_SIZE_MAX).contains(&size), "{size}");
    assert_eq!(crate::record::read::<TaskRecord>(&bytes).ok(), Some(record));
}
