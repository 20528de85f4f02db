//! One line of the table. Words only.

use serde::Serialize;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measure {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// The limit of the same run that it is held against, and the value divided by it.
    pub ratio: Option<Ratio>,
    /// What was aimed at.
    pub target: Option<Target>,
    /// Whether that was reached.
    pub met: Option<bool>,
}

/// A value divided by a limit that was measured in the same run.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// The name of the limit.
    pub to: String,
    /// The value divided by it.
    pub value: f64,
}

/// What a measure should come to.
#[derive(Clone, Copy, Debug, Serialize)]
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
        Measure { name: name.into(), value, unit, ratio: None, target: None, met: None }
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
}
