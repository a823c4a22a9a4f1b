//! What is watched.

use std::time::Duration;

use serde::Serialize;

/// How bad it is. The names are PagerDuty's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// Look at it when there is time.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// Its name in lower case.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Beyond what a reading is bad.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Bad when the reading is greater.
    Above(f64),
    /// Bad when the reading is smaller.
    Below(f64),
}

impl Bound {
    /// Whether a reading is bad. What is not a number never is.
    #[must_use]
    pub fn is_crossed(self, reading: f64) -> bool {
        match self {
            Self::Above(limit) => reading > limit,
            Self::Below(limit) => reading < limit,
        }
    }

    /// The number itself.
    #[must_use]
    pub fn limit(self) -> f64 {
        match self {
            Self::Above(limit) | Self::Below(limit) => limit,
        }
    }
}

/// One condition on one reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The name, unique among the rules, e.g. `daily_cost`.
    pub name: String,
    /// What it means, for people, e.g. `model calls of this day cost more than planned`.
    pub summary: String,
    /// How bad it is.
    pub severity: Severity,
    /// Beyond what the reading is bad.
    pub bound: Bound,
    /// How long it must stay bad before anybody is told; zero tells at once.
    pub hold: Duration,
    /// The reading's unit, shown after numbers, e.g. `USD`; may be empty.
    pub unit: String,
}
