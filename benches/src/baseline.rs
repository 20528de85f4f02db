//! The limits that a fleet is compared with: what NATS, QUIC and the runtime do alone, on the same
//! machine in the same minute. Never includes code of the fleet.

pub mod jetstream;
pub mod objects;
pub mod process;
pub mod quic;
pub mod runtime;
