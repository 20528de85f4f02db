//! What is measured, and how it is told: `subject` measures, `raw` is what it is held against, `drive`,
//! `guests` and `mind` are what it is measured with, and the others tell it. Never judges: a missed target
//! is a line of the table.

pub mod drive;
pub mod figures;
pub mod guests;
pub mod measure;
pub mod mind;
pub mod plot;
pub mod raw;
pub mod subject;
pub mod table;
pub mod usage;
