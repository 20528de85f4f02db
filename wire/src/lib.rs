//! What both daemons do in the same way with the world outside: the boot clock, certificates,
//! QUIC streams of frames, connections to NATS, and compare-and-set and objects in JetStream. Never
//! decides anything.

pub mod cas;
pub mod clock;
pub mod nats;
pub mod objects;
pub mod process;
pub mod quic;
pub mod state;
pub mod tls;
