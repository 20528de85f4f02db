//! What each key does to the model, and what it asks of the shell. Never waits, and never sends anything.

use super::{
    model::{LogText, Model, OpenTask, Pane, Prompt},
    now::Now,
    order::Order,
    rows::{Key, Tab},
};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use muster_protocol::{TaskId, WorkerId};

/// Characters of a filter.
const FILTER_MAX: usize = 64;

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Leave.
    Leave,
    /// Send this order, which the user has confirmed.
    Send(Order),
}

/// The keys, for the help: what to press, and what it does.
pub const HELP: [(&str, &str); 12] = [
    ("Tab 1 2 3 4", "Workers, Tasks, Groups, Events"),
    ("Up Down PgUp PgDn", "select a row; Home and End: the first, the last"),
    ("Enter", "open a worker or a task; on a group: its tasks"),
    ("Esc", "back; then: remove the filter"),
    ("/", "show only rows that contain a text"),
    ("s", "sort by another column"),
    ("d", "drain the worker"),
    ("c u", "cordon, uncordon the worker"),
    ("x", "cancel the task"),
    ("l", "follow the logs of the task; again: its timeline"),
    ("?", "this page"),
    ("q Ctrl-C", "leave"),
];

/// Takes a key.
pub fn press(model: &mut Model, key: KeyEvent, now: Now) -> Option<Step> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Step::Leave);
    }
    match model.prompt.clone() {
        Prompt::Filter => {
            filter(model, key.code);
            None
        }
        Prompt::Confirm(order) => answer(model, key.code, order, now),
        Prompt::None => command(model, key.code, now),
    }
}

fn filter(model: &mut Model, key: KeyCode) {
    match key {
        KeyCode::Enter => model.prompt = Prompt::None,
        KeyCode::Esc => {
            model.filter.clear();
            model.prompt = Prompt::None;
        }
        KeyCode::Backspace => _ = model.filter.pop(),
        KeyCode::Char(char) if !char.is_control() && model.filter.chars().count() < FILTER_MAX => {
            model.filter.push(char);
        }
        _ => {}
    }
}

/// Only `y` means yes. Keys that move do not answer.
fn answer(model: &mut Model, key: KeyCode, order: Order, now: Now) -> Option<Step> {
    match key {
        KeyCode::Char('y') => {
            model.prompt = Prompt::None;
            model.tell(format!("{}: sent, waiting for the answer", order.name()), false, now);
            Some(Step::Send(order))
        }
        KeyCode::Char('n') | KeyCode::Esc => {
            model.prompt = Prompt::None;
            model.tell(format!("{}: not sent", order.name()), false, now);
            None
        }
        _ => None,
    }
}

fn command(model: &mut Model, key: KeyCode, now: Now) -> Option<Step> {
    match key {
        KeyCode::Char('q') => return Some(Step::Leave),
        KeyCode::Char('?') => open(model, Pane::Help),
        KeyCode::Char('/') => {
            model.pane = Pane::Table;
            model.prompt = Prompt::Filter;
        }
        KeyCode::Char('s') => model.next_order(),
        KeyCode::Tab | KeyCode::Right => turn(model, 1),
        KeyCode::BackTab | KeyCode::Left => turn(model, Tab::ALL.len() - 1),
        KeyCode::Char(digit @ '1'..='4') => show(model, Tab::ALL[digit as usize - '1' as usize]),
        KeyCode::Up | KeyCode::Char('k') => go(model, -1, now),
        KeyCode::Down | KeyCode::Char('j') => go(model, 1, now),
        KeyCode::PageUp => go(model, -(model.fits as isize), now),
        KeyCode::PageDown | KeyCode::Char(' ') => go(model, model.fits as isize, now),
        KeyCode::Home => go(model, isize::MIN, now),
        KeyCode::End => go(model, isize::MAX, now),
        KeyCode::Enter => enter(model, now),
        KeyCode::Esc => match model.pane {
            Pane::Table => model.filter.clear(),
            Pane::Task(_) | Pane::Worker(_) | Pane::Help => model.pane = Pane::Table,
        },
        KeyCode::Char('d') => ask_worker(model, Order::Drain, now),
        KeyCode::Char('c') => ask_worker(model, Order::Cordon, now),
        KeyCode::Char('u') => ask_worker(model, Order::Uncordon, now),
        KeyCode::Char('x') => match task(model, now) {
            Some(task) => model.prompt = Prompt::Confirm(Order::Cancel(task)),
            None => model.tell("select a task first: key 2", true, now),
        },
        KeyCode::Char('l') => logs(model, now),
        _ => {}
    }
    None
}

fn turn(model: &mut Model, by: usize) {
    show(model, Tab::ALL[(model.tab as usize + by) % Tab::ALL.len()]);
}

fn show(model: &mut Model, tab: Tab) {
    (model.tab, model.pane) = (tab, Pane::Table);
}

fn open(model: &mut Model, pane: Pane) {
    (model.pane, model.scroll) = (pane, 0);
}

fn go(model: &mut Model, by: isize, now: Now) {
    match &model.pane {
        Pane::Table => model.step(by, now),
        // A log is scrolled from its end.
        Pane::Task(open) if open.log.is_some() => {
            model.scroll = model.scroll.saturating_add_signed(by.saturating_neg());
        }
        Pane::Task(_) | Pane::Worker(_) | Pane::Help => {
            model.scroll = model.scroll.saturating_add_signed(by);
        }
    }
}

