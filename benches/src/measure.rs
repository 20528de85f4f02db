//! One line of the table. Words only.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: Cow<'static, str>,
    /// The least and the most of its rounds, where there were several.
    pub spread: Option<(f64, f64)>,
    /// The limit of the same run that it is held against, and the value divided by it.
    pub ratio: Option<Ratio>,
    /// What was aimed at.
    pub target: Option<Target>,
    /// Whether that was reached.
    pub met: Option<bool>,
    /// What has to be known besides.
    pub note: String,
    /// Whether it is what others are held against, and not a figure of Muster's.
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

/// What a measure should come to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The value, at most.
    AtMost(f64),
    /// The value, at least.
    AtLeast(f64),
    /// The value divided by its limit, at most.
    RatioAtMost(f64),
    /// The value divided by its limit, at least.
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

    /// What others of the same run are held against.
    pub fn limit(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Measure { is_limit: true, ..Measure::new(name, value, unit) }
    }

    /// The same, for what is none of Muster's figures.
    pub fn as_limit(self) -> Self {
        Measure { is_limit: true, ..self }
    }

    /// The median of some rounds, with the least and the most of them.
    pub fn of_rounds(name: impl Into<String>, rounds: &[f64], unit: &'static str) -> Self {
        let (least, most) = crate::figures::spread(rounds);
        let median = crate::figures::median(rounds);
        Measure { spread: Some((least, most)), ..Measure::new(name, median, unit) }
    }

    /// Held against a limit of the same run.
    pub fn to(mut self, limit: &Measure) -> Self {
        self.ratio = Some(Ratio { to: limit.name.clone(), value: self.value / limit.value });
        self
    }

    /// Held against what was aimed at.
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

    /// With something that has to be known besides.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// How far it is on the way to its target: 1 is there, more is beyond. `None` without one.
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
