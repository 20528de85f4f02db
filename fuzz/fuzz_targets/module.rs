//! Bytes that someone pushes as a module, inspected and made a component. Never compiled or run.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: muster_fuzz::seeds::modules(),
    |bytes: &[u8]| muster_fuzz::module(bytes)
);
