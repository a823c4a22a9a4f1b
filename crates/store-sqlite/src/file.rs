//! The file: its lock, its connections, its format.
//!
//! Invariant: one process at a time has the file open, so leases of earlier processes are
//! void and nobody else's writes are ever waited for.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use lyceum_memory::{Timestamp, lexical};
use lyceum_vault::Clear;
use rusqlite::{Connection, OpenFlags, OptionalExtension, config::DbConfig};

use crate::{
    OpenError, Unsealed,
    error::Failure,
    memories,
    sealed::{Db, Keys},
};

/// The formats in order; a file's `user_version` says how many of them it has.
const MIGRATIONS: [&str; 10] = [
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
    include_str!("migrations/0008.sql"),
    include_str!("migrations/0009.sql"),
    include_str!("migrations/0010.sql"),
];

/// Marks the file as ours: "Lyce" in ASCII.
const APPLICATION_ID: i32 = 0x4C79_6365;

/// Files up to this size are checked as a whole when they are opened; it takes about a
/// millisecond per megabyte. Larger ones are trusted until a read fails.
const CHECKED_BYTES: u64 = 32 * 1024 * 1024;

/// How long a connection waits for a lock. Only a backup tool can hold one.
const BUSY: Duration = Duration::from_secs(5);

/// The number of prepared statements a connection keeps: more than the store has.
const STATEMENTS: usize = 192;

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
    (keys, unsealed): (&Keys, Unsealed),
) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::from_sqlite(path.to_owned(), error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    check(&connection, path)?;
    check_keys(&connection, path, (keys, unsealed))?;
    durable(&connection, max_bytes).map_err(failed)?;
    migrate(&mut connection, now, keys).map_err(|failure| match failure {
        Failure::Sqlite(error) => failed(error),
        Failure::Store(source) => OpenError::Engine {
            path: path.to_owned(),
            source: source.into(),
        },
    })?;
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

/// Refuses a file whose texts these keys do not open, before anything is written to it.
fn check_keys(
    connection: &Connection,
    path: &Path,
    (keys, unsealed): (&Keys, Unsealed),
) -> Result<(), OpenError> {
    let failed = |error| OpenError::from_sqlite(path.to_owned(), error);
    let path = path.to_owned();
    let has = |name: &str| {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        connection
            .query_row(sql, [name], |row| row.get::<_, i64>(0))
            .map(|count| count > 0)
    };
    let with = |name: &str| has(name).map_err(failed);
    let db = Db { connection, keys };
    let mut sealed = BTreeSet::new();
    if with("tenant_key")? {
        let tenants = names(connection, "SELECT DISTINCT tenant FROM tenant_key");
        for tenant in tenants.map_err(failed)? {
            let Some(masters) = keys.masters() else {
                return Err(OpenError::KeyNeeded { path });
            };
            let wrapped = db.wrapped(&tenant).map_err(failed)?;
            match masters.open(&tenant, &wrapped) {
                Ok(opened) if opened.clear() == Clear::Refused => drop(sealed.insert(tenant)),
                Ok(_) => {}
                Err(source) => {
                    return Err(OpenError::WrongKey {
                        path,
                        tenant,
                        source,
                    });
                }
            }
        }
    }
    if keys.masters().is_none() || unsealed == Unsealed::Open {
        return Ok(());
    }
    let mut clear = BTreeSet::new();
    for (table, sql) in [
        ("owner", "SELECT DISTINCT tenant FROM owner"),
        ("record", "SELECT DISTINCT tenant FROM record"),
    ] {
        if with(table)? {
            clear.extend(names(connection, sql).map_err(failed)?);
        }
    }
    match clear.difference(&sealed).count() as u64 {
        0 => Ok(()),
        tenants => Err(OpenError::NotSealed { path, tenants }),
    }
}

fn names(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare(sql)?;
    let names = select.query_map([], |row| row.get(0))?;
    names.collect()
}

fn migrate(connection: &mut Connection, now: Timestamp, keys: &Keys) -> Result<(), Failure> {
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
        let connection = &transaction;
        memories::rebuild(&Db { connection, keys })?;
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
    Ok(transaction.commit()?)
}
