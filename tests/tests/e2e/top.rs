//! `muster top` on a terminal: what it shows of a real fleet, what its keys do, and that it leaves the terminal as it
//! found it.

use super::permissions::{CLIENT, MASTER, documented};
use muster_tests::{
    Fleet,
    fleet::{NATS, wait_for},
};
use std::{
    io::{Read as _, Write as _},
    num::NonZeroU16,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

/// A terminal as it looks to its user.
type Terminal = vt100::Parser<Titles>;

/// The titles that were set. None may be.
#[derive(Default)]
struct Titles(Vec<String>);

impl vt100::Callbacks for Titles {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.0.push(String::from_utf8_lossy(title).into_owned());
    }
}

/// What `script` does on its terminal: it notes the mode of the terminal before and after the command.
const ON_THE_TERMINAL: &str = r#"tty > "$DIR/tty"; stty rows 24 cols 80; stty -g > "$DIR/before"
"$@"; echo $? > "$DIR/code"; stty -g > "$DIR/after""#;

/// How often the size changes together with a key.
const RESIZED_TIMES: u16 = 100;

/// The command on a terminal of its own.
struct Top {
    script: Child,
    dir: PathBuf,
    screen: Arc<Mutex<Terminal>>,
}

impl Top {
    fn start(fleet: &Fleet, name: &str, args: &[&str]) -> Self {
        let dir = fleet.path(name);
        std::fs::create_dir(&dir).expect("a directory");
        let muster = fleet.muster(&[&["top"], args].concat());
        let words = std::iter::once(muster.get_program()).chain(muster.get_args());
        let quoted = words.map(|word| format!(" '{}'", word.to_str().expect("UTF-8")));
        let line = format!("sh -c '{ON_THE_TERMINAL}' sh{}", quoted.collect::<String>());
        let mut script = Command::new("script");
        script
            .args(["--quiet", "--flush", "--command", &line, "/dev/null"])
            .env("DIR", &dir)
            .env("MUSTER_NATS", fleet.nats_url())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut script = script.spawn().expect("script is part of every Debian");
        let (rows, columns) = (vt100::Parser::DEFAULT_ROWS, vt100::Parser::DEFAULT_COLS);
        let screen = Terminal::new_with_callbacks(rows, columns, 0, Titles::default());
        let screen = Arc::new(Mutex::new(screen));
        let (mut out, parser) = (script.stdout.take().expect("a pipe"), screen.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                parser.lock().expect("no panic").process(&bytes[..count]);
            }
        });
        Top { script, dir, screen }
    }

    fn shown(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    fn until_shown(&self, words: &str) {
        self.until(words, |shown| shown.contains(words));
    }

    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let last = std::cell::RefCell::new(String::new());
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(what, || {
                *last.borrow_mut() = self.shown();
                wanted(&last.borrow()).then_some(())
            });
        }));
        assert!(seen.is_ok(), "not shown: {what}\n{}", last.borrow());
    }

    fn press(&mut self, keys: &str) {
        let input = self.script.stdin.as_mut().expect("a pipe");
        input.write_all(keys.as_bytes()).expect("it reads keys");
        input.flush().expect("it reads keys");
    }

    fn note(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap_or_default().trim().to_owned()
    }

    fn resize(&self, rows: u16, columns: u16) {
        let of = |size| NonZeroU16::new(size).expect("not zero");
        self.screen.lock().expect("no panic").set_size(of(rows), of(columns));
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let tty = self.note("tty");
        let resized =
            Command::new("stty").args(["-F", &tty, "rows", &rows, "cols", &columns]).status();
        assert!(resized.expect("stty runs").success());
    }

    /// Waits until it has left the terminal, and returns its exit code.
    fn left(&self) -> String {
        wait_for("its end", || (!self.note("after").is_empty()).then_some(()));
        assert_eq!(self.note("before"), self.note("after"), "the mode of the terminal");
        let is_restored = |parser: &Terminal| {
            !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
        };
        wait_for("the screen of before", || {
            is_restored(&self.screen.lock().expect("no panic")).then_some(())
        });
        self.note("code")
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // Its terminal goes away with it, and so does the command.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn a_fleet_is_watched_and_a_task_cancelled_by_keys() {
    let mut fleet = Fleet::start(0, 0);
    fleet.start_worker(
        "w1",
        &["--group", "shops", "--slots", "1", "--label", "place=\u{1b}]0;owned\u{7}"],
    );
    fleet.push("primes");
    let long = r#"{"from":1,"to":100000000000}"#;
    let submit = ["task", "run", "primes", "--input", long, "--group", "shops"];
    let first = fleet.run(&submit).ok().text();
    fleet.until("its dispatch", &first, |record| !record["state"]["dispatched"].is_null());
    let mut top = Top::start(&fleet, "top", &[]);
    top.until("the worker", |shown| {
        shown.contains("w1") && shown.contains("shops") && shown.contains("live")
    });
    top.until_shown("1/1");
    let second = fleet.run(&submit).ok().text();
    top.press("3");
    top.until_shown("all slots of");
    top.press("2");
    top.until("both tasks", |shown| shown.contains(&first) && shown.contains(&second));

    // The timeline of the older task, and its log.
    top.press(&format!("/{first}\r"));
    top.until("one task", |shown| shown.contains(&first) && !shown.contains(&second));
    top.press("\r");
    top.until("the timeline", |shown| {
        shown.contains("attempt 1 to w1") && shown.contains("queued")
    });
    top.until_shown("progress");
    top.press("l");
    top.until_shown("l timeline");

    // Nothing is cancelled without a yes.
    top.press("xn");
    top.until_shown("not sent");
    assert!(fleet.record(&first)["state"]["done"].is_null());
    top.press("x");
    top.until_shown("y/n");
    top.press("y");
    fleet.until("its end", &first, |record| !record["state"]["done"]["outcome"].is_null());
    let record = fleet.record(&first);
    assert_eq!(record["state"]["done"]["outcome"]["verdict"], "cancelled", "{record}");
    top.press("l");
    top.until("its end", |shown| shown.contains("ended") && shown.contains("cancelled"));

    // Its size is what the terminal has.
    top.resize(5, 30);
    top.until_shown("terminal too small");
    top.resize(40, 160);
    top.press("\u{1b}4");
    top.until_shown("task.cancelled");

    fleet.kill(NATS);
    top.until_shown("stale since");
    fleet.start_nats();
    top.until("an answer", |shown| !shown.contains("stale since"));
    let titles = std::mem::take(&mut top.screen.lock().expect("no panic").callbacks_mut().0);
    assert!(titles.is_empty(), "a label sets a title: {titles:?}");
    top.press("q");
    assert_eq!(top.left(), "0");

    // A signal and Ctrl-C leave the terminal as it was, too.
    let mut top = Top::start(&fleet, "interrupted", &["--group", "shops"]);
    top.until_shown("w1");
    top.press("\u{3}");
    assert_eq!(top.left(), "0");
}

