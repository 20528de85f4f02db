//! Resource use of processes, from the kernel's accounting. Times are differences of counters, memory is
//! the present value. Never a sample.

use anyhow::Context as _;
use std::{fs, time::Duration};

/// The processor time of a process, with all its threads, even those that have ended.
///
/// # Errors
///
/// The process is gone.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let fields = stat(&pid.to_string())?;
    Ok(ticks(fields[UTIME] + fields[STIME]))
}

/// The processor time of all children of this process that have ended and were waited for.
///
/// # Errors
///
/// The kernel does not report it.
pub fn cpu_of_ended_children() -> anyhow::Result<Duration> {
    let fields = stat("self")?;
    Ok(ticks(fields[UTIME + 2] + fields[STIME + 2]))
}

/// The positions in the list of numbers after the state, in which the first number is the fourth field
/// of proc(5).
const UTIME: usize = 10;
const STIME: usize = 11;

fn stat(pid: &str) -> anyhow::Result<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may contain spaces and brackets; nothing after its end does.
    let (_, after) = text.rsplit_once(')').context("a stat line")?;
    Ok(after.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect())
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// All its pages that are in memory.
    pub resident: u64,
    /// The same, with each shared page divided by the number of processes that share it.
    pub proportional: u64,
}

/// What a process has in memory now.
///
/// # Errors
///
/// The process is gone.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("a field")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok(Memory { resident: field("Rss:")?, proportional: field("Pss:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let before = cpu(std::process::id()).expect("it runs");
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(60) {}
        let used = cpu(std::process::id()).expect("it runs") - before;
        assert!(used > Duration::ZERO && used < Duration::from_secs(60), "{used:?}");
        let memory = memory(std::process::id()).expect("it runs");
        assert!(memory.resident >= memory.proportional && memory.proportional > 0, "{memory:?}");
    }
}
