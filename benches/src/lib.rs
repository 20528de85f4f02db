//! What is measured, and how it is told: `subject` measures, `raw` is what it is held against, `drive`,
//! `guests` and `mind` are what it is measured with, and the others tell it. Never judges: a missed target
//! is a line of the table.

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
