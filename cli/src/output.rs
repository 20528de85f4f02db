//! Formats answers: a table for people, or the API's JSON for programs. Never writes to standard error,
//! and never panics when the reader has closed the output.

use crate::{
    quantity,
    terminal::{self, Piece},
};
use anstream::ColorChoice;
use anstyle::AnsiColor;
use comfy_table::{Attribute, Color, ColumnConstraint, ContentArrangement, Table, presets};
use muster_protocol::time::WallMillis;
use serde::Serialize;
use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Spaces between two columns of a table.
const PADDING: u16 = 2;

/// The least width of a table's last column, if that is a text of several words.
const LAST_MIN: u16 = 24;

/// The format of standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// The reader of standard output has closed it, as `head` does.
#[derive(Debug)]
pub struct Unread;

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for Unread {}

/// Turns the broken pipe of a reader that has left into [`Unread`]. A broken connection fails with a broken
/// pipe, too, and must not be taken for it.
fn written(done: io::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Unread.into()),
        done => Ok(done?),
    }
}

/// Whether standard output may be coloured: a terminal, and no `NO_COLOR`.
pub fn is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Prints a value as indented JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    if io::stdout().is_terminal() {
        return shown_json(&serde_json::to_string_pretty(value)?);
    }
    let mut out = io::stdout().lock();
    let done = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    written(done.and_then(|()| out.write_all(b"\n")))
}

/// Prints a value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    if io::stdout().is_terminal() {
        return shown_json(&serde_json::to_string(value)?);
    }
    let mut out = io::stdout().lock();
    let done = serde_json::to_writer(&mut out, value).map_err(io::Error::from);
    written(done.and_then(|()| out.write_all(b"\n")))
}

fn shown_json(text: &str) -> anyhow::Result<()> {
    written(writeln!(io::stdout(), "{}", terminal::json(text)))
}

/// Prints a line.
pub fn line(text: &str) -> anyhow::Result<()> {
    pieces(&[terminal::plain(text)])
}

