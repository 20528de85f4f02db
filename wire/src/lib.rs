//! What both daemons do in the same way with the world outside: the boot clock, certificates,
//! QUIC streams of frames, and compare-and-set in JetStream. Never decides anything.

pub mod cas;
pub mod clock;
pub mod process;
pub mod quic;
pub mod tls;
