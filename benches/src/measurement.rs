//! Everything that the table is about, one file each, in the order in which it is measured. A measurement
//! starts what it needs itself, and never looks at what another one has found.

mod boot;
mod cold;
mod epochs;
mod first;
mod idle;
mod latency;
mod leases;
mod parked;
mod payload;
mod primes;
mod scale;
mod throughput;

use crate::measure::Measure;

/// A part of the table.
pub struct Measurement {
    /// By which it is asked for.
    pub name: &'static str,
    /// Measures it: a few seconds to half a minute.
    pub run: fn() -> anyhow::Result<Vec<Measure>>,
}

/// All of them.
pub const ALL: &[Measurement] = &[
    Measurement { name: "throughput", run: throughput::run },
    Measurement { name: "throughput-synced", run: throughput::synced },
    Measurement { name: "latency", run: latency::run },
    Measurement { name: "first-instruction", run: first::run },
    Measurement { name: "payload", run: payload::run },
    Measurement { name: "primes", run: primes::run },
    Measurement { name: "epochs", run: epochs::run },
    Measurement { name: "idle", run: idle::run },
    Measurement { name: "parked", run: parked::run },
    Measurement { name: "leases", run: leases::run },
    Measurement { name: "cold", run: cold::run },
    Measurement { name: "worker-start", run: boot::run },
    Measurement { name: "scale", run: scale::run },
];
