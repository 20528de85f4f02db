//! The limits that a fleet is held against: what NATS, QUIC and the runtime do alone, on the same
//! machine in the same minute. Never with anything of the fleet's between.

pub mod jetstream;
pub mod objects;
pub mod process;
pub mod quic;
pub mod runtime;
