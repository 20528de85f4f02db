//! The filter of log lines, in the syntax of `RUST_LOG`: `info,primes::sieve=debug`. Never refuses a
//! text: it ignores parts that it cannot read, because they should not make a task fail.

use crate::Level;

/// The level without a rule: what an operator wants to read. Libraries' debug lines would use up the log
/// limit of the attempt.
const DEFAULT: Option<Level> = Some(Level::Info);

/// The levels of targets.
#[derive(Debug)]
pub(super) struct Filter {
    /// Targets, each with everything below it, the longest first. The empty target matches all. `None`
    /// is off.
    rules: Vec<(String, Option<Level>)>,
}

impl Default for Filter {
    fn default() -> Self {
        Self::read(String::new())
    }
}

impl Filter {
    /// Parses parts separated by commas: a level, `target=level`, or a target alone, which means all its
    /// levels.
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

    /// The least severe level that any rule lets through; `None` when everything is off.
    pub(super) fn most(&self) -> Option<Level> {
        self.rules.iter().filter_map(|(_, level)| *level).max()
    }
}

/// The level that a word names. The inner `None` is `off`; the outer `None` means that the word is no
/// level.
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
