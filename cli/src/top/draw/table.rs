//! Draws a table: as many columns and rows as fit. Never decides which rows there are.

use super::{BAD, BOLD, Canvas, Model, Table, Theme};
use crate::{
    output, terminal,
    top::rows::{Cell, Column, Look},
};
use anstyle::AnsiColor;
use ratatui::style::{Color, Modifier, Style};

/// Columns between two columns of the table.
const GAP: u16 = 2;

/// The least width of the last column, if that is a text of several words.
const LAST_MIN: u16 = 14;

/// Draws the table from row `y` on. Returns which of the rows are shown, as a text.
pub fn draw(
    canvas: &mut Canvas<'_>,
    y: u16,
    height: u16,
    table: &Table,
    model: &mut Model,
) -> String {
    let fits = usize::from(height.saturating_sub(1));
    let (top, at) = model.settle(&table.rows, fits);
    if let Some(refusal) = &table.refusal {
        let refusal = terminal::escaped(refusal);
        canvas.line(y, &[(" ", BAD), (&refusal, BAD)]);
        canvas.line(y + 1, &[(" to see one group: muster top --group NAME", Style::new())]);
        return String::new();
    }
    let widths = widths(canvas, table);
    let mut x = 1;
    for (column, width) in table.columns.iter().zip(&widths) {
        if let Some(width) = *width {
            canvas.text(x, y, width, &column.head.to_uppercase(), BOLD);
            x += width + GAP;
        }
    }
    if table.rows.is_empty() {
        canvas.line(y + 1, &[(" ", Style::new()), (nothing(model), Style::new())]);
        return String::new();
    }
    let shown = table.rows.iter().enumerate().skip(top).take(fits);
    for (row_y, (number, row)) in (y + 1..).zip(shown) {
        let mut x = 1;
        for (cell, width) in row.cells.iter().zip(&widths) {
            if let Some(width) = *width {
                canvas.text(x, row_y, width, &cell.text, style_of(canvas.theme, cell));
                x += width + GAP;
            }
        }
        if number == at {
            canvas.fill(row_y, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    let (count, more) = (table.rows.len(), if table.is_cut { "+" } else { "" });
    format!("{}-{} of {count}{more}", top + 1, (top + fits).min(count))
}

/// Why there are no rows.
fn nothing(model: &Model) -> &'static str {
    match (model.facts.is_known(), model.filter.is_empty()) {
        (false, _) => "the masters have not answered yet",
        (true, false) => "no row has the text of the filter; Esc removes it",
        (true, true) => "there is nothing to show",
    }
}

/// The width of each column; `None` for those that are left out.
fn widths(canvas: &Canvas<'_>, table: &Table) -> Vec<Option<u16>> {
    let natural = |(at, column): (usize, &Column)| {
        let cells = table.rows.iter().filter_map(|row| row.cells.get(at));
        let widest = cells.map(|cell| canvas.width_of(&cell.text)).max().unwrap_or(0);
        Some(widest.max(canvas.width_of(column.head)))
    };
    let mut widths: Vec<Option<u16>> = table.columns.iter().enumerate().map(natural).collect();
    let room = canvas.area.width - 1;
    let mut left_out = table.columns.iter().map(|column| column.less).max().unwrap_or(0);
    while left_out > 0 && least(&widths) > room {
        for (column, width) in table.columns.iter().zip(&mut widths) {
            if column.less == left_out {
                *width = None;
            }
        }
        left_out -= 1;
    }
    // The last column takes what the others leave, and the widest of these gives way if they leave too little.
    while least(&widths) > room {
        let others = widths.len() - 1;
        let Some(widest) = widths[..others].iter_mut().flatten().max() else { break };
        *widest -= 1;
    }
    let before: u16 = widths[..widths.len() - 1].iter().flatten().map(|width| width + GAP).sum();
    if let Some(Some(last)) = widths.last_mut() {
        *last = (*last).min(room - before);
    }
    widths
}

/// The least width that these columns need: all of each but the last, and enough of that.
fn least(widths: &[Option<u16>]) -> u16 {
    let (last, others) = widths.split_last().unwrap_or((&None, &[]));
    let others: u16 = others.iter().flatten().map(|width| width + GAP).sum();
    others + last.map_or(0, |last| last.min(LAST_MIN))
}

fn style_of(theme: Theme, cell: &Cell) -> Style {
    let style = match cell.look {
        Look::Plain => Style::new(),
        Look::State => state_style(&cell.text),
        Look::Event(style) => {
            let colour = match style.get_fg_color() {
                Some(anstyle::Color::Ansi(AnsiColor::Green)) => Color::Green,
                Some(anstyle::Color::Ansi(AnsiColor::Yellow)) => Color::Yellow,
                Some(anstyle::Color::Ansi(AnsiColor::Red)) => Color::Red,
                _ => Color::Reset,
            };
            Style::new().fg(colour)
        }
    };
    theme.allowed(style)
}

/// The style of the state of a task or lease.
pub fn state_style(word: &str) -> Style {
    let colour = match output::colour_of(word) {
        Some(AnsiColor::Green) => Color::Green,
        Some(AnsiColor::Cyan) => Color::Cyan,
        Some(AnsiColor::Yellow) => Color::Yellow,
        Some(AnsiColor::White) => Color::Reset,
        _ => Color::Red,
    };
    Style::new().fg(colour)
}
