//! What a worker tells its compile child. Never what the child does.

use std::{ffi::OsString, time::Duration};

/// The first argument of a compile child. No command and no option has this name.
pub(crate) const ARG: &str = "compile-for-the-worker";

/// The limits that the worker gives to the child.
pub(crate) struct Terms {
    pub within: Duration,
    pub memory: u64,
    pub threads: usize,
    /// Bytes of addresses that the child takes before it reads a module, for a child that cannot read this
    /// of itself. `None` if the worker has not measured it; then the child can.
    pub addresses: Option<u64>,
}

impl Terms {
    /// The limits as arguments.
    pub fn args(&self) -> [String; 6] {
        let parent = std::process::id();
        let Terms { within, memory, threads, addresses } = self;
        let (threads, addresses) = (*threads as u64, addresses.unwrap_or(0));
        let numbers = [u64::from(parent), within.as_secs(), *memory, threads, addresses];
        let [parent, within, memory, threads, addresses] = numbers.map(|number| number.to_string());
        [ARG.into(), parent, within, memory, threads, addresses]
    }

    /// The parent's process id and the limits, from the arguments; `None` if they are malformed.
    pub fn heard(args: impl Iterator<Item = OsString>) -> Option<(i32, Terms)> {
        let numbers: Option<Vec<u64>> =
            args.map(|arg| arg.to_str().and_then(|arg| arg.parse().ok())).collect();
        let [parent, within, memory, threads, addresses] = numbers?[..] else { return None };
        let (within, threads) = (Duration::from_secs(within), threads as usize);
        let addresses = (addresses > 0).then_some(addresses);
        Some((parent.try_into().ok()?, Terms { within, memory, threads, addresses }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_hears_what_the_worker_says() {
        let (within, addresses) = (Duration::from_secs(9), Some(1 << 30));
        let terms = Terms { within, memory: 1 << 40, threads: 3, addresses };
        let args = terms.args().map(OsString::from);
        assert_eq!(args[0], ARG);
        let (parent, heard) = Terms::heard(args.into_iter().skip(1)).expect("all of it");
        assert_eq!(parent as u32, std::process::id());
        assert_eq!((heard.within, heard.memory, heard.threads), (terms.within, 1 << 40, 3));
        assert_eq!(heard.addresses, addresses);
        assert!(Terms::heard(["1".into(), "x".into()].into_iter()).is_none());
    }
}
