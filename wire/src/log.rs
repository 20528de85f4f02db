//! A daemon's log, on standard error. Never blocks or ends the daemon: lines that cannot be written are
//! lost and counted, and the count is written once writing works again.

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

/// The log filter unless `MUSTER_LOG` sets another.
///
/// The client's connector is off: the daemons log the state of their connections to NATS themselves.
const LOG_DEFAULT: &str =
    "info,async_nats=warn,async_nats::connector=off,quinn=warn,wasmtime=warn,cranelift=warn";

/// The fields that name the subject of a line. Two lines from one place in the code that agree in these
/// fields are repeats, even if other fields differ: a cause may hold the time, or alternate.
const SUBJECTS: [&str; 11] = [
    "worker", "master", "task", "attempt", "module", "digest", "stream", "bucket", "subject",
    "path", "file",
];

/// The log of this process, once [`begin`] was called.
static LOG: OnceLock<Arc<Lines>> = OnceLock::new();

/// Begins the log of this process. From then on, a panic on any thread ends the process: a daemon that
/// has lost one of its loops would look alive and do nothing.
pub fn begin() {
    let lines = LOG.get_or_init(Arc::default).clone();
    if let Err(error) = lines::write_on_a_thread(lines.clone(), io::stderr()) {
        let _ = writeln!(io::stderr(), "error: the log cannot be started: {error}");
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
    // No colours: they could not be told apart from control characters in logged text.
    let inner = format::Format::default().with_ansi(false);
    let _ = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter(filter)
        .event_format(ToLines { inner, lines })
        .with_writer(io::sink)
        .try_init();
}

/// Writes a sentence for the person or program that started this daemon, after all lines logged before.
/// Waits for that at most [`lines::FLUSH_WITHIN`].
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

/// Escapes all control characters except those in `but`, because a terminal obeys them. Text may come
/// from a guest or a server, and `tracing-subscriber` escapes only some fields.
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

/// Waits until the log is written, at most as long as [`say`] does. Called at the end of the process.
pub fn flush() {
    if let Some(lines) = LOG.get() {
        lines.flush();
    }
}

/// Passes each event on as one line with its key. Never writes on the thread of the event.
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
        // One event is one line: text from outside must not look like another event of this daemon.
        let mut text = harmless(text.trim_end(), &[]);
        text.push('\n');
        self.lines.push(LogLine { key: key(event), text });
        Ok(())
    }
}

/// The key that repeats of an event share. `None` below INFO: debug lines are always written.
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

    /// Makes this test program behave as a daemon that logs the same thing again and again.
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
