//! How many faults of which kinds there were, and how many of them struck a run. Never decides whether a
//! promise was kept.

use super::{KINDS, between, checker, nemesis::Fault, now_ns, run_log::RunLog};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::Duration,
};

/// How often the faults are counted.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// The faults that struck a run, counted while the test runs.
#[derive(Debug, Default)]
pub struct Trials {
    hits: usize,
    /// Faults that were counted already.
    judged: usize,
    looked_ns: u64,
}

impl Trials {
    /// The number of faults that struck a run. The faults of the last few seconds are counted later.
    ///
    /// # Errors
    ///
    /// When a journal cannot be read.
    pub fn count(&mut self, run_log: &mut RunLog, faults: &[Fault]) -> anyhow::Result<usize> {
        let now = now_ns();
        if between(self.looked_ns, now) < COUNT_EVERY {
            return Ok(self.hits);
        }
        self.looked_ns = now;
        run_log.look()?;
        let faults = &faults[self.judged..];
        // By then the journal contains what a run did just before and just after the fault.
        let old = faults.iter().take_while(|fault| between(fault.at_ns, now) > COUNT_EVERY).count();
        self.hits += checker::trials(run_log, &faults[..old]);
        self.judged += old;
        Ok(self.hits)
    }
}

/// Each kind of fault with its number of faults, and with the number of its strikes where that is
/// greater.
pub fn kinds(faults: &[Fault]) -> String {
    let count = |kind: &&str| {
        let of_kind = faults.iter().filter(|fault| fault.kind.kind() == *kind);
        let (count, times) =
            of_kind.fold((0, 0), |(count, times), fault| (count + 1, times + fault.times));
        if times > count { format!("{kind}={count}({times}x)") } else { format!("{kind}={count}") }
    };
    KINDS.iter().map(count).collect::<Vec<_>>().join(" ")
}

/// Writes every fault with its data to a file.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, faults: &[Fault]) -> io::Result<()> {
    let mut file = File::create(path)?;
    faults.iter().try_for_each(|fault| writeln!(file, "{fault:?}"))
}
