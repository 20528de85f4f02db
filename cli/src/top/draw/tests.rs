//! What is on the screen, at the sizes that people use.

use super::{
    super::{keys, sample},
    *,
};
use crossterm::event::KeyCode;
use ratatui::{Terminal, backend::TestBackend};
use std::time::Duration;

fn theme(is_coloured: bool) -> Theme {
    Theme {
        is_coloured,
        local: |stamp| format!("day 1 + {}.{:03}", stamp.0 / 1_000 % 86_400, stamp.0 % 1_000),
    }
}

fn terminal(width: u16, height: u16) -> Terminal<TestBackend> {
    Terminal::new(TestBackend::new(width, height)).expect("memory")
}

/// The rows of the screen, without the spaces at their ends.
fn shown(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = terminal(width, height);
    terminal.draw(|frame| draw(frame, model, theme(true), sample::now())).expect("memory");
    let buffer = terminal.backend().buffer();
    let row = |y| {
        let cells = (0..width).map(|x| buffer.cell((x, y)).map_or(" ", |cell| cell.symbol()));
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(row).collect()
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        keys::press(model, code.into(), sample::now());
    }
}

fn check(keys: &str, (width, height): (u16, u16), expected: &[&str]) {
    let mut model = sample::model();
    press(&mut model, keys);
    let shown = shown(&mut model, width, height);
    let is_blank = |row: &&String| row.is_empty();
    let blank = shown.iter().filter(is_blank).count();
    let rows: Vec<&String> = shown.iter().filter(|row| !row.is_empty()).collect();
    assert_eq!(rows, expected, "{keys:?}, {blank} blank rows of:\n{}", shown.join("\n"));
}

#[test]
fn workers_on_a_small_terminal() {
    check("", (80, 24), &[]);
}

#[test]
fn workers_on_a_large_terminal() {
    check("", (200, 50), &[]);
}

#[test]
fn tasks_on_a_small_terminal() {
    check("2", (80, 24), &[]);
}

#[test]
fn tasks_on_a_large_terminal() {
    check("2s", (200, 50), &[]);
}

#[test]
fn groups_and_events_on_a_small_terminal() {
    check("3", (80, 24), &[]);
    check("4", (80, 24), &[]);
}

#[test]
fn a_timeline_and_a_question_on_a_small_terminal() {
    check("2\nx", (80, 24), &[]);
}

#[test]
fn the_help_has_room_on_a_small_terminal() {
    check("?", (80, 24), &[]);
}

#[test]
fn every_size_is_drawn() {
    for keys in ["", "2", "3", "4", "?", "\n", "2\n", "2l", "2\nx", "/ab"] {
        let mut model = sample::model();
        press(&mut model, keys);
        for (width, height) in [(1, 1), (5, 3), (59, 24), (60, 11), (60, 12), (61, 13), (300, 100)]
        {
            let rows = shown(&mut model, width, height);
            let is_small = width < WIDTH_MIN || height < HEIGHT_MIN;
            let says_so = rows.join("").starts_with("terminal too small");
            assert_eq!(says_so, is_small && width >= 18, "{keys:?} {width}x{height}: {rows:#?}");
        }
    }
}

#[test]
fn what_is_stale_is_said() {
    let mut model = sample::model();
    let mut later = sample::now();
    later.uptime += Duration::from_secs(12);
    let second = |model: &mut Model| {
        let mut terminal = terminal(80, 24);
        terminal.draw(|frame| draw(frame, model, theme(true), later)).expect("memory");
        let buffer = terminal.backend().buffer();
        (0..80).filter_map(|x| buffer.cell((x, 1))).map(|cell| cell.symbol()).collect::<String>()
    };
    assert!(second(&mut model).starts_with(" stale since 12 s: no master answers; trying again "));
    model.facts.silent("no master answers: NATS\u{1b}[2J".into());
    assert!(second(&mut model).contains("NATS\\x1b[2J; trying again"));
    model.facts.read(Default::default(), later);
    assert!(!second(&mut model).contains("stale"));
}

#[test]
fn there_are_no_colours_where_there_may_be_none() {
    let mut model = sample::model();
    for (is_coloured, some) in [(true, true), (false, false)] {
        let mut terminal = terminal(80, 24);
        let now = sample::now();
        terminal.draw(|frame| draw(frame, &mut model, theme(is_coloured), now)).expect("memory");
        let cells = &terminal.backend().buffer().content;
        let has = cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(has, some);
    }
}
