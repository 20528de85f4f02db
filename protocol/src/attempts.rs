//! The worker's mind.
