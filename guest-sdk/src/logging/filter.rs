//! Which lines are written: `info,primes::sieve=debug`, as `RUST_LOG` has it. It must never refuse a
//! text: a part that it does not understand is passed over, as a task should not fail by it.

use crate::Level;

/// Without a word about it: what an operator would want to read. A library's own steps would fill
/// the log that an attempt is allowed.
const DEFAULT: Option<Level> = Some(Level::Info);

/// Levels for all and for single targets.
#[derive(Debug)]
pub(super) struct Filter {
    /// Targets and what is below them, the longest first; the empty one is all. `None` is off.
    rules: Vec<(String, Option<Level>)>,
}

impl Default for Filter {
    fn default() -> Self {
        Self::read(String::new())
    }
}

impl Filter {
    /// Reads parts divided by commas: a level, `target=level`, or a target, which means all of it.
    pub(super) fn read(text: String) -> Self {
        let mut rules = vec![(String::new(), DEFAULT)];
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, level) = match part.split_once('=') {
                Some((target, level)) => (target.trim(), level_of(level.trim())),
                None => match level_of(part) {
                    Some(level) => ("", Some(level)),
                    None => (part, Some(Some(Level::Trace))),
                },
            };
            if let Some(level) = level {
                rules.retain(|(other, _)| other != target);
                rules.push((target.to_owned(), level));
            }
        }
        rules.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Self { rules }
    }

    /// Whether a line of `target` is written.
    pub(super) fn allows(&self, target: &str, level: Level) -> bool {
        let is_under = |rule: &str| {
            target
                .strip_prefix(rule)
                .is_some_and(|rest| rule.is_empty() || rest.is_empty() || rest.starts_with("::"))
        };
        let most = self.rules.iter().find(|(rule, _)| is_under(rule)).and_then(|(_, most)| *most);
        most.is_some_and(|most| level <= most)
    }

    /// The least grave level of which any line is written; `None` when all is off.
    pub(super) fn most(&self) -> Option<Level> {
        self.rules.iter().filter_map(|(_, level)| *level).max()
    }
}

/// The level of a word; the inner `None` is `off`, the outer one no level at all.
fn level_of(word: &str) -> Option<Option<Level>> {
    match word.to_ascii_lowercase().as_str() {
        "off" => Some(None),
        "error" => Some(Some(Level::Error)),
        "warn" => Some(Some(Level::Warn)),
        "info" => Some(Some(Level::Info)),
        "debug" => Some(Some(Level::Debug)),
        "trace" => Some(Some(Level::Trace)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use crate::Level::{self, Debug, Error, Info, Trace, Warn};

    fn check(text: &str, rows: &[(&str, Level, bool)]) {
        let filter = Filter::read(text.to_owned());
        for (target, level, expected) in rows {
            assert_eq!(filter.allows(target, *level), *expected, "{text:?}: {target} {level:?}");
        }
    }

    #[test]
    fn reads_what_rust_log_has() {
        check("", &[("a", Info, true), ("a", Debug, false)]);
        check("debug", &[("a", Debug, true), ("a", Trace, false)]);
        check("off", &[("a", Error, false)]);
        check(
            "warn,a::b=trace, c = off",
            &[
                ("a", Warn, true),
                ("a", Info, false),
                ("a::b", Trace, true),
                ("a::b::c", Trace, true),
                ("a::bc", Info, false),
                ("c", Error, false),
            ],
        );
        check("a", &[("a", Trace, true), ("b", Debug, false)]);
        check("a=loud,=,,b=DEBUG", &[("a", Debug, false), ("b", Debug, true)]);
        check("error,debug", &[("a", Debug, true)]);
    }

    #[test]
    fn knows_the_most_it_lets_through() {
        assert_eq!(Filter::default().most(), Some(Info));
        assert_eq!(Filter::read("warn,a=debug".into()).most(), Some(Debug));
        assert_eq!(Filter::read("off".into()).most(), None);
    }
}
