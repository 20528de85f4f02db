//! Repeated lines: the first is written, the others are counted and reported at growing intervals. Never
//! holds the first line of its kind.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The first and the longest interval between reports of repeats. Each is twice the one before.
const INTERVAL_MIN: Duration = Duration::from_secs(10);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// A kind without a repeat for this many intervals is forgotten: its next line is a first line again.
const FORGET_AFTER: u32 = 6;

/// Kinds of lines to remember. When there are more, the one that was written longest ago is forgotten.
const KINDS_MAX: usize = 1_024;

/// The properties that all repeats of a line share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The place in the code, as tracing names it.
    pub place: &'static str,
    /// The fields that name the line's subject.
    pub about: String,
}

/// The kinds of lines that were written recently.
#[derive(Default)]
pub(super) struct Repeats {
    kinds: HashMap<Key, Kind>,
}

struct Kind {
    /// When the last line was written. Repeats are held for `interval` after it.
    at: Instant,
    interval: Duration,
    /// The latest held repeat, and the count of held repeats.
    held: Option<(String, u64)>,
}

impl Repeats {
    /// Takes a line. Returns it if it must be written now; otherwise holds it as a repeat.
    pub(super) fn pass(&mut self, key: Key, line: String, now: Instant) -> Option<String> {
        let Some(kind) = self.kinds.get_mut(&key) else {
            if self.kinds.len() >= KINDS_MAX {
                self.forget_one();
            }
            let first = Kind { at: now, interval: INTERVAL_MIN, held: None };
            self.kinds.insert(key, first);
            return Some(line);
        };
        if kind.held.is_none() && kind.at + kind.interval <= now {
            kind.told(now);
            return Some(line);
        }
        let count = kind.held.take().map_or(1, |(_, count)| count + 1);
        kind.held = Some((line, count));
        None
    }

    /// When [`Repeats::take`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.kinds.values().map(Kind::due).min()
    }

    /// The reports of repeats that are due; those of all repeats if `all`. Forgets kinds that no longer
    /// repeat.
    pub(super) fn take(&mut self, now: Instant, all: bool) -> Vec<String> {
        let mut told = Vec::new();
        self.kinds.retain(|_, kind| {
            let is_due = kind.due() <= now;
            if !is_due && !all {
                return true;
            }
            let Some((line, count)) = kind.held.take() else { return !is_due };
            told.push(counted(&line, count, now.duration_since(kind.at)));
            kind.told(now);
            true
        });
        told
    }

    fn forget_one(&mut self) {
        let oldest = self.kinds.iter().min_by_key(|(_, kind)| kind.at).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.kinds.remove(&oldest);
        }
    }
}

impl Kind {
    /// When to report the held repeats; without any, when to forget this kind.
    fn due(&self) -> Instant {
        self.at + self.interval * if self.held.is_some() { 1 } else { FORGET_AFTER }
    }

    fn told(&mut self, now: Instant) {
        (self.at, self.interval) = (now, (self.interval * 2).min(INTERVAL_MAX));
    }
}

fn counted(line: &str, count: u64, within: Duration) -> String {
    let (line, seconds) = (line.trim_end(), within.as_secs_f32().ceil());
    match count {
        1 => format!("{line}\n"),
        _ => format!("{line} ({count} times in {seconds} s)\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Flood {
        repeats: Repeats,
        began: Instant,
        key: Key,
    }

    impl Flood {
        fn new() -> Self {
            let key = Key { place: "a line of code", about: "w1".into() };
            Flood { repeats: Repeats::default(), began: Instant::now(), key }
        }

        /// The lines written for a line that comes `ms` after the beginning.
        fn line(&mut self, ms: u64, text: &str) -> Vec<String> {
            let now = self.began + Duration::from_millis(ms);
            let passed = self.repeats.pass(self.key.clone(), format!("{text}\n"), now);
            passed.into_iter().chain(self.repeats.take(now, false)).collect()
        }
    }

    #[test]
    fn an_hour_of_a_repeated_line_is_a_dozen_lines() {
        let mut flood = Flood::new();
        let mut written = Vec::new();
        let mut counted = 0;
        for turn in 0..7_200 {
            // The text alternates and holds the time.
            let text = format!("{} at {turn}", if turn % 2 == 0 { "refused" } else { "timed out" });
            written.extend(flood.line(turn * 500, &text));
        }
        for line in &written {
            let count = line.split_once('(').and_then(|(_, tail)| tail.split(' ').next());
            counted += count.map_or(1, |count| count.parse::<u64>().expect("a count"));
        }
        assert!((8..=14).contains(&written.len()), "{written:#?}");
        assert_eq!(written[0], "refused at 0\n");
        assert!(written[1].contains("(20 times in 10 s)"), "{written:#?}");
        let rest = flood.repeats.take(flood.began + Duration::from_secs(7_200), true);
        assert!(rest.len() == 1 && rest[0].contains("times"), "{rest:?}");
        assert!(counted > 5_000, "the count of {counted} misses some");
    }

    #[test]
    fn what_repeats_slowly_becomes_rare_as_well() {
        let mut flood = Flood::new();
        let written: usize = (0..300).map(|turn| flood.line(turn * 12_000, "a").len()).sum();
        assert!((8..=14).contains(&written), "{written} lines in an hour");
    }

    #[test]
    fn what_differs_in_its_subject_is_no_repeat() {
        let mut flood = Flood::new();
        for worker in 0..100 {
            flood.key.about = format!("w{worker}");
            assert_eq!(flood.line(worker, "lost").len(), 1);
        }
    }

    #[test]
    fn what_stopped_to_repeat_is_news_again_and_the_last_count_is_told() {
        let mut flood = Flood::new();
        let written: usize = (0..10).map(|turn| flood.line(turn, "a").len()).sum();
        assert_eq!(written, 1);
        let told = flood.repeats.take(flood.began + INTERVAL_MIN * 2, false);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("(9 times"), "{told:?}");
        let forgotten = INTERVAL_MIN * (2 + 2 * FORGET_AFTER) + Duration::from_secs(1);
        assert!(flood.repeats.take(flood.began + forgotten, false).is_empty());
        assert!(flood.repeats.due().is_none(), "it is forgotten");
        assert_eq!(flood.line(200_000, "a"), ["a\n"]);
    }

    #[test]
    fn few_kinds_are_remembered() {
        let mut flood = Flood::new();
        for number in 0..KINDS_MAX as u64 * 2 {
            flood.key.about = number.to_string();
            flood.line(number, "a");
        }
        assert!(flood.repeats.kinds.len() <= KINDS_MAX);
    }
}
