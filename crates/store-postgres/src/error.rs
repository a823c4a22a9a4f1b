//! Why a server could not be used, said so that its operator knows what to do; and what a
//! failure of the server means to a caller of the ports.
//!
//! Invariant: no text holds the address's password.

use std::{error::Error as _, io, time::Duration};

use lyceum_memory::StoreError;
use lyceum_vault::{SealError, SealedRow};
use tokio_postgres::{Error, error::SqlState};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address cannot be read.
    #[error(
        "read the database's address: {source}; write it as postgresql://user:password@host:5432/name"
    )]
    Address {
        /// What is wrong with it.
        #[source]
        source: Error,
    },
    /// Nothing answers at the address.
    #[error("reach the database at {host}: {source}; is it running, and is the port open?")]
    Unreachable {
        /// The host and port.
        host: String,
        /// What failed.
        #[source]
        source: Source,
    },
    /// The server does not let this user in.
    #[error("enter the database at {host}: {source}; check the user, the password and pg_hba.conf")]
    Denied {
        /// The host and port.
        host: String,
        /// What the server said.
        #[source]
        source: Source,
    },
    /// A newer Lyceum wrote the tables.
    #[error(
        "read the database: its tables have format {found} and this program knows up to {known}; \
         use a newer Lyceum"
    )]
    Newer {
        /// The tables' format.
        found: i32,
        /// The newest format that this program knows.
        known: i32,
    },
    /// The texts are sealed, and no key was given.
    #[error(
        "read the database at {host}: it is encrypted; say where its key is with \
         privacy.encryption_key_file"
    )]
    KeyNeeded {
        /// The host and port.
        host: String,
    },
    /// The texts are sealed with another key.
    #[error(
        "read the database at {host}: the encryption key is not the one it was written with \
         ({tenant}: {source}); give that one, or name it among privacy.encryption_old_key_files"
    )]
    WrongKey {
        /// The host and port.
        host: String,
        /// The tenant whose key does not open.
        tenant: String,
        /// What is known of it.
        #[source]
        source: lyceum_vault::OpenError,
    },
    /// A key was given, and texts are clear.
    #[error(
        "read the database at {host}: what it holds of {tenants} tenants is not encrypted, or not \
         wholly; run `lyceum memory encrypt`, or repeat a `lyceum memory erase` that was cut off"
    )]
    NotSealed {
        /// The host and port.
        host: String,
        /// How many tenants are concerned.
        tenants: u64,
    },
    /// The tables could not be made.
    #[error(
        "bring the database's tables to format {to}: {}; nothing was changed. The user must own \
         the database or its schema \"lyceum\"",
        said(.source)
    )]
    Migrate {
        /// The format they would have had.
        to: i32,
        /// What failed.
        #[source]
        source: Error,
    },
    /// The database's first answer was a refusal.
    #[error("prepare the database: {source}")]
    Prepare {
        /// What failed.
        #[source]
        source: StoreError,
    },
}

impl OpenError {
    /// Whether opening again may succeed without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Migrate { source, .. } => is_lost(source) || is_contended(source),
            Self::Prepare { source } => source.is_retryable(),
            _ => false,
        }
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address",
            Self::Unreachable { .. } => "unreachable",
            Self::Denied { .. } => "denied",
            Self::Newer { .. } => "newer",
            Self::KeyNeeded { .. } => "key_needed",
            Self::WrongKey { .. } => "wrong_key",
            Self::NotSealed { .. } => "not_sealed",
            Self::Migrate { .. } => "migrate",
            Self::Prepare { .. } => "prepare",
        }
    }
}

/// What a failed connection attempt means.
pub(crate) fn connecting(host: String, error: Error) -> OpenError {
    let denied = error
        .code()
        .is_some_and(|code| code.code().starts_with("28") || *code == SqlState::UNDEFINED_DATABASE);
    let source = described(error);
    match denied {
        true => OpenError::Denied { host, source },
        false => OpenError::Unreachable { host, source },
    }
}

