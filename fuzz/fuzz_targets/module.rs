//! Inspects random bytes as a module that a client pushes, and makes a component of it. Never compiles
//! or runs it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: muster_fuzz::seeds::modules(),
    |bytes: &[u8]| muster_fuzz::module(bytes)
);
