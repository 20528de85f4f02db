//! Everything that the table is about, one file each, in the order in which it is measured. A subject
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
    Subject { name: "first-instruction", run: first::run },
    Subject { name: "payload", run: payload::run },
    Subject { name: "primes", run: primes::run },
    Subject { name: "epochs", run: epochs::run },
    Subject { name: "idle", run: idle::run },
    Subject { name: "parked", run: parked::run },
    Subject { name: "leases", run: leases::run },
    Subject { name: "cold", run: cold::run },
    Subject { name: "worker-start", run: boot::run },
    Subject { name: "scale", run: scale::run },
];
