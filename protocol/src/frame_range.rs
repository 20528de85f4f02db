//! The versions of frames that each side of a link speaks, and the newest that both speak. Never a
//! guess: if there is none, the link ends with a sentence that says which side to upgrade.

use crate::task::clip;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

/// How many bytes of another process's program version are shown.
const VERSION_SHOWN_MAX: usize = 32;

/// The versions of frames that a program speaks: a range without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRange {
    /// The oldest version.
    pub oldest: u16,
    /// The newest version.
    pub newest: u16,
}

impl FrameRange {
    /// The range of this program.
    pub const SPOKEN: FrameRange = FrameRange { oldest: 1, newest: 4 };

    /// The first version in which a worker can ask for the secrets that the registry keeps for it.
    pub const WITH_SECRETS: u16 = 3;

    /// The first version in which a worker can ask for its upgrade.
    pub const WITH_UPGRADES: u16 = 4;

    /// The range of a program that does not say it: such a program knows only frames 1.
    pub const FIRST: FrameRange = FrameRange { oldest: 1, newest: 1 };

    /// The newest version that both speak.
    pub fn common(self, other: FrameRange) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl Default for FrameRange {
    fn default() -> Self {
        FrameRange::FIRST
    }
}

impl fmt::Display for FrameRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "{}", self.newest),
            false => write!(f, "{} to {}", self.oldest, self.newest),
        }
    }
}

/// One end of a link, and the frames that it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// `master` or `worker`.
    pub role: &'static str,
    /// The name of the worker or master.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The frames that it speaks.
    pub frames: FrameRange,
}

/// The two ends of a link have no version of frames in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCommonFrames {
    /// The role of this end.
    pub here: &'static str,
    /// What this end speaks.
    pub spoken: FrameRange,
    /// The other end.
    pub there: Speaker,
}

impl NoCommonFrames {
    /// Whether the two ends have a version of frames in common. The error's text is for the logs of
    /// both.
    pub fn check(here: &'static str, spoken: FrameRange, there: Speaker) -> Result<u16, Self> {
        spoken.common(there.frames).ok_or(NoCommonFrames { here, spoken, there })
    }
}

impl fmt::Display for NoCommonFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoCommonFrames { here, spoken, there } = self;
        let Speaker { role, name, version, frames } = there;
        let version = clip(version, VERSION_SHOWN_MAX);
        let older = if spoken.newest < frames.oldest { here } else { role };
        write!(
            f,
            "this {here} speaks frames {spoken}, {role} {name} ({version}) speaks {frames}: upgrade the {older}"
        )
    }
}

impl core::error::Error for NoCommonFrames {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn range(oldest: u16, newest: u16) -> FrameRange {
        FrameRange { oldest, newest }
    }

    #[test]
    fn both_use_the_newest_that_both_speak_or_hear_whom_to_upgrade() {
        for (here, there, common) in [
            (range(1, 2), range(1, 2), Some(2)),
            (range(1, 2), range(1, 1), Some(1)),
            (range(2, 5), range(1, 3), Some(3)),
            (range(3, 3), range(2, 7), Some(3)),
            (range(4, 5), range(2, 2), None),
            (range(2, 2), range(4, 5), None),
        ] {
            assert_eq!(here.common(there), common, "{here} {there}");
            assert_eq!(there.common(here), common, "{there} {here}");
        }
        let sentence = |here, spoken, role, frames| {
            let name = String::from("x1");
            let there = Speaker { role, name, version: "0.2.0".into(), frames };
            NoCommonFrames::check(here, spoken, there).expect_err("none").to_string()
        };
        assert_eq!(
            sentence("master", range(4, 5), "worker", range(2, 2)),
            "this master speaks frames 4 to 5, worker x1 (0.2.0) speaks 2: upgrade the worker"
        );
        assert_eq!(
            sentence("worker", range(2, 2), "master", range(4, 5)),
            "this worker speaks frames 2, master x1 (0.2.0) speaks 4 to 5: upgrade the worker"
        );
    }
}