/// Prints a line of several styles.
pub fn pieces(pieces: &[Piece<'_>]) -> anyhow::Result<()> {
    written(terminal::line(pieces))
}

/// Prints bytes.
pub fn raw(bytes: &[u8]) -> anyhow::Result<()> {
    written(terminal::bytes(bytes))
}

/// A cell of a table.
pub struct Cell(comfy_table::Cell);

impl Cell {
    /// A cell with this text.
    pub fn new(text: impl ToString) -> Self {
        Cell(comfy_table::Cell::new(terminal::escaped(&text.to_string())))
    }

    fn fg(self, colour: Color) -> Self {
        Cell(self.0.fg(colour))
    }
}

/// Prints rows under their headers. In a pipe each row is one line, however long. On a terminal that is
/// too narrow, the columns in `less` are left out, the first of them first.
pub fn table(headers: &[&str], less: &[&str], rows: Vec<Vec<Cell>>) -> anyhow::Result<()> {
    let width = Table::new().width();
    let text = layout(headers, less, rows, width, is_coloured());
    // The cells are escaped already. Only colours and newlines remain.
    written(writeln!(anstream::stdout(), "{text}"))
}

fn layout(
    headers: &[&str],
    less: &[&str],
    mut rows: Vec<Vec<Cell>>,
    width: Option<u16>,
    coloured: bool,
) -> String {
    let mut headers = headers.to_vec();
    let mut less = less.iter();
    let mut natural = filled(&headers, &rows);
    if let Some(width) = width {
        while least(&natural) > width.into()
            && let Some(at) =
                less.next().and_then(|less| headers.iter().position(|head| head == less))
        {
            headers.remove(at);
            rows.iter_mut().for_each(|row| drop(row.remove(at)));
            natural = filled(&headers, &rows);
        }
    }
    let mut table = natural;
    if coloured {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    // Words stay whole, so that people can copy them. Only the last column is prose and may wrap.
    match width {
        Some(width) if least(&table) <= width.into() => {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
            for at in 0..headers.len() - 1 {
                if let Some(column) = table.column_mut(at) {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        _ => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn filled(headers: &[&str], rows: &[Vec<Cell>]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let head =
        |name: &&str| comfy_table::Cell::new(name.to_uppercase()).add_attribute(Attribute::Bold);
    table.set_header(headers.iter().map(head).collect::<Vec<_>>());
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| cell.0.clone())));
    for column in table.column_iter_mut() {
        column.set_padding((0, PADDING));
    }
    table
}

/// The least width that the columns of a table need: all of each but the last, and enough of that.
fn least(table: &Table) -> usize {
    let widths = table.column_max_content_widths();
    let (last, others) = widths.split_last().unwrap_or((&0, &[]));
    let others = others.iter().map(|width| usize::from(width + PADDING)).sum::<usize>();
    others + usize::from(*last.min(&LAST_MIN) + PADDING)
}

/// Prints names and values, one per line; empty values are left out.
pub fn fields(rows: &[(&str, String)]) -> anyhow::Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let bold = anstyle::Style::new().bold();
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let mut lines = value.trim_end().lines();
        let first = lines.next().unwrap_or_default();
        pieces(&[(bold, &format!("{name:width$}")), terminal::plain(first)])?;
        for more in lines {
            line(&format!("{:width$}{more}", ""))?;
        }
    }
    Ok(())
}

/// A cell with the state of a task or lease, or the result of a check, coloured accordingly.
pub fn state_cell(word: &str) -> Cell {
    Cell::new(word).fg(named(colour_of(word).unwrap_or(AnsiColor::Red)))
}

/// A cell for something that happened, such as `lost` or `worker.fenced`.
pub fn event_cell(what: &str) -> Cell {
    let cell = Cell::new(what);
    match colour_of(what.rsplit('.').next().unwrap_or(what)) {
        Some(colour) => cell.fg(named(colour)),
        None => cell,
    }
}

/// The colour of a state, of the result of a check, or of something that happened; white for what is neither good nor bad,
/// and `None` for another word.
pub fn colour_of(word: &str) -> Option<AnsiColor> {
    Some(match word {
        "completed" | "live" | "ok" | "joined" | "well" | "started" => AnsiColor::Green,
        "queued" | "released" => AnsiColor::White,
        "dispatched" => AnsiColor::Cyan,
        "draining" | "cordoned" | "unwell" | "cancelled" | "warn" | "retried" | "left"
        | "stopped" => AnsiColor::Yellow,
        "failed" | "trapped" | "timed_out" | "over_limit" | "rejected" | "returned" | "lost"
        | "fail" | "fenced" | "degraded" | "rewound" | "held" | "redispatched" | "quarantined"
        | "refused" | "empty" => AnsiColor::Red,
        _ => return None,
    })
}

/// The same colour for a cell of a table.
fn named(colour: AnsiColor) -> Color {
    match colour {
        AnsiColor::Green => Color::Green,
        AnsiColor::Cyan => Color::Cyan,
        AnsiColor::Yellow => Color::Yellow,
        AnsiColor::Red => Color::Red,
        _ => Color::Reset,
    }
}

/// The style of a word about something that happened, outside of tables.
pub fn event_style(what: &str) -> anstyle::Style {
    colour_of(what).map_or_else(anstyle::Style::new, AnsiColor::on_default)
}

/// The wall clock of this machine.
pub fn now() -> WallMillis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMillis(now.as_millis().try_into().unwrap_or(u64::MAX))
}

/// The age of a timestamp, by this machine's wall clock: `12s ago`.
pub fn ago(stamp: WallMillis) -> String {
    match age(now(), stamp) {
        Some(passed) => format!("{} ago", quantity::show_duration(passed)),
        None => "now".into(),
    }
}

/// The age of a timestamp; `None` if it is in the future, because the clock of the other machine is ahead.
pub fn age(now: WallMillis, stamp: WallMillis) -> Option<Duration> {
    now.0.checked_sub(stamp.0).map(Duration::from_millis)
}

/// A timestamp in local time: `2025-03-09 17:02:11`.
pub fn local(stamp: WallMillis) -> String {
    let stamp =
        i64::try_from(stamp.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(String::new, |stamp| {
        stamp.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %T").to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::{
        lease::{LeaseState, UNWELL},
        task::StateName,
    };

    #[test]
    fn every_state_has_a_colour() {
        let tasks = StateName::ALL.iter().map(|state| state.word());
        let workers = LeaseState::ALL.iter().map(|state| state.word());
        for word in tasks.chain(workers).chain([UNWELL]) {
            assert!(colour_of(word).is_some(), "{word}");
        }
    }

    #[test]
    fn a_piped_table_is_plain_text_with_one_line_a_row() {
        let rows = vec![
            vec![Cell::new("a").fg(Color::Red), Cell::new("x".repeat(300))],
            vec![Cell::new("longer"), Cell::new("y")],
        ];
        let text = layout(&["name", "why"], &[], rows, None, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "NAME    WHY");
        assert_eq!(lines[2], "longer  y");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_whole_words() {
        let headers = ["id", "state", "group", "tries", "why"];
        let row = |why: &str| {
            ["0kd5d0yd7w2xehsnk4xbvmkgqr", "dispatched", "default", "1", why].map(Cell::new).into()
        };
        let why = "it was dispatched to the worker w1 and runs there since some seconds ago";
        for (width, shown) in [(70_u16, 3), (80, 4), (200, 5)] {
            let text = layout(&headers, &["tries", "group"], vec![row(why)], Some(width), false);
            let heads = text.lines().next().unwrap_or_default().split_whitespace().count();
            assert_eq!(heads, shown, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
            for word in
                ["0kd5d0yd7w2xehsnk4xbvmkgqr", "dispatched"].into_iter().chain(why.split(' '))
            {
                assert!(text.contains(word), "{word} is broken: {text}");
            }
        }
        let text = layout(&headers, &["tries", "group"], vec![row(why)], Some(20), false);
        assert_eq!(text.lines().count(), 2, "the terminal breaks what is wider: {text}");
    }

    #[test]
    fn a_cell_is_harmless() {
        let text = layout(&["name"], &[], vec![vec![Cell::new("\u{1b}[2Jx\ny")]], None, false);
        assert_eq!(text, "NAME\n\\x1b[2Jx\\ny");
    }

    #[test]
    fn a_stamp_ahead_of_this_clock_is_now() {
        assert_eq!(ago(WallMillis(u64::MAX)), "now");
    }
}
