//! Bytes that a peer sends, taken for frames of every kind. Never what is done about a message.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: muster_fuzz::seeds::frames(),
    |bytes: &[u8]| muster_fuzz::frame(bytes)
);
