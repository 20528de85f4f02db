//! Decodes random bytes as records of every kind, as if they were in the registry. Never makes a
//! decision from them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: muster_fuzz::seeds::records(),
    |bytes: &[u8]| muster_fuzz::record(bytes)
);
