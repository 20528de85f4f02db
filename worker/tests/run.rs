//! Guests of every kind against the engine, on a runtime like the worker's. Never needs a guest
//! that was built elsewhere, they are written here as Wasm text; but for the one that sends HTTP.
#![allow(clippy::unwrap_used)]

mod run {
    pub mod bench;
    mod deadman;
    mod grants;
    pub mod guests;
    mod http;
    mod kinds;
    mod limits;
    mod local;
    mod measure;
    mod sdk;
    mod stops;
}
