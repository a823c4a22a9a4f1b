//! The file: its lock, its connections, its format.
//!
//! Invariant: one process at a time has the file open, so leases of earlier processes are
//! void and nobody else's writes are ever waited for.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use lyceum_memory::{Timestamp, lexical};
use rusqlite::{Connection, OpenFlags, OptionalExtension, config::DbConfig};

use crate::{OpenError, memories};

/// The formats in order; a file's `user_version` says how many of them it has.
const MIGRATIONS: [&str; 9] = [
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
];

/// Marks the file as ours: "Lyce" in ASCII.
const APPLICATION_ID: i32 = 0x4C79_6365;

/// Files up to this size are checked as a whole when they are opened; it takes about a
/// millisecond per megabyte. Larger ones are trusted until a read fails.
const CHECKED_BYTES: u64 = 32 * 1024 * 1024;

/// How long a connection waits for a lock. Only a backup tool can hold one.
const BUSY: Duration = Duration::from_secs(5);

/// The number of prepared statements a connection keeps: more than the store has.
const STATEMENTS: usize = 64;

/// Takes the file for this process. The lock ends with the returned handle, or the process.
pub(crate) fn lock(path: &Path) -> Result<File, OpenError> {
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(directory).map_err(|source| OpenError::Directory {
            path: directory.to_owned(),
            source,
        })?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = private(Path::new(&name))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::Locked {
                path: path.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => {
            let path = PathBuf::from(name);
            return Err(OpenError::NotWritable { path, source });
        }
    }
    private(path)?;
    Ok(lock)
}

/// Opens a file for writing and makes it where it is absent, readable by its owner only.
fn private(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| OpenError::NotWritable {
        path: path.to_owned(),
        source,
    })
}

/// The connection that writes, on a file brought to the newest format.
pub(crate) fn writer(
    path: &Path,
    max_bytes: Option<u64>,
    now: Timestamp,
) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::from_sqlite(path.to_owned(), error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    check(&connection, path)?;
    durable(&connection, max_bytes).map_err(failed)?;
    migrate(&mut connection, now).map_err(failed)?;
    Ok(connection)
}

/// A connection that reads.
pub(crate) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::from_sqlite(path.to_owned(), error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without it a bound LIMIT is peeked at, and every new binding parses and plans the
    // statement anew, which took a sixth of a turn's CPU time
    // (<https://sqlite.org/c3ref/c_dbconfig_defensive.html#sqlitedbconfigenableqpsg>).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // In KiB where negative: 8 MiB a connection.
    connection.pragma_update(None, "cache_size", -8192)
}

/// Refuses files that are not ours, too new or damaged, before anything is written to them.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::from_sqlite(path.to_owned(), error);
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(failed)
    };
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if tables == 0 {
        return Ok(());
    }
    if number("PRAGMA application_id")? != i64::from(APPLICATION_ID) {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    let found = u32::try_from(number("PRAGMA user_version")?).unwrap_or(u32::MAX);
    let known = MIGRATIONS.len() as u32;
    if found > known {
        let path = path.to_owned();
        return Err(OpenError::Newer { path, found, known });
    }
    if fs::metadata(path).is_ok_and(|meta| meta.len() <= CHECKED_BYTES) {
        let verdict: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(failed)?;
        if verdict != "ok" {
            let path = path.to_owned();
            return Err(OpenError::Corrupt {
                path,
                detail: verdict,
            });
        }
    }
    Ok(())
}

/// Write-ahead log, and an fsync for every commit: `synchronous=NORMAL` loses acknowledged
/// writes when the power fails (<https://sqlite.org/pragma.html#pragma_synchronous>).
fn durable(connection: &Connection, max_bytes: Option<u64>) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    if let Some(bytes) = max_bytes {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        connection.pragma_update(None, "max_page_count", pages.max(1))?;
    }
    Ok(())
}

fn migrate(connection: &mut Connection, now: Timestamp) -> rusqlite::Result<()> {
    let have: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (version, migration) in (1_u32..).zip(MIGRATIONS) {
        if version <= have {
            continue;
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    let transaction = connection.transaction()?;
    let words: Option<String> = transaction
        .query_row("SELECT value FROM meta WHERE key = 'lexical'", [], |row| {
            row.get(0)
        })
        .optional()?;
    let wanted = lexical::VERSION.to_string();
    if words.as_deref() != Some(&wanted) {
        memories::rebuild(&transaction)?;
        transaction.execute(
            "REPLACE INTO meta (key, value) VALUES ('lexical', ?1)",
            [&wanted],
        )?;
    }
    // The file was locked, so whoever held these leases is gone.
    transaction.execute(
        "UPDATE job SET due_at = ?1 WHERE phase = 1 AND due_at > ?1",
        [now.0],
    )?;
    transaction.execute(
        "UPDATE thread SET leased_until = 0 WHERE leased_until > 0",
        [],
    )?;
    transaction.commit()
}
