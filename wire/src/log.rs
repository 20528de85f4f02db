//! A daemon's log, on standard error. A log that cannot be written costs lines, and a count of them is
//! told once it can be written again; it never holds up or ends the daemon.

mod lines;
mod repeats;

use lines::{Lines, LogLine};
use repeats::Key;
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt::{self, Write as _},
    io::{self, Write},
    sync::{Arc, OnceLock},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format},
    registry::LookupSpan,
};

/// What is logged unless `MUSTER_LOG` says otherwise.
///
/// What becomes of a connection to NATS, the daemons say themselves.
const LOG_DEFAULT: &str =
    "info,async_nats=warn,async_nats::connector=off,quinn=warn,wasmtime=warn,cranelift=warn";

/// The fields that say what a line is about. Two lines of one place in the code that agree in these are
/// repeats of each other, whatever else they say: a cause may hold the time, or alternate.
const SUBJECTS: [&str; 11] = [
    "worker", "master", "task", "attempt", "module", "digest", "stream", "bucket", "subject",
    "path", "file",
];

/// The log of this process, once it has one.
static LOG: OnceLock<Arc<Lines>> = OnceLock::new();

/// Begins the log of this process, and ends the process when any of its threads panics: a daemon that has
/// lost one of its loops would look alive and do nothing.
pub fn begin() {
    let lines = LOG.get_or_init(Arc::default).clone();
    if let Err(error) = lines::write_on_a_thread(lines.clone(), io::stderr()) {
        let _ = writeln!(io::stderr(), "error: there will be no log: {error}");
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let mut text =
            format!("error: thread {} {panic}", thread.name().unwrap_or("without a name"));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            let _ = write!(text, "\n{trace}");
        }
        say(&text);
        std::process::abort();
    }));
    let filter =
        EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    // Without colours, which cannot be told from those of others.
    let inner = format::Format::default().with_ansi(false);
    let _ = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(filter)
        .event_format(ToLines { inner, lines })
        .with_writer(io::sink)
        .try_init();
}

/// Writes a sentence for whoever started this daemon, after what was logged before it. Waits for that no
/// longer than [`lines::FLUSH_WITHIN`].
pub fn say(text: &str) {
    let text = &harmless(text, &['\n', '\t']);
    match LOG.get() {
        Some(lines) => {
            lines.push(LogLine { key: None, text: format!("{text}\n") });
            lines.flush();
        }
        None => {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// A text without what a terminal obeys, but for these: a part of it may be a guest's or a server's, and
/// `tracing-subscriber` escapes some fields only.
fn harmless(text: &str, but: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && !but.contains(&char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// Waits until the log is written, as [`say`] does: for the end of a process.
pub fn flush() {
    if let Some(lines) = LOG.get() {
        lines.flush();
    }
}

/// Hands each event over as a line, with what it is about; nothing is written on the thread of the event.
struct ToLines {
    inner: format::Format,
    lines: Arc<Lines>,
}

impl<S, N> FormatEvent<S, N> for ToLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        _: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.inner.format_event(context, format::Writer::new(&mut text), event)?;
        // One event is one line: a text of others must not look like an event of this daemon.
        let mut text = harmless(text.trim_end(), &[]);
        text.push('\n');
        self.lines.push(LogLine { key: key(event), text });
        Ok(())
    }
}

/// What tells an event's repeats; none for the levels of those who search for a fault.
fn key(event: &Event<'_>) -> Option<Key> {
    struct About(String);
    impl Visit for About {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if SUBJECTS.contains(&field.name()) {
                let _ = write!(self.0, "{}={value:?} ", field.name());
            }
        }
    }
    if *event.metadata().level() > Level::INFO {
        return None;
    }
    let mut about = About(String::new());
    event.record(&mut about);
    Some(Key { place: event.metadata().name(), about: about.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Says to this very program that it is a daemon which says one thing again and again.
    const MODE: &str = "MUSTER_TEST_FLOODS";

    const TIMES: usize = 1_000;

    #[test]
    #[ignore = "the process that another test reads"]
    fn floods() {
        if std::env::var_os(MODE).is_none() {
            return;
        }
        begin();
        for turn in 0..TIMES {
            let error = format!("not valid yet at {turn}");
            tracing::warn!(worker = "w1", error, "no link");
            if turn % 100 == 0 {
                tracing::info!(worker = format!("w{turn}"), "linked");
            }
        }
        tracing::info!(cause = %"guest\u{1b}[2J\n2026-01-01 INFO a forged line", "trapped");
        say("error: \u{1b}[2J said");
        flush();
    }

    #[test]
    fn what_repeats_is_counted_and_what_differs_is_told() {
        let output = Command::new(std::env::current_exe().expect("a test is a file"))
            .args(["log::tests::floods", "--exact", "--ignored", "--nocapture"])
            .env(MODE, "1")
            .env_remove("MUSTER_LOG")
            .output()
            .expect("it starts");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let repeats: Vec<&str> = log.lines().filter(|line| line.contains("no link")).collect();
        assert_eq!(repeats.len(), 2, "{log}");
        let count = format!("({} times in ", TIMES - 1);
        assert!(repeats[1].contains(&count), "{log}");
        assert!(repeats[1].contains(&format!("at {}", TIMES - 1)), "the latest: {log}");
        assert_eq!(log.matches("linked").count(), TIMES / 100, "{log}");
        let forged: Vec<&str> = log.lines().filter(|line| line.contains("forged")).collect();
        assert!(forged.len() == 1 && forged[0].contains("trapped"), "{log}");
        assert!(!log.contains('\u{1b}'), "a terminal would obey it: {log}");
    }
}
