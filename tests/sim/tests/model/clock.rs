//! Durations in ticks of real time, for clocks whose rate is wrong by a quarter. The reading of a clock
//! is never part of a state; only the earliest and the latest tick of each timer matters.
//!
//! With ρ = 1/4, a lease of 2 and a kill margin of 1, the inequality of `LeaseTiming` demands `L_m = 3 ·
//! (5/4) / (3/4) = 5`, and the model uses exactly that. A slow worker's clock does not show 2 before
//! tick 3, nor 3 before tick 4; a fast master's clock shows 5 at tick 4. Clocks with a smaller error
//! stop a run earlier or declare a worker lost later. Both can happen here too: a worker may lose its
//! answers, and nothing forces a master to act.

/// Ticks from a stamp until the slowest worker closes its gate (`L_w` = 2).
pub const GATE_SHUT: u8 = 3;
/// Ticks from a stamp until the kernel has killed what the slowest worker ran (`L_w + K` = 3).
pub const KILLED: u8 = 4;
/// Ticks from the closing of the gate until the kernel kills the process.
pub const MARGIN: u8 = KILLED - GATE_SHUT;
/// Ticks that the fastest master waits (`L_m` = 5).
pub const WAIT: u8 = 4;

/// The age of a stamp one tick later. All ages beyond the lease are the same state.
pub fn older(age: u8) -> u8 {
    (age + 1).min(GATE_SHUT)
}
