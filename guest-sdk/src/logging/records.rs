//! Records of the crate `log`, one line each. Never formats a record that is not written.

use std::fmt::Write as _;

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

use crate::Level;

struct Records;

/// Installs the logger of the process, unless there is one.
pub(super) fn install() {
    if log::set_logger(&Records).is_ok() {
        log::set_max_level(match super::filter().most() {
            None => LevelFilter::Off,
            Some(Level::Error) => LevelFilter::Error,
            Some(Level::Warn) => LevelFilter::Warn,
            Some(Level::Info) => LevelFilter::Info,
            Some(Level::Debug) => LevelFilter::Debug,
            Some(Level::Trace) => LevelFilter::Trace,
        });
    }
}

fn level_of(level: log::Level) -> Level {
    match level {
        log::Level::Error => Level::Error,
        log::Level::Warn => Level::Warn,
        log::Level::Info => Level::Info,
        log::Level::Debug => Level::Debug,
        log::Level::Trace => Level::Trace,
    }
}

impl Log for Records {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        super::filter().allows(about.target(), level_of(about.level()))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut line = format!("{}: {}", record.target(), record.args());
            // Writing to a string fails only if the value's own formatting fails. Such a value is left
            // out.
            let _ = record.key_values().visit(&mut Pairs(&mut line));
            crate::log(level_of(record.level()), line);
        }
    }

    fn flush(&self) {}
}

struct Pairs<'a>(&'a mut String);

impl<'pair> VisitSource<'pair> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'pair>, value: Value<'pair>) -> Result<(), Error> {
        Ok(write!(self.0, " {key}={value}")?)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Level, testing};

    #[test]
    fn a_record_is_a_line_with_its_target_and_its_pairs() {
        super::super::install();
        log::info!(target: "shop", pieces = 3, name = "cup"; "sold {}", "out");
        log::debug!(target: "shop", "not of interest");
        let line = "shop: sold out pieces=3 name=cup".to_owned();
        assert_eq!(testing::take_log(), [(Level::Info, line)]);
    }
}
