//! Durations in ticks of real time, for clocks that are wrong by a quarter. Never what a clock
//! shows: that is no part of a state, only how late or how early its alarms can be.
//!
//! With ρ = 1/4, a lease of 2 and a kill margin of 1, the inequality of `LeaseTiming` asks for
//! `L_m = 3 · (5/4) / (3/4) = 5`, and it is kept exactly. A slow worker's clock has not shown 2
//! before tick 3, nor 3 before tick 4; a fast master's clock shows 5 at tick 4. Clocks that are less
//! wrong stop a run earlier or declare it lost later; both can happen here too, since a worker may
//! lose its answers and nothing makes a master act.

/// Ticks from a stamp until the slowest worker admits nothing more (`L_w` = 2).
pub const GATE_SHUT: u8 = 3;
/// Ticks from a stamp until the kernel has killed what the slowest worker ran (`L_w + K` = 3).
pub const KILLED: u8 = 4;
/// What is left of [`KILLED`] when the gate shuts.
pub const MARGIN: u8 = KILLED - GATE_SHUT;
/// Ticks that the fastest master waits (`L_m` = 5).
pub const WAIT: u8 = 4;

/// A stamp's age one tick later. What is older than a lease is as good as any other.
pub fn older(age: u8) -> u8 {
    (age + 1).min(GATE_SHUT)
}
