//! One line of the table. Never measures anything.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One measured value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// The name of the value.
    pub name: String,
    /// The value, in `unit`.
    pub value: f64,
    /// The unit.
    pub unit: Cow<'static, str>,
    /// The least and the greatest value of its rounds, if there were several.
    pub spread: Option<(f64, f64)>,
    /// The value divided by a limit from the same run.
    pub ratio: Option<Ratio>,
    /// The target, if there is one.
    pub target: Option<Target>,
    /// Whether the target was reached; `None` without a target.
    pub met: Option<bool>,
    /// Anything else that a reader has to know.
    pub note: String,
    /// Whether it is a limit for other values, and not a value of Muster's.
    pub is_limit: bool,
}

/// A value divided by a limit that was measured in the same run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// The name of the limit.
    pub to: String,
    /// The value divided by it.
    pub value: f64,
}

/// A target for a measured value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The most that the value may be.
    AtMost(f64),
    /// The least that the value may be.
    AtLeast(f64),
    /// The most that the value divided by its limit may be.
    RatioAtMost(f64),
    /// The least that the value divided by its limit may be.
    RatioAtLeast(f64),
}

impl Measure {
    /// A value without a limit or a target.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Measure {
            name: name.into(),
            value,
            unit: unit.into(),
            spread: None,
            ratio: None,
            target: None,
            met: None,
            note: String::new(),
            is_limit: false,
        }
    }

    /// A limit for other values of the same run.
    pub fn limit(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Measure { is_limit: true, ..Measure::new(name, value, unit) }
    }

    /// The same value, marked as a limit.
    pub fn as_limit(self) -> Self {
        Measure { is_limit: true, ..self }
    }

    /// The median of some rounds, with the least and the greatest of them.
    pub fn of_rounds(name: impl Into<String>, rounds: &[f64], unit: &'static str) -> Self {
        let (least, most) = crate::figures::spread(rounds);
        let median = crate::figures::median(rounds);
        Measure { spread: Some((least, most)), ..Measure::new(name, median, unit) }
    }

    /// Compares the value with a limit of the same run.
    pub fn to(mut self, limit: &Measure) -> Self {
        self.ratio = Some(Ratio { to: limit.name.clone(), value: self.value / limit.value });
        self
    }

    /// Compares the value with a target. A target for a ratio needs [`Measure::to`] first.
    pub fn aims(mut self, target: Target) -> Self {
        let ratio = self.ratio.as_ref().map(|ratio| ratio.value);
        self.met = match target {
            Target::AtMost(most) => Some(self.value <= most),
            Target::AtLeast(least) => Some(self.value >= least),
            Target::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Target::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
        };
        self.target = Some(target);
        self
    }

    /// Adds a note.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The value relative to its target: 1 is on target, more is better. `None` without a target.
    pub fn progress(&self) -> Option<f64> {
        let ratio = self.ratio.as_ref().map(|ratio| ratio.value);
        match self.target? {
            Target::AtMost(most) => Some(most / self.value),
            Target::AtLeast(least) => Some(self.value / least),
            Target::RatioAtMost(most) => ratio.map(|ratio| most / ratio),
            Target::RatioAtLeast(least) => ratio.map(|ratio| ratio / least),
        }
    }
}
