//! What is told.

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Bound, Severity};

/// Whether it began or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The reading is bad.
    Firing,
    /// It is good again.
    Resolved,
}

impl State {
    /// Its name in lower case.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One message about one alert. All messages about it carry the same `key`, by which
/// receivers recognise repetitions and the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// `INSTANCE/RULE`.
    pub key: String,
    /// The rule's name.
    pub alert: String,
    /// Which process it is about.
    pub instance: String,
    /// Whether it began or is over.
    pub state: State,
    /// How bad it is.
    pub severity: Severity,
    /// What it means.
    pub summary: String,
    /// The reading; while resolved the one that is good again.
    pub value: f64,
    /// Beyond what a reading is bad.
    pub bound: Bound,
    /// The reading's unit; may be empty.
    pub unit: String,
    /// When the reading became bad, RFC 3339 in UTC.
    pub since: String,
    /// How many times it has been told, this one included; a resolution counts from its
    /// alert on.
    pub told: u32,
}

impl Notice {
    /// One line for people, e.g. `[firing] daily_cost on lyceum-1: … (12.3 USD, above 10 USD)`.
    #[must_use]
    pub fn line(&self) -> String {
        let side = match self.bound {
            Bound::Above(_) => "above",
            Bound::Below(_) => "below",
        };
        let unit = match self.unit.as_str() {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        format!(
            "[{}] {} on {}: {} ({}{unit}; bad {side} {}{unit})",
            self.state.label(),
            self.alert,
            self.instance,
            self.summary,
            shown(self.value),
            shown(self.bound.limit()),
        )
    }
}

/// At most three digits after the point.
fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    // Only years beyond 9999 cannot be written so.
    at.format(&Rfc3339).unwrap_or_default()
}
