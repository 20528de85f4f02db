//! All measurements of the table, one file each, in the order in which they run. A measurement starts
//! what it needs itself. Never uses the result of another measurement.

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
mod replicated;
mod scale;
mod throughput;

use crate::measure::Measure;

/// One measurement.
pub struct Measurement {
    /// The name, by which it can be selected.
    pub name: &'static str,
    /// Runs it, which takes a few seconds to half a minute.
    pub run: fn() -> anyhow::Result<Vec<Measure>>,
}

/// All measurements.
pub const ALL: &[Measurement] = &[
    Measurement { name: "throughput", run: throughput::run },
    Measurement { name: "throughput-synced", run: throughput::synced },
    Measurement { name: "replicated", run: replicated::run },
    Measurement { name: "replicated-synced", run: replicated::synced },
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
