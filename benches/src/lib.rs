//! What is measured, and how it is told. Never judges: a missed target is a line of the table.

pub mod drive;
pub mod figures;
pub mod guests;
pub mod measure;
pub mod mind;
pub mod plot;
pub mod raw;
pub mod scale;
pub mod subject;
pub mod table;
pub mod usage;
