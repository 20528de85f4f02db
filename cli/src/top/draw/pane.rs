//! Draws what is open: a task with its timeline or its log, a worker, the help. Never asks for any of it.

use super::{BAD, BOLD, Canvas, DIM, Model, Now, Pane, table::state_style};
use crate::{
    terminal,
    top::{
        keys,
        model::OpenTask,
        rows,
        timeline::{self, Step},
    },
    worker,
};
use ratatui::style::Style;

/// Columns that a name takes before its value.
const NAME_WIDTH: u16 = 10;

/// A row: where each text begins, and the text.
type Line = Vec<(u16, String, Style)>;

/// Draws what is open from row `y` on. Returns which of its rows are shown, as a text.
pub fn draw(canvas: &mut Canvas<'_>, y: u16, height: u16, model: &mut Model, now: Now) -> String {
    let width = canvas.area.width;
    let (head, lines, is_log) = match &model.pane {
        Pane::Table => return String::new(),
        Pane::Help => (Vec::new(), help(), false),
        Pane::Worker(name) => {
            let lines = match model.facts.worker(name) {
                Some(view) => fields(worker::fields(view), width),
                None => vec![vec![(1, format!("{name} has no lease any more"), BAD)]],
            };
            (Vec::new(), lines, false)
        }
        Pane::Task(open) => match &open.log {
            Some(log) => {
                let line = |line: &String| vec![(1, terminal::escaped(line), Style::new())];
                (task(open, width, 1), log.lines.iter().map(line).collect(), true)
            }
            None => (task(open, width, usize::MAX), steps(canvas, open, now), false),
        },
    };
    let mut row = y;
    let end = y + height;
    for line in head.iter().take(usize::from(height) / 2) {
        put(canvas, row, line);
        row += 1;
    }
    let fits = usize::from(end - row);
    let last_top = lines.len().saturating_sub(fits);
    model.scroll = model.scroll.min(last_top);
    model.fits = fits.max(1);
    // A log is followed: it is scrolled from its end.
    let top = if is_log { last_top - model.scroll } else { model.scroll };
    for line in lines.iter().skip(top).take(fits) {
        put(canvas, row, line);
        row += 1;
    }
    if last_top == 0 {
        return String::new();
    }
    format!("{}-{} of {}", top + 1, (top + fits).min(lines.len()), lines.len())
}

fn put(canvas: &mut Canvas<'_>, y: u16, line: &Line) {
    for (x, text, style) in line {
        canvas.text(*x, y, canvas.area.width.saturating_sub(*x), text, *style);
    }
}

/// Names and values; a long value takes several rows.
fn fields(fields: Vec<(&'static str, String)>, width: u16) -> Vec<Line> {
    let room = usize::from(width.saturating_sub(NAME_WIDTH + 2)).max(1);
    let mut lines = Vec::new();
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        let style = if name == "state" { state_style(&value) } else { Style::new() };
        let mut name = Some(name);
        for part in value.lines() {
            let part: Vec<char> = terminal::escaped(part).chars().collect();
            for piece in part.chunks(room) {
                let mut line = vec![(NAME_WIDTH + 1, piece.iter().collect(), style)];
                line.extend(name.take().map(|name| (1, name.to_owned(), DIM)));
                lines.push(line);
            }
        }
    }
    lines
}

/// The state of a task: at most so many rows, and an empty one.
fn task(open: &OpenTask, width: u16, rows: usize) -> Vec<Line> {
    let mut lines = fields(timeline::header(&open.view), width);
    lines.truncate(rows);
    lines.push(Vec::new());
    lines
}

fn steps(canvas: &Canvas<'_>, open: &OpenTask, now: Now) -> Vec<Line> {
    let steps = timeline::steps(&open.view, open.progress, now);
    let local = canvas.theme.local;
    let line = |Step { at, after, what, more }: Step| {
        let at = at.map_or("now".into(), local);
        let style = match what {
            "lost" => BAD,
            _ => BOLD,
        };
        vec![
            (1, at, Style::new()),
            (22, format!("+{after}"), DIM),
            (33, what.into(), style),
            (45, more, Style::new()),
        ]
    };
    steps.into_iter().map(line).collect()
}

fn help() -> Vec<Line> {
    let keys = keys::HELP.iter().map(|(key, does)| {
        vec![(1, (*key).to_owned(), BOLD), (20, (*does).to_owned(), Style::new())]
    });
    let legend = rows::legend().into_iter().map(|line| vec![(1, line, Style::new())]);
    keys.chain([Vec::new()]).chain(legend).collect()
}
