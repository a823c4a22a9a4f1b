//! Brings the tables to this program's format.
//!
//! Invariant: one process migrates at a time, by a lock of the database, each step in a
//! transaction of its own that also writes the step's number. Deliberately absent: steps back.

use tokio_postgres::{Client, Error};

use crate::OpenError;

/// The steps, in order; the first makes format 1.
const STEPS: [&str; 10] = [
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

/// The newest format this program knows.
const KNOWN: i32 = STEPS.len() as i32;

/// Names the lock among all advisory locks of the database: "lyceum" in ASCII.
pub(crate) const LOCK: i64 = 0x6c79_6365_756d;

/// Migrates over a connection of its own, and waits for another process that does.
pub(crate) async fn migrate(client: &mut Client) -> Result<(), OpenError> {
    let failed = |source| OpenError::Migrate { to: KNOWN, source };
    // A process that finds its format needs no lock, and no right to make tables.
    if check(format(client).await.map_err(failed)?)? == KNOWN {
        return Ok(());
    }
    // The lock is the session's: it ends with this connection at the latest. A large step may
    // take longer than any call, so nothing here has a time-out.
    let prepare = format!("SET statement_timeout = 0; SELECT pg_advisory_lock({LOCK})");
    client.batch_execute(&prepare).await.map_err(failed)?;
    let found = check(format(client).await.map_err(failed)?)?;
    for (number, step) in (1..).zip(STEPS).skip(usize::try_from(found).unwrap_or(0)) {
        let failed = |source| OpenError::Migrate { to: number, source };
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(step).await.map_err(failed)?;
        let note = format!("INSERT INTO lyceum.migration (number) VALUES ({number})");
        transaction.batch_execute(&note).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        tracing::info!(
            format = number,
            "the database's tables were brought up to date"
        );
    }
    let unlock = format!("SELECT pg_advisory_unlock({LOCK})");
    client.batch_execute(&unlock).await.map_err(failed)
}

fn check(found: i32) -> Result<i32, OpenError> {
    match found > KNOWN {
        true => Err(OpenError::Newer {
            found,
            known: KNOWN,
        }),
        false => Ok(found),
    }
}

/// The format of the tables; 0 where there are none.
async fn format(client: &Client) -> Result<i32, Error> {
    let exists = "SELECT to_regclass('lyceum.migration') IS NOT NULL";
    if !client.query_one_scalar::<bool, _>(exists, &[]).await? {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(number), 0) FROM lyceum.migration";
    client.query_one_scalar(newest, &[]).await
}
