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

/// The rows of the screen that are not empty: the summary, the failovers, the tabs, `expected`, and the last one.
fn check(keys: &str, (width, height): (u16, u16), tab_right: &str, expected: &[&str]) {
    let mut model = sample::model();
    press(&mut model, keys);
    let shown = shown(&mut model, width, height);
    let rows: Vec<&str> = shown.iter().map(String::as_str).filter(|row| !row.is_empty()).collect();
    let room = usize::from(width) - 41;
    let tabs = format!(" 1 Workers  2 Tasks  3 Groups  4 Events {tab_right:>room$}");
    let mut wanted = vec![
        " fleet default  workers 2/3  runs 4/12  queued 250  ended 1.0/s",
        " failovers 1, 0 dispatched again; latest 12s ago: w4: its lease lapsed",
        tabs.trim_end(),
    ];
    wanted.extend(expected);
    assert_eq!(rows, wanted, "{keys:?}:\n{}", shown.join("\n"));
}

const WORKERS: [&str; 5] = [
    " NAME  STATE     GROUP  SLOTS  LOAD  LEASE  LINK  VERSION  LABELS",
    r" w1    live      shops  4/4    100%  1s     quic  0.2.0    region=e\x1b[2Ju",
    r" w2    draining  shops  0/4    0%    1s     no    0.2.0    region=e\x1b[2Ju",
    r" w3    live      edge   0/4    0%    1s     quic  0.2.0    region=e\x1b[2Ju",
    " q leave  ? help  / filter  s sort  Enter open  d drain  c cordon  u uncordon",
];

#[test]
fn workers() {
    for size in [(80, 24), (200, 50)] {
        check("", size, "by name 1-3 of 3", &WORKERS);
    }
}

#[test]
fn tasks_on_a_small_terminal() {
    check(
        "2",
        (80, 24),
        "by newest 1-4 of 4+",
        &[
            " ID                          STATE       AGE  WORKER  GROUP  WHY",
            " 00000000000000000000000004  dispatched  60s  w1      shops  given to worker w1",
            " 00000000000000000000000003  queued      60s  -       shops  all slots of the 1…",
            " 00000000000000000000000002  queued      60s  -       shops  all slots of the 1…",
            " 00000000000000000000000001  queued      60s  -       shops  all slots of the 1…",
            " q leave  ? help  / filter  s sort  Enter timeline  l logs  x cancel",
        ],
    );
}

#[test]
fn tasks_on_a_large_terminal() {
    let head = " ID                          STATE       AGE  WORKER  GROUP  MODULE    TRIES  WHY";
    let waits = "queued      60s  -       shops  primes:1  0      all slots of the 1 workers of group shops that fit are taken";
    let waits = |id: u8| format!(" {id:026}  {waits}");
    check(
        "2s",
        (200, 50),
        "by oldest 1-4 of 4+",
        &[
            head,
            &waits(1),
            &waits(2),
            &waits(3),
            " 00000000000000000000000004  dispatched  60s  w1      shops  primes:1  1      given to worker w1",
            " q leave  ? help  / filter  s sort  Enter timeline  l logs  x cancel",
        ],
    );
}

#[test]
fn groups_on_a_small_terminal() {
    check(
        "3",
        (80, 24),
        "by name 1-3 of 3",
        &[
            " NAME   WORKERS  RUNS  ENDED/S  QUEUED  OLDEST  IT WAITS BECAUSE",
            " edge   1/1      0/4   0.0",
            " shops  1/2      4/8   1.0      250     90s     all slots of the 1 workers of g…",
            " yard   0/0      0/0   0.0      0",
            " q leave  ? help  / filter  s sort  Enter its tasks",
        ],
    );
}

#[test]
fn what_is_open_is_on_the_screen() {
    for (keys, words) in [
        ("2\n", &["00000000000000000000000004", "dispatched", "attempt 1 to w1", "l logs"][..]),
        ("2\nx", &["y/n", "cancel 00000000000000000000000004?", "y send it"]),
        ("\n", &["state     live", "region=e\\x1b[2Ju", "u uncordon"]),
        ("4", &["task.completed", "t1 on w1", "worker.lost", "w4: its lease lapsed"]),
        ("?", &["follow the logs of the task", "masters list only the newest"]),
        ("/edge", &["show rows with: edge_"]),
    ] {
        let mut model = sample::model();
        press(&mut model, keys);
        let shown = shown(&mut model, 80, 24).join("\n");
        for word in words {
            assert!(shown.contains(word), "{keys:?} does not show {word:?}:\n{shown}");
        }
    }
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