/// What the server said of an error, or what else went wrong.
pub(crate) fn said(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(error), _) => error.message().to_owned(),
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    }
}

/// An error whose own text says what happened: the driver's says "db error" only.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Described {
    text: String,
    source: Error,
}

fn described(source: Error) -> Source {
    let text = said(&source);
    Box::new(Described { text, source })
}

/// Why there was no connection, or no answer over one. All of it passes by itself.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PoolError {
    /// The server does not answer, or answered too late.
    #[error("get an answer from the database within {after:?}")]
    Silent { after: Duration },
    /// All connections were in use.
    #[error("get one of {connections} database connections within {after:?}: all are in use")]
    Exhausted { connections: u32, after: Duration },
    /// The last attempt to connect failed.
    #[error("connect to the database: {last}")]
    Unreachable { last: String },
}

/// Why a call failed, before anybody asked what it means.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A rule of the ports, or what was already given a meaning.
    Store(StoreError),
    /// There was no connection, or no answer.
    Pool(PoolError),
    /// The server or the connection.
    Postgres(Error),
    /// A row whose sealed content does not open.
    Sealed(SealedRow),
    /// The tenant has no key to write with yet.
    NoKey { tenant: String },
}

impl Failure {
    /// Damage found in what was read.
    pub(crate) fn corrupt(source: impl Into<Source>) -> Self {
        Self::Store(StoreError::Corrupt {
            source: source.into(),
        })
    }

    /// Whether the same call on another connection may well succeed at once.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Store(_) | Self::Sealed(_) | Self::NoKey { .. } => false,
            // A server that restarts is back soon; a pool in use would only be used more.
            Self::Pool(error) => matches!(error, PoolError::Unreachable { .. }),
            Self::Postgres(error) => is_lost(error) || is_contended(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<SealedRow> for Failure {
    fn from(row: SealedRow) -> Self {
        Self::Sealed(row)
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::Store(StoreError::Internal {
            source: error.into(),
        })
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::Pool(source) => Self::Unavailable {
                source: source.into(),
            },
            Failure::Postgres(error) => classify(error),
            Failure::Sealed(SealedRow { table, row, why }) => Self::Sealed {
                table,
                row,
                source: why.into(),
            },
            Failure::NoKey { tenant } => Self::Internal {
                source: format!("{tenant} has no key, although one was made").into(),
            },
        }
    }
}

/// The connection is gone, or good for nothing: the outcome of what it carried is unknown.
pub(crate) fn is_lost(error: &Error) -> bool {
    match error.code() {
        Some(code) => {
            // Class 08 is the connection's; a server that goes down or was demoted to a replica
            // ends or spoils it too. A statement that was prepared before the tables changed
            // is gone with the connection.
            code.code().starts_with("08")
                || [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::CANNOT_CONNECT_NOW,
                    SqlState::READ_ONLY_SQL_TRANSACTION,
                    SqlState::FEATURE_NOT_SUPPORTED,
                    SqlState::INVALID_SQL_STATEMENT_NAME,
                ]
                .contains(code)
        }
        None => {
            error.is_closed()
                || error
                    .source()
                    .is_some_and(|source| source.is::<io::Error>())
        }
    }
}

/// Another transaction won; nothing was stored.
fn is_contended(error: &Error) -> bool {
    let codes = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

/// What a failure of the server means to a caller.
fn classify(error: Error) -> StoreError {
    if is_lost(&error) || is_contended(&error) {
        return StoreError::Unavailable {
            source: described(error),
        };
    }
    let Some(code) = error.code() else {
        return StoreError::Internal {
            source: described(error),
        };
    };
    if *code == SqlState::DISK_FULL {
        return StoreError::NoSpace;
    }
    let damaged = [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code);
    let passing = [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code)
        || code.code().starts_with("53");
    let source = described(error);
    match (damaged, passing) {
        (true, _) => StoreError::Corrupt { source },
        (_, true) => StoreError::Unavailable { source },
        _ => StoreError::Internal { source },
    }
}
