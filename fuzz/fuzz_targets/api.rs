//! Reads random bytes as a request of every endpoint, as if a client had sent them to a master. Never does
//! what a request asks for.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: muster_fuzz::seeds::requests(),
    |bytes: &[u8]| muster_fuzz::api(bytes)
);
