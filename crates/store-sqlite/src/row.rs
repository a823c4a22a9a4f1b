//! Between columns and values: SQLite knows signed integers and texts only.

use lyceum_core::IdError;
use rusqlite::{Error, Row, types::Type};

/// Above every name, because names are ASCII: where a list starts that has no cursor.
pub(crate) const LAST_NAME: &str = "\u{7f}";

/// A counter as SQLite keeps it; what is too large for it is larger than anything stored.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A counter from a column that is never negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A `LIMIT`: a negative one would mean none at all.
pub(crate) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// An identifier from a column. One that is not valid means that the file was tampered with.
pub(crate) fn id_at<T>(
    row: &Row<'_>,
    at: usize,
    new: impl FnOnce(String) -> Result<T, IdError>,
) -> rusqlite::Result<T> {
    id_of(at, row.get(at)?, new)
}

/// The same of a text that was read from that column.
pub(crate) fn id_of<T>(
    at: usize,
    text: String,
    new: impl FnOnce(String) -> Result<T, IdError>,
) -> rusqlite::Result<T> {
    new(text).map_err(|error| Error::FromSqlConversionFailure(at, Type::Text, error.into()))
}
