//! Sends the lines of the crates `log` and `tracing` to the attempt's log. Never replaces a logger that
//! is installed already. A task that logs with the SDK's macros does not need it.

#[cfg(feature = "tracing")]
mod events;
mod filter;
#[cfg(feature = "log")]
mod records;

use std::sync::OnceLock;

use filter::Filter;

/// The variable that holds the filter, as is usual in Rust. A task has it only if it is granted (`--env
/// RUST_LOG=debug`).
const VARIABLE: &str = "RUST_LOG";

/// The filter, read at the first call of a task.
fn filter() -> &'static Filter {
    static FILTER: OnceLock<Filter> = OnceLock::new();
    FILTER.get_or_init(|| std::env::var(VARIABLE).map_or_else(|_| Filter::default(), Filter::read))
}

/// Installs the loggers that the crate's features select. Later calls have no effect.
pub(crate) fn install() {
    #[cfg(feature = "log")]
    records::install();
    #[cfg(feature = "tracing")]
    events::install();
}
