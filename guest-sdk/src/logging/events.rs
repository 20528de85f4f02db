//! Events of the crate `tracing`, one line each, with the fields of their spans. Never writes a
//! timestamp or a level into the line: the worker adds both.

use std::io;

use tracing::subscriber::set_global_default;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::{Layer as _, Registry, layer::SubscriberExt as _};

use crate::Level;

/// Installs the subscriber of the process, unless there is one.
pub(super) fn install() {
    // An error means that the task has installed its own subscriber: keep that one.
    let _ = set_global_default(subscriber());
}

fn subscriber() -> impl Subscriber {
    let most = match super::filter().most() {
        None => LevelFilter::OFF,
        Some(Level::Error) => LevelFilter::ERROR,
        Some(Level::Warn) => LevelFilter::WARN,
        Some(Level::Info) => LevelFilter::INFO,
        Some(Level::Debug) => LevelFilter::DEBUG,
        Some(Level::Trace) => LevelFilter::TRACE,
    };
    let filter = filter_fn(|about| super::filter().allows(about.target(), level_of(about)));
    let lines = fmt::layer().without_time().with_level(false).with_ansi(false).with_writer(Lines);
    Registry::default().with(lines.with_filter(filter.with_max_level_hint(most)))
}

fn level_of(about: &Metadata<'_>) -> Level {
    match *about.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

/// Makes a writer for each event, with the event's level.
struct Lines;

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(Level::Info)
    }

    fn make_writer_for(&self, about: &Metadata<'_>) -> Line {
        Line(level_of(about))
    }
}

/// Writes one event, which arrives as one formatted text.
struct Line(Level);

impl io::Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        crate::log(self.0, String::from_utf8_lossy(text).trim_end());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Level, testing};

    #[test]
    fn an_event_is_a_line_with_its_spans() {
        tracing::subscriber::with_default(super::subscriber(), || {
            let _order = tracing::info_span!("order", id = 7).entered();
            let _item = tracing::info_span!("item", name = "cup").entered();
            tracing::warn!(target: "shop", left = 0, "sold out");
            tracing::debug!(target: "shop", "not of interest");
        });
        let line = r#"order{id=7}:item{name="cup"}: shop: sold out left=0"#.to_owned();
        assert_eq!(testing::take_log(), [(Level::Warn, line)]);
    }
}
