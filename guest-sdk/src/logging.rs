//! Where the lines of the crates `log` and `tracing` go: to the attempt's log. It must never take the
//! place of a logger that is there already, nor be needed by a task that logs by the SDK's macros.

#[cfg(feature = "tracing")]
mod events;
mod filter;
#[cfg(feature = "log")]
mod records;

use std::sync::OnceLock;

use filter::Filter;

/// The variable that says which lines are written, as elsewhere in Rust: a task has it when it was
/// granted (`--env RUST_LOG=debug`).
const VARIABLE: &str = "RUST_LOG";

/// Which lines are written, as of the first call of a task.
fn filter() -> &'static Filter {
    static FILTER: OnceLock<Filter> = OnceLock::new();
    FILTER.get_or_init(|| std::env::var(VARIABLE).map_or_else(|_| Filter::default(), Filter::read))
}

/// Installs what the crate's features ask for, the first time.
pub(crate) fn install() {
    #[cfg(feature = "log")]
    records::install();
    #[cfg(feature = "tracing")]
    events::install();
}
