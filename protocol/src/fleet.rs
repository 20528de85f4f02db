//! The master's mind.
