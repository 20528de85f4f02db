//! Remembers which modules did not compile, so that they are not compiled again for each task that
//! names them. Never outlives the process: another version may compile what this one could not.

use super::ArtifactError;
use crate::compile::CompileError;
use muster_protocol::Digest;
use std::collections::HashMap;

/// Modules that are remembered. A reason takes up to 4 KiB, so all of them take 4 MiB at most.
const REMEMBERED_MAX: usize = 1_024;

/// How many times in a row a module's compiler may be killed by something other than this worker. Once
/// or twice, the machine may be short of memory because of something else; three times, it is because
/// of the module.
const KILLS_MAX: u32 = 3;

/// The modules that did not compile.
#[derive(Default)]
pub(super) struct Refusals {
    known: HashMap<Digest, Known>,
    /// A counter of entries; the oldest entry has the lowest number.
    noted: u64,
}

struct Known {
    what: What,
    noted: u64,
}

enum What {
    /// The module will not be compiled, for this reason.
    Refused(String),
    /// The module's compiler was killed so many times in a row.
    Killed(u32),
}

impl Refusals {
    /// The reason if a module is refused; `None` if it is not.
    pub(super) fn of(&self, digest: Digest) -> Option<ArtifactError> {
        match &self.known.get(&digest)?.what {
            What::Refused(reason) => Some(ArtifactError::Rejected(reason.clone())),
            What::Killed(_) => None,
        }
    }

    /// Remembers that a module is refused.
    pub(super) fn refuse(&mut self, digest: Digest, reason: String) -> ArtifactError {
        self.note(digest, What::Refused(reason.clone()));
        ArtifactError::Rejected(reason)
    }

    /// Records a failed compilation, and returns the error that follows from it.
    pub(super) fn failed(&mut self, digest: Digest, error: CompileError) -> ArtifactError {
        match error {
            CompileError::Rejected(reason) => self.refuse(digest, reason),
            CompileError::NotTried(reason) => {
                self.ended(digest);
                ArtifactError::NotHad(reason)
            }
            CompileError::Killed(reason) => {
                let before = match self.known.get(&digest) {
                    Some(Known { what: What::Killed(times), .. }) => *times,
                    _ => 0,
                };
                let times = before + 1;
                if times >= KILLS_MAX {
                    return self.refuse(digest, format!("{reason}, {times} times in a row"));
                }
                self.note(digest, What::Killed(times));
                ArtifactError::NotHad(reason)
            }
        }
    }

    /// Records a compilation that was not killed: earlier kills no longer count.
    pub(super) fn ended(&mut self, digest: Digest) {
        if let Some(Known { what: What::Killed(_), .. }) = self.known.get(&digest) {
            self.known.remove(&digest);
        }
    }

    fn note(&mut self, digest: Digest, what: What) {
        if self.known.len() >= REMEMBERED_MAX && !self.known.contains_key(&digest) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.noted);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.known.remove(&oldest);
            }
        }
        self.noted += 1;
        self.known.insert(digest, Known { what, noted: self.noted });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        let mut digest = Digest([0; 32]);
        digest.0[..8].copy_from_slice(&number.to_le_bytes());
        digest
    }

    fn is_for_good(error: &ArtifactError) -> bool {
        matches!(error, ArtifactError::Rejected(_))
    }

    #[test]
    fn a_module_whose_compiler_is_killed_again_and_again_is_refused() {
        let mut refusals = Refusals::default();
        let killed = || CompileError::Killed("killed".into());
        for round in 0..2 {
            for time in 1..KILLS_MAX {
                assert!(!is_for_good(&refusals.failed(digest(1), killed())), "{round} {time}");
                assert!(refusals.of(digest(1)).is_none());
                assert!(!is_for_good(&refusals.failed(digest(2 + round), killed())));
            }
            // These kills are no longer in a row.
            match round {
                0 => refusals.ended(digest(1)),
                _ => drop(refusals.failed(digest(1), CompileError::NotTried("why".into()))),
            }
        }
        for _ in 1..KILLS_MAX {
            assert!(!is_for_good(&refusals.failed(digest(1), killed())));
        }
        let refused = refusals.failed(digest(1), killed());
        assert_eq!(refused.to_string(), "killed, 3 times in a row");
        assert!(is_for_good(&refused));
        assert!(refusals.of(digest(1)).is_some_and(|error| is_for_good(&error)));
    }

    #[test]
    fn what_was_not_tried_is_tried_again() {
        let mut refusals = Refusals::default();
        for _ in 0..9 {
            let error = refusals.failed(digest(1), CompileError::NotTried("why".into()));
            assert!(!is_for_good(&error) && refusals.of(digest(1)).is_none());
        }
    }

    #[test]
    fn so_many_are_remembered_and_the_oldest_is_forgotten() {
        let mut refusals = Refusals::default();
        for number in 0..=REMEMBERED_MAX {
            refusals.failed(digest(number), CompileError::Rejected(format!("{number}")));
        }
        assert_eq!(refusals.known.len(), REMEMBERED_MAX);
        assert!(refusals.of(digest(0)).is_none());
        let last = refusals.of(digest(REMEMBERED_MAX)).expect("it is remembered");
        assert_eq!(last.to_string(), "1024");
    }
}
