//! Values as the server keeps them.

use std::time::Duration;

use lyceum_core::IdError;
use lyceum_memory::Timestamp;
use tokio_postgres::{Error, Row};

use crate::{error::Failure, text::original};

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

/// A time that the server kept.
pub(crate) fn time(row: &Row, at: usize) -> Result<Timestamp, Error> {
    row.try_get(at).map(Timestamp)
}

/// A text of somebody's choice.
pub(crate) fn text(row: &Row, at: usize) -> Result<String, Error> {
    row.try_get(at).map(original)
}

/// An id that was valid when it was stored.
pub(crate) fn id<T>(
    row: &Row,
    at: usize,
    new: impl Fn(String) -> Result<T, IdError>,
) -> Result<T, Failure> {
    new(row.try_get(at)?).map_err(Failure::corrupt)
}
