//! What a worker tells its compile child. Never what the child does.

use std::{ffi::OsString, time::Duration};

/// The first argument of a compile child. No command and no option has this name.
pub(crate) const ARG: &str = "compile-for-the-worker";

/// The limits that the worker gives to the child.
pub(crate) struct Terms {
    pub within: Duration,
    pub memory: u64,
    pub threads: usize,
}

impl Terms {
    /// The limits as arguments.
    pub fn args(&self) -> [String; 5] {
        let parent = std::process::id();
        let Terms { within, memory, threads } = self;
        let numbers = [u64::from(parent), within.as_secs(), *memory, *threads as u64];
        let [parent, within, memory, threads] = numbers.map(|number| number.to_string());
        [ARG.into(), parent, within, memory, threads]
    }

    /// The parent's process id and the limits, from the arguments; `None` if they are malformed.
    pub fn heard(args: impl Iterator<Item = OsString>) -> Option<(i32, Terms)> {
        let numbers: Option<Vec<u64>> =
            args.map(|arg| arg.to_str().and_then(|arg| arg.parse().ok())).collect();
        let [parent, within, memory, threads] = numbers?[..] else { return None };
        let within = Duration::from_secs(within);
        Some((parent.try_into().ok()?, Terms { within, memory, threads: threads as usize }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_hears_what_the_worker_says() {
        let terms = Terms { within: Duration::from_secs(9), memory: 1 << 40, threads: 3 };
        let args = terms.args().map(OsString::from);
        assert_eq!(args[0], ARG);
        let (parent, heard) = Terms::heard(args.into_iter().skip(1)).expect("all of it");
        assert_eq!(parent as u32, std::process::id());
        assert_eq!((heard.within, heard.memory, heard.threads), (terms.within, 1 << 40, 3));
        assert!(Terms::heard(["1".into(), "x".into()].into_iter()).is_none());
    }
}
