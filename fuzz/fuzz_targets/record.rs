//! Bytes in the registry, taken for records of every kind. Never what is decided from them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: muster_fuzz::seeds::records(),
    |bytes: &[u8]| muster_fuzz::record(bytes)
);
