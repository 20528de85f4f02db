//! The fleet, simulated.