#[test]
fn no_key_is_lost_while_the_terminal_changes_its_size() {
    let fleet = Fleet::start(0, 0);
    let mut top = Top::start(&fleet, "top", &[]);
    let tabs = [("2", "WHY"), ("3", "ENDED/S"), ("1", "LEASE")];
    top.until_shown("LEASE");
    for (round, (key, column)) in (0..RESIZED_TIMES).zip(tabs.into_iter().cycle()) {
        top.resize(24 + round % 7, 80 + round % 11);
        top.press(key);
        top.until_shown(column);
    }
}

#[test]
fn a_refusal_is_shown_to_who_lacks_the_role() {
    let mut fleet = Fleet::registry_with(documented(), MASTER);
    fleet.start_master("m1");
    fleet.start_worker("w1", &[]);
    fleet.ask_as(CLIENT);
    let mut top = Top::start(&fleet, "top", &[]);
    top.until_shown("w1");
    top.press("d");
    top.until_shown("y/n");
    top.press("y");
    top.until_shown("needs the role operate");
    top.press("q");
    assert_eq!(top.left(), "0");
    let workers = fleet.run(&["-o", "json", "worker", "ls"]).ok().json();
    assert_eq!(workers["workers"][0]["lease"]["standing"], "live", "{workers}");
}

#[test]
fn without_a_terminal_it_says_what_programs_read() {
    let fleet = Fleet::registry();
    for args in [&["top"][..], &["top", "-o", "json"]] {
        let refused = fleet.run(args);
        assert_eq!((refused.code, refused.text().as_str()), (2, ""), "{refused:?}");
        assert!(refused.err.contains("muster worker ls -o json"), "{refused:?}");
    }
}
