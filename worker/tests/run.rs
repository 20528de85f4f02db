//! Runs guests of every kind in the engine, on a runtime like the worker's. Guests are written here as
//! Wasm text and never need to be built, except for the one that sends HTTP requests.
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
