//! What was used, as it is told and as it is kept over a restart.
//!
//! Days and months are those of UTC. Deliberately absent: hours, models, sessions.

use std::{
    collections::HashMap,
    ops::{Add, AddAssign},
};

use lyceum_core::{TenantId, Tokens, Usage, UserId};
use serde::{Deserialize, Serialize};
use time::Date;

use super::PicoUsd;

/// The Julian day of 1 January 1970.
const EPOCH: i32 = 2_440_588;

/// What somebody used in a day or a month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    /// Requests of clients.
    pub requests: u64,
    /// Calls of models that used tokens; an answer from a cache is none.
    pub calls: u64,
    /// All input tokens, cached ones included.
    pub input: Tokens,
    /// All output tokens.
    pub output: Tokens,
    /// The part of `input` that was read from the provider's prompt cache.
    pub cached_input: Tokens,
    /// What the calls cost.
    pub spent: PicoUsd,
}

impl Used {
    pub(super) fn of_call(usage: &Usage, spent: PicoUsd) -> Self {
        Self {
            requests: 0,
            calls: u64::from(usage.total() > Tokens(0)),
            input: usage.input,
            output: usage.output,
            cached_input: usage.cached_input,
            spent,
        }
    }
}

impl Add for Used {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            calls: self.calls.saturating_add(other.calls),
            input: self.input + other.input,
            output: self.output + other.output,
            cached_input: self.cached_input + other.cached_input,
            spent: self.spent + other.spent,
        }
    }
}

impl AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What somebody used, and what may still be spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statement {
    /// Since midnight.
    pub today: Used,
    /// Since the first of the month.
    pub month: Used,
    /// Set aside for calls under way, at most.
    pub held: PicoUsd,
    /// What may be spent in a day, where that is limited.
    pub day_limit: Option<PicoUsd>,
}

impl Statement {
    /// What may still be spent today, where that is limited.
    #[must_use]
    pub fn left_today(&self) -> Option<PicoUsd> {
        let limit = self.day_limit?;
        Some(limit - self.today.spent - self.held)
    }
}

/// One account as it is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The tenant.
    pub tenant: TenantId,
    /// One of its users; absent for the tenant as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Since midnight.
    pub today: Used,
    /// Since the first of the month.
    pub month: Used,
}

/// All accounts of a day, as they are kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The day, counted from 1970 in UTC.
    pub day: u64,
    /// The accounts.
    #[serde(default)]
    pub entries: Vec<Entry>,
}

/// What single users may spend in a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserBudgets {
    /// Those that are named; `None` does not limit.
    pub named: HashMap<(TenantId, UserId), Option<PicoUsd>>,
    /// Everybody else; `None` does not limit.
    pub others: Option<PicoUsd>,
}

impl UserBudgets {
    pub(super) fn of(&self, tenant: &TenantId, user: &UserId) -> Option<PicoUsd> {
        if self.named.is_empty() {
            return self.others;
        }
        let named = self.named.get(&(tenant.clone(), user.clone()));
        named.copied().unwrap_or(self.others)
    }

    /// Whether anybody is limited.
    #[must_use]
    pub fn limit_anybody(&self) -> bool {
        self.others.is_some() || self.named.values().any(Option::is_some)
    }
}

/// The month of a day: two days of one month have the same.
pub(super) fn month_of(day: u64) -> i32 {
    let julian = i32::try_from(day).map_or(i32::MAX, |day| day.saturating_add(EPOCH));
    Date::from_julian_day(julian).map_or(0, |date| {
        date.year() * 12 + i32::from(u8::from(date.month()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_where_the_calendar_says() {
        // 2024-02-29, 2024-03-01, 2024-12-31, 2025-01-01
        let days = [19_782, 19_783, 20_088, 20_089];
        let [leap, march, december, january] = days.map(month_of);
        assert_eq!(march, leap + 1);
        assert_eq!(january, december + 1);
        assert_eq!(month_of(19_783), month_of(19_783 + 30));
    }
}
