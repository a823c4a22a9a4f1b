//! Which rules are firing: a pure state machine, told the time and the readings.
//!
//! Invariant: for each rule the notices of its life are one `firing`, further ones no
//! sooner than `repeat` after the last, and one `resolved`; none without a `firing` before.
//! A reading that is missing changes nothing: not knowing is neither good nor bad.
//! Deliberately absent: sending.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::{Notice, Rule, State, notice::rfc3339};

/// The rules and where each stands.
#[derive(Debug)]
pub struct Alerts {
    instance: String,
    repeat: Duration,
    watched: Vec<(Rule, Standing)>,
}

#[derive(Debug, Clone, Copy)]
enum Standing {
    Good,
    /// Bad, but not for long enough.
    Pending {
        since: Instant,
        began: OffsetDateTime,
    },
    Firing {
        began: OffsetDateTime,
        last: Instant,
        told: u32,
    },
}

impl Alerts {
    /// Watches `rules` of the process `instance`; what lasts is told again every `repeat`.
    #[must_use]
    pub fn new(instance: impl Into<String>, rules: Vec<Rule>, repeat: Duration) -> Self {
        Self {
            instance: instance.into(),
            repeat,
            watched: rules
                .into_iter()
                .map(|rule| (rule, Standing::Good))
                .collect(),
        }
    }

    /// The rules that are firing.
    pub fn firing(&self) -> impl Iterator<Item = &Rule> {
        self.watched
            .iter()
            .filter(|(_, standing)| matches!(standing, Standing::Firing { .. }))
            .map(|(rule, _)| rule)
    }

    /// The rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.watched.iter().map(|(rule, _)| rule)
    }

    /// Takes the readings of one moment, by rule name, and gives what must be told. `now`
    /// never goes back; `clock` is for people only.
    pub fn evaluate(
        &mut self,
        now: Instant,
        clock: OffsetDateTime,
        reading: impl Fn(&str) -> Option<f64>,
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (rule, standing) in &mut self.watched {
            let Some(value) = reading(&rule.name).filter(|value| !value.is_nan()) else {
                continue;
            };
            let told = step(rule, standing, self.repeat, now, clock, value);
            if let Some((state, began, told)) = told {
                notices.push(Notice {
                    key: format!("{}/{}", self.instance, rule.name),
                    alert: rule.name.clone(),
                    instance: self.instance.clone(),
                    state,
                    severity: rule.severity,
                    summary: rule.summary.clone(),
                    value,
                    bound: rule.bound,
                    unit: rule.unit.clone(),
                    since: rfc3339(began),
                    told,
                });
            }
        }
        notices
    }
}

fn step(
    rule: &Rule,
    standing: &mut Standing,
    repeat: Duration,
    now: Instant,
    clock: OffsetDateTime,
    value: f64,
) -> Option<(State, OffsetDateTime, u32)> {
    if !rule.bound.is_crossed(value) {
        let before = std::mem::replace(standing, Standing::Good);
        return match before {
            Standing::Firing { began, told, .. } => Some((State::Resolved, began, told)),
            _ => None,
        };
    }
    let (began, told) = match *standing {
        Standing::Good if rule.hold.is_zero() => (clock, 0),
        Standing::Good => {
            *standing = Standing::Pending {
                since: now,
                began: clock,
            };
            return None;
        }
        Standing::Pending { since, began } if now.duration_since(since) >= rule.hold => (began, 0),
        Standing::Firing { began, last, told } if now.duration_since(last) >= repeat => {
            (began, told)
        }
        Standing::Pending { .. } | Standing::Firing { .. } => return None,
    };
    let told = told.saturating_add(1);
    *standing = Standing::Firing {
        began,
        last: now,
        told,
    };
    Some((State::Firing, began, told))
}
