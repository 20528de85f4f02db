//! A small HTTP server for operators and their programs: connections, the names that a request may use, and answers. Never
//! decides what is served.

mod accept;
pub mod answer;
pub mod host;

pub use accept::{HttpArgs, HttpService, Listener, Watched, WatchedStream};
