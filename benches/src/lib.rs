//! What is measured, and how it is told. Never judges: a missed target is a line of the table.

pub mod measure;
pub mod mind;
pub mod scale;