fn enter(model: &mut Model, now: Now) {
    let Pane::Table = model.pane else { return };
    match model.selected(now) {
        Some(Key::Worker(name)) => open(model, Pane::Worker(name)),
        Some(Key::Task(id)) => open_task(model, id),
        Some(Key::Group(name)) => {
            model.filter = name;
            show(model, Tab::Tasks);
        }
        Some(Key::Event(..)) | None => {}
    }
}

fn open_task(model: &mut Model, id: TaskId) {
    let view = model.facts.open_tasks().find(|view| view.record.id == id).cloned();
    if let Some(view) = view {
        open(model, Pane::Task(Box::new(OpenTask { view, progress: None, log: None })));
    }
}

/// The task that is open or selected.
fn task(model: &mut Model, now: Now) -> Option<TaskId> {
    if let Some(id) = model.opened() {
        return Some(id);
    }
    match (&model.pane, model.tab) {
        (Pane::Table, Tab::Tasks) => match model.selected(now) {
            Some(Key::Task(id)) => Some(id),
            _ => None,
        },
        _ => None,
    }
}

/// The worker that is open or selected.
fn worker(model: &mut Model, now: Now) -> Option<WorkerId> {
    match (&model.pane, model.tab) {
        (Pane::Worker(name), _) => Some(name.clone()),
        (Pane::Table, Tab::Workers) => match model.selected(now) {
            Some(Key::Worker(name)) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

fn ask_worker(model: &mut Model, order: impl Fn(WorkerId) -> Order, now: Now) {
    match worker(model, now) {
        Some(name) => model.prompt = Prompt::Confirm(order(name)),
        None => model.tell("select a worker first: key 1", true, now),
    }
}

fn logs(model: &mut Model, now: Now) {
    let Some(id) = task(model, now) else {
        return model.tell("select a task first: key 2", true, now);
    };
    if model.opened().is_none() {
        open_task(model, id);
    }
    if let Pane::Task(open) = &mut model.pane {
        open.log = if open.log.is_none() { Some(LogText::default()) } else { None };
        model.scroll = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn type_in(model: &mut Model, keys: &str) -> Vec<Step> {
        let press = |key: char| {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '\t' => KeyCode::Tab,
                '\u{8}' => KeyCode::Backspace,
                key => KeyCode::Char(key),
            };
            press(model, code.into(), sample::now())
        };
        keys.chars().filter_map(press).collect()
    }

    #[test]
    fn nothing_is_sent_without_a_yes() {
        let mut model = sample::model();
        for keys in ["dn", "d\u{1b}", "cn", "un", "2xn", "d q"] {
            model.prompt = Prompt::None;
            model.tab = Tab::Workers;
            let sent = type_in(&mut model, keys);
            assert_eq!(sent, [], "{keys:?}");
        }
        assert_eq!(model.prompt, Prompt::Confirm(Order::Drain("w1".parse().expect("a name"))));
        let name = || "w1".parse().expect("a name");
        for (keys, order) in [
            ("y", Order::Drain(name())),
            ("cy", Order::Cordon(name())),
            ("uy", Order::Uncordon(name())),
        ] {
            assert_eq!(type_in(&mut model, keys), [Step::Send(order)]);
        }
        let id = model.facts.open_tasks().map(|view| view.record.id).max().expect("there are some");
        assert_eq!(type_in(&mut model, "2xy"), [Step::Send(Order::Cancel(id))]);
        assert_eq!(type_in(&mut model, "\nxy"), [Step::Send(Order::Cancel(id))], "it is open");
        assert_eq!(type_in(&mut model, "4dxy"), [], "an event is no worker and no task");
    }

    #[test]
    fn a_key_leaves_unless_a_text_is_typed() {
        let mut model = sample::model();
        assert_eq!(type_in(&mut model, "/quit\u{8}x\n"), []);
        assert_eq!(model.filter, "quix");
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for before in ["", "/", "\u{1b}d", "n?"] {
            type_in(&mut model, before);
            assert_eq!(
                press(&mut model, interrupt, sample::now()),
                Some(Step::Leave),
                "{before:?}"
            );
        }
        assert_eq!(type_in(&mut model, "q"), [Step::Leave]);
        model.filter = "w1".into();
        type_in(&mut model, "\u{1b}");
        assert_eq!(model.filter, "w1", "it has closed the help");
        type_in(&mut model, "\u{1b}");
        assert_eq!(model.filter, "");
    }

    #[test]
    fn a_task_is_opened_with_its_log_and_closed() {
        let mut model = sample::model();
        type_in(&mut model, "2l");
        assert_eq!((model.opened(), model.followed()), (model.followed(), model.opened()));
        assert!(model.followed().is_some());
        type_in(&mut model, "l");
        assert!(model.followed().is_none() && model.opened().is_some());
        type_in(&mut model, "\u{1b}");
        assert!(model.opened().is_none());
        type_in(&mut model, "3\n");
        assert_eq!((model.tab, model.filter.as_str()), (Tab::Tasks, "edge"), "the first group");
    }
}
