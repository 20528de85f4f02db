//! The benchmarks. `measurement` measures Muster; `baseline` measures what Muster is compared with;
//! `load`, `guests` and `fleet_rig` are tools for that; the other modules print the results. Never fails
//! because of a missed target: it is a line of the table.

pub mod baseline;
pub mod figures;
pub mod fleet_rig;
pub mod guests;
pub mod load;
pub mod measure;
pub mod measurement;
pub mod plot;
pub mod table;
pub mod usage;
