//! The no-op tasks of `throughput` on a registry of three nodes with three replicas of each stream, held
//! against the raw writes of the same cluster. All processes share the machine, the three nats-servers too.

use super::throughput::{Plan, SHARE, SHARE_SYNCED, against_raw};
use crate::measure::Measure;
use muster_tests::Fleet;

const PLAN: Plan = Plan { workers: 2, slots: 2, tasks: 5_000, rounds: 5, raw: 10_000 };

/// With three fsyncs for each write on the same disk.
const SYNCED: Plan = Plan { workers: 2, slots: 2, tasks: 4_000, rounds: 5, raw: 4_000 };

/// With the default of nats-server: it writes at once, and syncs every two minutes.
pub fn run() -> anyhow::Result<Vec<Measure>> {
    against_raw(Fleet::replicated_registry(""), PLAN, "three replicas", "three replicas", SHARE)
}

/// With nodes that sync every write to their disks before they acknowledge it.
pub fn synced() -> anyhow::Result<Vec<Measure>> {
    let fleet = Fleet::replicated_registry("jetstream { sync_interval: always }\n");
    let name = "three replicas, `sync_interval: always`";
    against_raw(fleet, SYNCED, name, "three replicas, synced", SHARE_SYNCED)
}
