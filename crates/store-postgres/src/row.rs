//! Numbers as the server keeps them.

use std::time::Duration;

/// A number as the server keeps it; beyond its range it saturates.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that the server kept; what was never written below zero is never read there.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The most rows of an answer.
pub(crate) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A length of time in milliseconds, at most a thousand years so that it can be added to an
/// instant.
pub(crate) fn millis(duration: Duration) -> i64 {
    const MOST: i64 = 1000 * 366 * 24 * 3600 * 1000;
    i64::try_from(duration.as_millis())
        .unwrap_or(MOST)
        .min(MOST)
}
