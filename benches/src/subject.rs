//! Everything that the table is about, one file each, in the order in which it is measured. A subject
//! starts what it needs itself, and never looks at what another one has found.

mod latency;
mod throughput;

use crate::measure::Measure;

/// A part of the table.
pub struct Subject {
    /// By which it is asked for.
    pub name: &'static str,
    /// Measures it: a few seconds to half a minute.
    pub run: fn() -> anyhow::Result<Vec<Measure>>,
}

/// All of them.
pub const ALL: &[Subject] = &[
    Subject { name: "throughput", run: throughput::run },
    Subject { name: "throughput-synced", run: throughput::synced },
    Subject { name: "latency", run: latency::run },
];
