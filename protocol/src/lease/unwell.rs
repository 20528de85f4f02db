//! What a worker's host lacks, as its lease says it. Never longer than its limit, whoever wrote it.

use super::Lease;
use crate::limit::UNWELL_SIZE_MAX;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What the host lacks and what to do about it, in at most [`UNWELL_SIZE_MAX`] bytes; the rest is cut
/// off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Unwell(String);

impl From<String> for Unwell {
    fn from(mut text: String) -> Self {
        text.truncate(text.floor_char_boundary(UNWELL_SIZE_MAX));
        Unwell(text)
    }
}

impl From<&str> for Unwell {
    fn from(text: &str) -> Self {
        Unwell(text[..text.floor_char_boundary(UNWELL_SIZE_MAX)].into())
    }
}

impl fmt::Display for Unwell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Lease {
    /// What the host of the worker lacks, if the worker may run; `None` if its session is over.
    pub fn lacks(&self) -> Option<&Unwell> {
        self.unwell.as_ref().filter(|_| self.state.is_held())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_its_limit_and_between_two_characters() {
        let long = "é".repeat(UNWELL_SIZE_MAX);
        for unwell in [Unwell::from(long.as_str()), Unwell::from(alloc::format!("x{long}"))] {
            let size = alloc::format!("{unwell}").len();
            assert!((UNWELL_SIZE_MAX - 1..=UNWELL_SIZE_MAX).contains(&size), "{size}");
        }
        let json = alloc::format!("\"{long}\"");
        let read: Unwell = serde_json::from_str(&json).expect("a text");
        assert_eq!(read, Unwell::from(long), "whoever wrote it");
    }

    #[test]
    fn a_record_of_before_has_no_reason_and_one_of_now_keeps_it() {
        let mut lease = Lease::new("w1".parse().expect("a name"), crate::SessionId(1));
        let mut before = serde_json::to_value(&lease).expect("JSON");
        before.as_object_mut().expect("an object").remove("unwell");
        assert_eq!(serde_json::from_value::<Lease>(before).ok(), Some(lease.clone()));
        lease.unwell = Some("a disk is full".into());
        let now = serde_json::to_string(&lease).expect("JSON");
        assert_eq!(serde_json::from_str::<Lease>(&now).ok(), Some(lease));
    }
}
