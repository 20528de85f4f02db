//! How answers are shown: a table for people or the API's JSON for programs. Never writes to
//! standard error, and never panics when the reader has gone away.

use crate::quantity;
use anstream::ColorChoice;
use anstyle::AnsiColor;
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use muster_protocol::time::WallMillis;
use serde::Serialize;
use std::{
    io::{self, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What standard output is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Whether standard output may be coloured: a terminal, and no `NO_COLOR`.
pub fn is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Prints a value as indented JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// Prints a value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// Prints a line, without its colours where they do not belong.
pub fn line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(anstream::stdout(), "{text}")?)
}

/// Prints bytes as they are.
pub fn raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints rows under their headers, as wide as the terminal at most; in a pipe, each row is one
/// line however long it is.
pub fn table(headers: &[&str], rows: Vec<Vec<Cell>>) -> anyhow::Result<()> {
    line(&layout(headers, rows, is_coloured()))
}

fn layout(headers: &[&str], rows: Vec<Vec<Cell>>, coloured: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    match table.width() {
        Some(width) => {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    if coloured {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let head = |name: &&str| Cell::new(name.to_uppercase()).add_attribute(Attribute::Bold);
    table.set_header(headers.iter().map(head).collect::<Vec<_>>());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // What a row is about and how it is stay whole: ids are there to be copied.
    for at in 0..2 {
        if let Some(column) = table.column_mut(at) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Prints names and values, a line each; empty values are left out.
pub fn fields(rows: &[(&str, String)]) -> anyhow::Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let bold = anstyle::Style::new().bold();
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let mut lines = value.trim_end().lines();
        line(&format!("{bold}{name:width$}{bold:#}{}", lines.next().unwrap_or_default()))?;
        for more in lines {
            line(&format!("{:width$}{more}", ""))?;
        }
    }
    Ok(())
}

/// A cell with a task's state, a worker's standing or a check's result, by how good it is.
pub fn state_cell(word: &str) -> Cell {
    let colour = match word {
        "completed" | "live" | "ok" => Color::Green,
        "queued" | "released" => Color::Reset,
        "dispatched" => Color::Cyan,
        "draining" | "cordoned" | "cancelled" | "warn" => Color::Yellow,
        _ => Color::Red,
    };
    Cell::new(word).fg(colour)
}

/// The colour of a line about `word`, for lines that are no table.
pub fn state_style(word: &str) -> anstyle::Style {
    match word {
        "ok" | "completed" | "joined" | "started" => AnsiColor::Green.on_default(),
        "warn" | "retried" | "draining" | "cordoned" | "cancelled" | "left" | "stopped" => {
            AnsiColor::Yellow.on_default()
        }
        "fail" | "failed" | "lost" | "fenced" | "degraded" | "rewound" | "held"
        | "redispatched" | "quarantined" | "refused" | "empty" => AnsiColor::Red.on_default(),
        _ => anstyle::Style::new(),
    }
}

/// How long ago that was, on this machine's wall clock: `12s ago`.
pub fn ago(stamp: WallMillis) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match now.checked_sub(Duration::from_millis(stamp.0)) {
        Some(passed) => format!("{} ago", quantity::show_duration(passed)),
        // Another machine's clock may be ahead.
        None => "now".into(),
    }
}

/// That moment in local time: `2025-03-09 17:02:11`.
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

    #[test]
    fn a_piped_table_is_plain_text_with_one_line_a_row() {
        let rows = vec![
            vec![Cell::new("a").fg(Color::Red), Cell::new("x".repeat(300))],
            vec![Cell::new("longer"), Cell::new("y")],
        ];
        let text = layout(&["name", "why"], rows, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "NAME    WHY");
        assert_eq!(lines[2], "longer  y");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_stamp_ahead_of_this_clock_is_now() {
        assert_eq!(ago(WallMillis(u64::MAX)), "now");
    }
}
