//! Why a file could not be opened, said so that its owner knows what to do; and what a
//! failure of the engine means to a caller of the ports.

use std::{io, path::PathBuf, sync::Arc};

use lyceum_memory::StoreError;
use rusqlite::ErrorCode;

use crate::sealed::{SealedRow, sealed_row};

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory does not exist and cannot be made.
    #[error("make the directory {path}: {source}; choose a directory that you may write to")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The file cannot be made or written.
    #[error("write to {path}: {source}; check who owns the file and its directory")]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("open {path}: another process uses it; stop that process or choose another file")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("open {path}: it is not a database of Lyceum; choose another file")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "read {path}: it is damaged ({detail}); restore a backup, or move it away to start anew"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the engine found.
        detail: String,
    },
    /// A newer Lyceum wrote the file.
    #[error(
        "read {path}: it has format {found} and this program knows up to {known}; use a newer Lyceum"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// The texts are sealed, and no key was given.
    #[error("read {path}: it is encrypted; say where its key is with privacy.encryption_key_file")]
    KeyNeeded {
        /// The file.
        path: PathBuf,
    },
    /// The texts are sealed with another key.
    #[error(
        "read {path}: the encryption key is not the one it was written with ({tenant}: {source}); \
         give that one, or name it among privacy.encryption_old_key_files"
    )]
    WrongKey {
        /// The file.
        path: PathBuf,
        /// The tenant whose key does not open.
        tenant: String,
        /// What is known of it.
        #[source]
        source: lyceum_vault::OpenError,
    },
    /// A key was given, and texts are clear.
    #[error(
        "read {path}: what it holds of {tenants} tenants is not encrypted, or not wholly; \
         run `lyceum memory encrypt`, or repeat a `lyceum memory erase` that was cut off"
    )]
    NotSealed {
        /// The file.
        path: PathBuf,
        /// How many tenants are concerned.
        tenants: u64,
    },
    /// The disk is full.
    #[error("prepare {path}: no space is left on its disk; free some and start again")]
    NoSpace {
        /// The file.
        path: PathBuf,
    },
    /// The engine failed in another way.
    #[error("open {path}: {source}")]
    Engine {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn from_sqlite(path: PathBuf, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::Foreign { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt {
                path,
                detail: error.to_string(),
            },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::DiskFull) => Self::NoSpace { path },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                let source = io::Error::new(io::ErrorKind::PermissionDenied, error);
                Self::NotWritable { path, source }
            }
            _ => Self::Engine {
                path,
                source: error.into(),
            },
        }
    }
}

/// What an operation inside the store may fail with.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A refusal that the port knows.
    Store(StoreError),
    /// A failure of the engine.
    Sqlite(rusqlite::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::Sqlite(error) => classify(&Arc::new(error)),
        }
    }
}

/// What a failure of the engine means to a caller. It may concern several calls that shared
/// a transaction, so it is shared too.
pub(crate) fn classify(error: &Arc<rusqlite::Error>) -> StoreError {
    let source = Box::new(Arc::clone(error));
    if let Some(SealedRow { table, row, why }) = sealed_row(error) {
        return StoreError::Sealed {
            table,
            row: row.clone(),
            source: why.clone().into(),
        };
    }
    match &**error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => StoreError::NoSpace,
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OperationAborted
            | ErrorCode::OperationInterrupted
            | ErrorCode::OutOfMemory
            | ErrorCode::SystemIoFailure => StoreError::Unavailable { source },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Corrupt { source },
            _ => StoreError::Internal { source },
        },
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => StoreError::Corrupt { source },
        _ => StoreError::Internal { source },
    }
}
