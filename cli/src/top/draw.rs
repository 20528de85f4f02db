//! Draws the model: a summary, the tabs, what is open, and what the keys do. Never changes what is known, and never
//! writes to the terminal itself.

mod canvas;
mod pane;
mod table;

use super::{
    event_log::EventLog,
    model::{Model, Pane, Prompt},
    now::Now,
    rows::{Tab, Table},
};
use crate::{output, quantity, terminal};
use canvas::Canvas;
use muster_protocol::time::WallMillis;
use ratatui::{
    Frame,
    style::{Color, Modifier, Style},
};

/// The least size of a terminal, in columns and rows: one worker or task and its state fit.
pub const WIDTH_MIN: u16 = 60;
pub const HEIGHT_MIN: u16 = 12;

/// Rows above and below what is open.
const ROWS_ABOVE: u16 = 3;
const ROWS_BELOW: u16 = 2;

/// What depends on the terminal and the machine.
#[derive(Clone, Copy)]
pub struct Theme {
    /// Whether there may be colours.
    pub is_coloured: bool,
    /// A stamp as local time.
    pub local: fn(WallMillis) -> String,
}

impl Theme {
    /// A style without its colours, where there may be none.
    fn allowed(self, style: Style) -> Style {
        match self.is_coloured {
            true => style,
            false => Style { fg: None, bg: None, ..style },
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const ALARM: Style = BAD.add_modifier(Modifier::REVERSED);

/// Draws a frame.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, theme: Theme, now: Now) {
    let area = frame.area();
    let mut canvas = Canvas { buffer: frame.buffer_mut(), area, theme };
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        return too_small(&mut canvas);
    }
    let table = model.table(now);
    summary(&mut canvas, model, now);
    second_line(&mut canvas, model, now);
    let last = area.height - 1;
    message(&mut canvas, last - 1, model, now);
    keys(&mut canvas, last, model);
    let height = area.height - ROWS_ABOVE - ROWS_BELOW;
    let shown = match model.pane {
        Pane::Table => table::draw(&mut canvas, ROWS_ABOVE, height, &table, model),
        Pane::Task(_) | Pane::Worker(_) | Pane::Help => {
            pane::draw(&mut canvas, ROWS_ABOVE, height, model, now)
        }
    };
    tabs(&mut canvas, 2, model, &table, &shown);
}

fn too_small(canvas: &mut Canvas<'_>) {
    let (width, height) = (canvas.area.width, canvas.area.height);
    canvas.line(0, &[("terminal too small", BOLD)]);
    let text = format!("it has {width}x{height}, and");
    canvas.line(1, &[(&text, Style::new())]);
    let text = format!("{WIDTH_MIN}x{HEIGHT_MIN} are needed");
    canvas.line(2, &[(&text, Style::new())]);
}

/// The whole fleet in a line.
fn summary(canvas: &mut Canvas<'_>, model: &Model, now: Now) {
    let facts = &model.facts;
    let groups = facts.groups();
    let sum =
        |count: fn(&super::facts::GroupFacts<'_>) -> u64| groups.values().map(count).sum::<u64>();
    let values = [
        ("fleet", terminal::escaped(&facts.fleet)),
        (
            "workers",
            format!("{}/{}", sum(|group| group.ready as u64), sum(|group| group.held as u64)),
        ),
        ("runs", format!("{}/{}", sum(|group| group.runs as u64), sum(|group| group.slots))),
        ("queued", facts.queued().map_or("?".into(), |queued| queued.to_string())),
        ("ended", format!("{:.1}/s", facts.log.ended.per_second(now))),
    ];
    let mut pieces = Vec::new();
    for (name, value) in &values {
        pieces.extend([(" ", DIM), (name, DIM), (" ", DIM), (value.as_str(), BOLD), (" ", DIM)]);
    }
    canvas.line(0, &pieces);
}

/// That nobody answers; otherwise the failovers.
fn second_line(canvas: &mut Canvas<'_>, model: &Model, now: Now) {
    if let Some((age, why)) = model.facts.stale(now) {
        let why = terminal::escaped(why);
        let text = format!(" stale since {} s: {why}; trying again ", age.as_secs());
        return canvas.line(1, &[(&text, ALARM)]);
    }
    let EventLog { failover_count, again_count, since, .. } = &model.facts.log;
    let since = since.map(|since| format!(" since {}", (canvas.theme.local)(since)));
    let count = format!("{failover_count}{}", since.unwrap_or_default());
    let style = if *failover_count > 0 { BAD } else { Style::new() };
    let latest = model.facts.log.latest_failover().map(|latest| {
        let age = latest.at.and_then(|at| output::age(now.wall, at));
        let age = age.map_or("now".into(), |age| format!("{} ago", quantity::show_duration(age)));
        terminal::escaped(&format!(
            ", {again_count} dispatched again; latest {age}: {}: {}",
            latest.worker, latest.reason
        ))
    });
    canvas.line(
        1,
        &[(" failovers ", DIM), (&count, style), (&latest.unwrap_or_default(), Style::new())],
    );
}

/// The tabs, and at the right what is shown of the open one.
fn tabs(canvas: &mut Canvas<'_>, y: u16, model: &Model, table: &Table, shown: &str) {
    let width = canvas.area.width;
    let bar = Style::new().add_modifier(Modifier::UNDERLINED);
    canvas.fill(y, bar);
    let mut x = 0;
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let is_open = tab == model.tab;
        let title = format!(" {} {} ", number + 1, tab.title());
        let style = if is_open { bar.patch(BOLD).add_modifier(Modifier::REVERSED) } else { bar };
        x = canvas.text(x, y, width - x, &title, style);
    }
    let filter = match (&model.pane, model.filter.as_str()) {
        (Pane::Table, filter) if !filter.is_empty() => format!("/{} ", terminal::escaped(filter)),
        _ => String::new(),
    };
    let order = match model.pane {
        Pane::Table if table.rows.len() > 1 => format!("by {} ", model.order()),
        _ => String::new(),
    };
    canvas.right(y, x, &format!("{filter}{order}{shown} "), bar);
}

/// A question, or what came of the last order.
fn message(canvas: &mut Canvas<'_>, y: u16, model: &Model, now: Now) {
    match &model.prompt {
        Prompt::Confirm(order) => {
            let question = terminal::escaped(&order.question());
            canvas.line(y, &[(" y/n ", ALARM), (" ", BOLD), (&question, BOLD)]);
        }
        Prompt::Filter => {
            let filter = terminal::escaped(&model.filter);
            canvas.line(y, &[(" show rows with: ", DIM), (&filter, BOLD), ("_", BOLD)]);
        }
        Prompt::None => {
            if let Some(notice) = model.notice(now) {
                let text = terminal::escaped(&notice.text);
                let style = if notice.is_failure { BAD } else { BOLD };
                canvas.line(y, &[(" ", style), (&text, style)]);
            }
        }
    }
}

/// What the keys do here.
fn keys(canvas: &mut Canvas<'_>, y: u16, model: &Model) {
    let hints = match (&model.prompt, &model.pane, model.tab) {
        (Prompt::Confirm(_), ..) => "y send it  n do not",
        (Prompt::Filter, ..) => "Enter keep it  Esc remove it",
        (_, Pane::Help, _) => "Esc back  q leave",
        (_, Pane::Worker(_), _) => "Esc back  d drain  c cordon  u uncordon  q leave",
        (_, Pane::Task(open), _) if open.log.is_some() => {
            "Esc back  Up Down scroll  l timeline  x cancel  q leave"
        }
        (_, Pane::Task(_), _) => "Esc back  Up Down scroll  l logs  x cancel  q leave",
        (_, Pane::Table, Tab::Workers) => {
            "q leave  ? help  / filter  s sort  Enter open  d drain  c cordon  u uncordon"
        }
        (_, Pane::Table, Tab::Tasks) => {
            "q leave  ? help  / filter  s sort  Enter timeline  l logs  x cancel"
        }
        (_, Pane::Table, Tab::Groups) => "q leave  ? help  / filter  s sort  Enter its tasks",
        (_, Pane::Table, Tab::Events) => "q leave  ? help  / filter",
    };
    canvas.line(y, &[(" ", DIM), (hints, DIM)]);
}

#[cfg(test)]
mod tests;
