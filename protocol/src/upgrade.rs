//! Upgrades: which program a worker shall run, and what a worker says of the one that it runs. Never verifies a
//! signature, and never has the bytes of a program.
//!
//! Upgrades of a worker are numbered; a worker carries out only one that is newer than its last. It may be away when the
//! upgrade is written: it reads it when it comes back.

use crate::{
    Digest, WorkerId,
    limit::{PAYLOAD_SIZE_MAX, UPGRADE_REASON_MAX},
    record::{Unknown, record},
    signature::Signature,
    task::clip,
    time::WallMillis,
};
use alloc::{
    format,
    string::{String, ToString},
};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// What the keys of upgrades in the access bucket begin with.
pub const UPGRADE: &str = "upgrade";

/// What the signed comment of a program begins with. A key that signs modules, too, makes no module a program.
pub const COMMENT: &str = "program:";

/// A program that a worker can run in place of the one that is installed on its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The SHA-256 of its bytes, which the data store has under this digest.
    pub digest: Digest,
    /// Its size, in bytes.
    pub size: u64,
    /// The signature of its bytes. The worker verifies it.
    pub signature: Signature,
}

impl Program {
    /// Refuses what can be no program. The text is a sentence for people.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=PAYLOAD_SIZE_MAX).contains(&self.size) {
            return Err(format!(
                "a program has 1 to {PAYLOAD_SIZE_MAX} bytes, this one has {}",
                self.size
            ));
        }
        let comment = self.signature.parts().map(|parts| parts.comment.starts_with(COMMENT));
        match comment {
            Some(true) => Ok(()),
            _ => Err(format!(
                "the signature is not that of a program: its comment has to begin with {COMMENT}"
            )),
        }
    }
}

/// What a worker shall run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// This program.
    Program(Program),
    /// The program that it ran before this one. A worker that does not run this one stays as it is.
    Before(Digest),
}

/// The value under `upgrade.WORKER` in the access bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The worker, which is the second part of the key.
    pub worker: WorkerId,
    /// One more than that of the upgrade before.
    pub number: u64,
    /// What it shall run.
    pub wanted: Wanted,
    /// How long its runs may go on before it is restarted, in milliseconds from the time at which it has the program.
    pub deadline_ms: u64,
    /// When it was written, on the wall clock of the master that wrote it. For people.
    pub set_at: WallMillis,
    /// Who wanted it. For people.
    pub set_by: String,
    /// The fields that this version does not know.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(Upgrade {
    const SIZE_MAX: usize = UPGRADE_SIZE_MAX;
});

/// The largest upgrade, as JSON: a signature, and names.
pub const UPGRADE_SIZE_MAX: usize = 16 * 1024;

/// How far a number may be beyond the last one. What says more is not believed: no later upgrade could follow it.
const JUMP_MAX: u64 = 1 << 32;

/// The number of the next upgrade, after the last one in the registry and that which the worker reports. A registry that
/// begins anew goes on where the worker is.
pub fn next_number(last: Option<u64>, reported: Option<u64>) -> u64 {
    let last = last.unwrap_or_default();
    let reported = reported.filter(|reported| follows(last, *reported)).unwrap_or_default();
    last.max(reported).saturating_add(1)
}

/// Whether an upgrade of this number may follow one of the number `last`.
pub fn follows(last: u64, number: u64) -> bool {
    number > last && number - last <= JUMP_MAX
}

impl Upgrade {
    /// The key in the access bucket.
    pub fn key(worker: &WorkerId) -> String {
        format!("{UPGRADE}.{worker}")
    }

    /// How long the runs of the worker may go on.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms).min(crate::limit::DRAIN_MAX)
    }

    /// The program that it names, if the worker may have to fetch it.
    pub fn program(&self) -> Option<&Program> {
        match &self.wanted {
            Wanted::Program(program) => Some(program),
            Wanted::Before(_) => None,
        }
    }

    /// Whether a worker that reports this has carried it out, or given it up.
    pub fn is_done(&self, report: &ProgramReport) -> bool {
        report.number >= self.number
    }
}

/// What a worker that takes upgrades says of its program, in its lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramReport {
    /// The program that it runs; absent if it is the one that is installed on its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The latest upgrade that it has carried out or given up; 0 if there was none.
    pub number: u64,
    /// Why it gave that up, as a sentence of at most [`UPGRADE_REASON_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// How many runs have ended by themselves or at a limit since it began to run this program.
    #[serde(default)]
    pub runs: u64,
    /// How many of these did not complete.
    #[serde(default)]
    pub runs_failed: u64,
}

impl ProgramReport {
    /// The worker has given up this upgrade.
    pub fn fails(&mut self, number: u64, reason: impl ToString) {
        let reason = reason.to_string();
        self.number = number;
        self.failed = Some(clip(&reason, UPGRADE_REASON_MAX).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{KeyId, SignatureParts};

    fn program(size: u64, comment: &str) -> Program {
        let parts = SignatureParts { of_bytes: [1; 64], comment, of_comment: [2; 64] };
        let signature = Signature::new(KeyId([7; 8]), parts).expect("a signature");
        Program { digest: Digest([9; 32]), size, signature }
    }

    #[test]
    fn a_program_is_refused_that_is_empty_too_large_or_signed_as_a_module() {
        assert_eq!(program(1, "program:muster-worker").check(), Ok(()));
        for (size, comment, why) in [
            (0, "program:x", "bytes"),
            (PAYLOAD_SIZE_MAX + 1, "program:x", "bytes"),
            (1, "module:x", "is not that of a program"),
        ] {
            let refused = program(size, comment).check().expect_err(comment);
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn numbers_go_on_where_the_worker_is_but_not_where_it_cannot_be() {
        assert_eq!(next_number(None, None), 1);
        assert_eq!(next_number(Some(3), Some(2)), 4);
        assert_eq!(next_number(None, Some(7)), 8, "the registry has begun anew");
        assert_eq!(next_number(Some(3), Some(u64::MAX)), 4);
        assert!(follows(3, 4) && !follows(3, 3) && !follows(3, u64::MAX));
    }

    #[test]
    fn a_reason_is_cut_at_its_limit() {
        let mut report = ProgramReport::default();
        report.fails(3, "é".repeat(UPGRADE_REASON_MAX));
        assert!(report.failed.is_some_and(|reason| reason.len() <= UPGRADE_REASON_MAX));
        assert_eq!(report.number, 3);
    }
}
