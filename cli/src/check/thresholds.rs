//! From which figures on `muster check` warns or fails. Never measures anything.

use super::{Area, Health};
use crate::quantity;
use clap::Args;
use muster_protocol::GroupName;
use std::{str::FromStr, time::Duration};

/// A value that warns, and one that fails if it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold<T> {
    /// Warns.
    pub warn: T,
    /// Fails.
    pub fail: Option<T>,
}

impl<T: PartialOrd> Threshold<T> {
    /// The health of a figure that is bad where it is large.
    pub fn above(&self, figure: &T) -> Health {
        self.health(|bound| figure >= bound)
    }

    /// The health of a figure that is bad where it is small.
    pub fn below(&self, figure: &T) -> Health {
        self.health(|bound| figure < bound)
    }

    /// The same in another unit.
    pub fn map<U>(&self, unit: impl Fn(&T) -> U) -> Threshold<U> {
        Threshold { warn: unit(&self.warn), fail: self.fail.as_ref().map(unit) }
    }

    fn health(&self, is_reached: impl Fn(&T) -> bool) -> Health {
        match &self.fail {
            Some(fail) if is_reached(fail) => Health::Fail,
            _ if is_reached(&self.warn) => Health::Warn,
            _ => Health::Ok,
        }
    }

    /// Parses `WARN` or `WARN,FAIL`. Both have to be in the order in which a figure gets worse.
    fn read(
        text: &str,
        read: impl Fn(&str) -> Result<T, String>,
        is_worse: impl Fn(&T, &T) -> bool,
    ) -> Result<Self, String> {
        let Some((warn, fail)) = text.split_once(',') else {
            return Ok(Threshold { warn: read(text)?, fail: None });
        };
        let (warn, fail) = (read(warn)?, read(fail)?);
        match is_worse(&fail, &warn) {
            true => Ok(Threshold { warn, fail: Some(fail) }),
            false => {
                Err("the second value fails, so it has to be worse than the first, which warns"
                    .into())
            }
        }
    }
}

/// How few live workers in a group warn, unless told otherwise.
const LIVE: Threshold<u64> = Threshold { warn: 1, fail: None };

/// How full a stream may be, in percent, unless told otherwise.
const FULL: Threshold<u64> = Threshold { warn: 80, fail: Some(95) };

/// What counts as unwell.
#[derive(Args, Clone, Debug, Default)]
pub struct Thresholds {
    /// Only the workers and the queue of this group
    #[arg(long, value_name = "NAME")]
    pub group: Option<GroupName>,
    /// Warn, or fail, if a group has fewer live workers than this [default: 1]
    #[arg(long, value_name = "WARN[,FAIL]", value_parser = fewer)]
    pub live: Option<Threshold<u64>>,
    /// Warn, or fail, if a task that is next in a group has waited this long: 10s,5m
    #[arg(long, value_name = "WARN[,FAIL]", value_parser = longer)]
    pub waiting: Option<Threshold<Duration>>,
    /// Warn, or fail, if this many tasks of a group wait
    #[arg(long, value_name = "WARN[,FAIL]", value_parser = more)]
    pub queued: Option<Threshold<u64>>,
    /// Warn, or fail, if a stream uses this percentage of its limit [default: 80,95]
    #[arg(long, value_name = "WARN[,FAIL]", value_parser = fuller)]
    pub full: Option<Threshold<u64>>,
}

impl Thresholds {
    /// Whether this group is looked at.
    pub fn has(&self, group: &GroupName) -> bool {
        self.group.as_ref().is_none_or(|only| only == group)
    }

    /// How few live workers a group may have.
    pub fn live(&self) -> Threshold<u64> {
        self.live.unwrap_or(LIVE)
    }

    /// How full a stream may be, in percent.
    pub fn full(&self) -> Threshold<u64> {
        self.full.unwrap_or(FULL)
    }

    /// The first given option that has no effect on the chosen areas, and the areas in which it has one.
    pub fn idle(&self, looks_at: impl Fn(Area) -> bool) -> Option<(&'static str, &'static str)> {
        let given = [
            ("--waiting", self.waiting.is_some(), &[Area::Tasks][..], "tasks"),
            ("--queued", self.queued.is_some(), &[Area::Tasks], "tasks"),
            ("--live", self.live.is_some(), &[Area::Workers], "workers"),
            ("--full", self.full.is_some(), &[Area::Registry], "registry"),
            ("--group", self.group.is_some(), &[Area::Workers, Area::Tasks], "workers` or `tasks"),
        ];
        let is_idle = |(_, is_given, areas, _): &(&str, bool, &[Area], &str)| {
            *is_given && !areas.iter().any(|area| looks_at(*area))
        };
        given.into_iter().find(is_idle).map(|(name, .., areas)| (name, areas))
    }
}

fn fewer(text: &str) -> Result<Threshold<u64>, String> {
    Threshold::read(text, count, |fail, warn| fail < warn)
}

fn more(text: &str) -> Result<Threshold<u64>, String> {
    Threshold::read(text, count, |fail, warn| fail > warn)
}

fn longer(text: &str) -> Result<Threshold<Duration>, String> {
    Threshold::read(text, quantity::duration, |fail, warn| fail > warn)
}

fn fuller(text: &str) -> Result<Threshold<u64>, String> {
    let percent = |text: &str| match count(text)? {
        percent @ 1..=100 => Ok(percent),
        _ => Err("a share is from 1 to 100 percent".into()),
    };
    Threshold::read(text, percent, |fail, warn| fail > warn)
}

fn count(text: &str) -> Result<u64, String> {
    u64::from_str(text.trim()).map_err(|_| format!("{text:?} is not a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_has_one_value_or_two_in_order() {
        let two = more("10, 20").expect("two values");
        let healths = [9, 10, 19, 20].map(|figure| two.above(&figure));
        assert_eq!(healths, [Health::Ok, Health::Warn, Health::Warn, Health::Fail]);
        let one = fewer("2").expect("a value");
        assert_eq!(
            [2, 1, 0].map(|figure| one.below(&figure)),
            [Health::Ok, Health::Warn, Health::Warn]
        );
        let two = fewer("2,1").expect("two values");
        assert_eq!(
            [2, 1, 0].map(|figure| two.below(&figure)),
            [Health::Ok, Health::Warn, Health::Fail]
        );
        assert!(fewer("1,2").is_err() && more("2,2").is_err() && longer("5m,10s").is_err());
        assert!(more("").is_err() && more("1,2,3").is_err() && longer("soon").is_err());
        assert!(fuller("101").is_err() && fuller("0").is_err() && fuller("80,95").is_ok());
    }
}
