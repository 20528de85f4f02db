//! Decodes random bytes as frames of every kind, as if a peer had sent them. Never handles a message.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: muster_fuzz::seeds::frames(),
    |bytes: &[u8]| muster_fuzz::frame(bytes)
);
