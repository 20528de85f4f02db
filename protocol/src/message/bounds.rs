//! What a frame of a worker may contain. An honest worker stays within it, so a master closes the link of
//! one that does not.

use super::{Hello, ToMaster};
use crate::{
    limit::{
        HELLO_ATTEMPTS_MAX, INLINE_SIZE_MAX, LEASE_SIZE_MAX, MESSAGE_SIZE_MAX, PAYLOAD_SIZE_MAX,
        STDERR_TAIL_MAX, VERSION_SIZE_MAX,
    },
    record,
    task::{Data, Outcome, Verdict, clip},
};
use alloc::string::String;

/// A frame says more than a worker may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverBound {
    /// A `Hello` with this many attempts.
    #[error("its Hello names {0} attempts, the limit is {HELLO_ATTEMPTS_MAX}")]
    Attempts(usize),
    /// A version of this many bytes.
    #[error("its version has {0} bytes, the limit is {VERSION_SIZE_MAX}")]
    Version(usize),
    /// A lease of this many bytes.
    #[error("its lease has {0} bytes, the limit is {LEASE_SIZE_MAX}")]
    Lease(usize),
    /// An output of this many bytes, which is not in the data store.
    #[error("it reports an inline output of {0} bytes, the limit is {INLINE_SIZE_MAX}")]
    Inline(usize),
    /// An output of this many bytes.
    #[error("it reports an output of {0} bytes, the limit is {PAYLOAD_SIZE_MAX}")]
    Output(u64),
}

impl ToMaster {
    /// The same frame with its texts clipped, if the rest is within bounds.
    pub fn bounded(mut self) -> Result<Self, OverBound> {
        match &mut self {
            ToMaster::Hello(Hello { attempts, version, .. }) => {
                if attempts.len() > HELLO_ATTEMPTS_MAX {
                    return Err(OverBound::Attempts(attempts.len()));
                }
                if version.len() > VERSION_SIZE_MAX {
                    return Err(OverBound::Version(version.len()));
                }
            }
            ToMaster::Finished { outcome, .. } => outcome.bound()?,
            ToMaster::Renew { lease, .. } => {
                let size = record::write(lease).map_or(usize::MAX, |text| text.len());
                if size > LEASE_SIZE_MAX {
                    return Err(OverBound::Lease(size));
                }
            }
            ToMaster::Extend { .. } | ToMaster::Progress { .. } => {}
        }
        Ok(self)
    }
}

impl Outcome {
    fn bound(&mut self) -> Result<(), OverBound> {
        match &self.output {
            Data::Inline(bytes) if bytes.len() > INLINE_SIZE_MAX => {
                return Err(OverBound::Inline(bytes.len()));
            }
            output if output.size() > PAYLOAD_SIZE_MAX => {
                return Err(OverBound::Output(output.size()));
            }
            _ => {}
        }
        shorten(&mut self.stderr, STDERR_TAIL_MAX);
        match &mut self.verdict {
            Verdict::Failed { message: text, .. }
            | Verdict::Trapped { message: text }
            | Verdict::Rejected { message: text }
            | Verdict::Returned { reason: text } => shorten(text, MESSAGE_SIZE_MAX),
            Verdict::Completed
            | Verdict::TimedOut { .. }
            | Verdict::OverLimit { .. }
            | Verdict::Cancelled
            | Verdict::Lost { .. } => {}
        }
        Ok(())
    }
}

fn shorten(text: &mut String, max: usize) {
    let end = clip(text, max).len();
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AttemptId, Digest, SessionId, TaskId,
        frame_range::FrameRange,
        lease::Lease,
        message::{AttemptKey, HeldAttempt},
        registry::Mark,
    };
    use alloc::vec;

    fn hello(attempts: usize, version: usize) -> ToMaster {
        let key = AttemptKey { task: TaskId(1), attempt: AttemptId(1) };
        ToMaster::Hello(Hello {
            to: SessionId(1),
            session: SessionId(2),
            attempts: vec![HeldAttempt { key, revision: 1 }; attempts],
            holds: Mark::default(),
            version: "v".repeat(version),
            frames: FrameRange::SPOKEN,
        })
    }

    fn finished(verdict: Verdict, output: Data, stderr: &str) -> ToMaster {
        let key = AttemptKey { task: TaskId(1), attempt: AttemptId(1) };
        let outcome = Outcome { output, stderr: stderr.into(), ..Outcome::bare(verdict) };
        ToMaster::Finished { key, revision: 1, outcome }
    }

    #[test]
    fn a_frame_within_its_bounds_is_not_changed() {
        for frame in [
            hello(HELLO_ATTEMPTS_MAX, VERSION_SIZE_MAX),
            finished(
                Verdict::Trapped { message: "m".repeat(MESSAGE_SIZE_MAX) },
                Data::Inline(vec![0; INLINE_SIZE_MAX].into()),
                &"e".repeat(STDERR_TAIL_MAX),
            ),
        ] {
            assert_eq!(frame.clone().bounded(), Ok(frame));
        }
    }

    #[test]
    fn a_frame_over_a_bound_is_refused() {
        let (inline, blob) = (INLINE_SIZE_MAX + 1, PAYLOAD_SIZE_MAX + 1);
        let digest = Digest([0; 32]);
        for (frame, want) in [
            (hello(HELLO_ATTEMPTS_MAX + 1, 1), OverBound::Attempts(HELLO_ATTEMPTS_MAX + 1)),
            (hello(1, VERSION_SIZE_MAX + 1), OverBound::Version(VERSION_SIZE_MAX + 1)),
            (
                finished(Verdict::Completed, Data::Inline(vec![0; inline].into()), ""),
                OverBound::Inline(inline),
            ),
            (
                finished(Verdict::Completed, Data::Blob { digest, size: blob }, ""),
                OverBound::Output(blob),
            ),
        ] {
            assert_eq!(frame.bounded(), Err(want));
        }
    }

    #[test]
    fn a_lease_that_nobody_would_read_is_not_written() {
        let mut lease = Lease::new("w1".parse().expect("a name"), SessionId(1));
        let renew = |lease: &Lease| ToMaster::Renew { expect: 0, lease: lease.clone() }.bounded();
        assert!(renew(&lease).is_ok());
        lease.offer.labels.insert("of".into(), "x".repeat(LEASE_SIZE_MAX));
        assert!(matches!(renew(&lease), Err(OverBound::Lease(_))));
        let text = record::write(&lease).expect("JSON");
        assert!(record::read::<Lease>(&text).is_err(), "it counts as deleted");
    }

    #[test]
    fn long_texts_of_an_outcome_are_clipped() {
        let long = "é".repeat(MESSAGE_SIZE_MAX);
        let clipped: String = clip(&long, MESSAGE_SIZE_MAX).into();
        let (code, stderr) = (1, clip(&long, STDERR_TAIL_MAX));
        for (verdict, want) in [
            (
                Verdict::Failed { code, message: long.clone() },
                Verdict::Failed { code, message: clipped.clone() },
            ),
            (
                Verdict::Returned { reason: long.clone() },
                Verdict::Returned { reason: clipped.clone() },
            ),
        ] {
            let bounded = finished(verdict, Data::EMPTY, &long).bounded();
            assert_eq!(bounded, Ok(finished(want, Data::EMPTY, stderr)));
        }
    }
}
