//! The saver port of graphs: threads, their leases and their checkpoints.
//!
//! Invariant: whatever a run writes is written in a transaction that found its lease live;
//! a checkpoint's values are stored once, with the checkpoint that wrote them.
//!
//! A lease ends with the process, because a file has one process at a time. So its beginning
//! and its end are not synced: what is stored under it is, and brings its beginning along.
//! One that ran out is extended by its holder's next write, if nobody has taken the thread:
//! then its epoch is another.
//!
//! Deliberately absent: reading what the bytes mean.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::BoxFuture;
use lyceum_graph::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Record, Saved, Saver, SaverError,
    ThreadEntry, ThreadId, Threads, Value, ValueRef,
};
use lyceum_memory::{StoreError, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    SqliteStore,
    error::Failure,
    row::{integer, limit_of, unsigned},
};

pub(crate) const NEWEST: &str = "\
    SELECT c.head FROM thread t JOIN checkpoint c ON c.thread = t.id \
    WHERE t.name = ?1 AND c.namespace = ?2 AND c.id < ?3 ORDER BY c.id DESC LIMIT ?4";

const ONE: &str = "\
    SELECT c.head FROM thread t JOIN checkpoint c ON c.thread = t.id \
    WHERE t.name = ?1 AND c.namespace = ?2 AND c.id = ?3";

pub(crate) const VALUE: &str = "\
    SELECT v.bytes FROM thread t JOIN channel_value v ON v.thread = t.id \
    WHERE t.name = ?1 AND v.channel = ?2 AND v.written_by = ?3";

pub(crate) const RECORDS: &str = "\
    SELECT r.task, r.key, r.bytes FROM thread t JOIN task_record r ON r.thread = t.id \
    WHERE t.name = ?1 AND r.checkpoint = ?2 ORDER BY r.task, r.key";

pub(crate) const IDLE: &str = "\
    SELECT name, last_checkpoint FROM thread t \
    WHERE name > ?1 AND written_at <= ?2 AND leased_until <= ?3 \
        AND EXISTS (SELECT 1 FROM checkpoint c WHERE c.thread = t.id) \
    ORDER BY name LIMIT ?4";

/// What a write to a thread comes to. A refusal is no failure of the store.
enum Outcome<T> {
    Done(T),
    Refused,
}

/// The thread's row if the lease is live or can be taken up again; extends it, and notes the id of
/// a new checkpoint.
fn extend(
    connection: &Connection,
    lease: &Lease,
    checkpoint: Option<CheckpointId>,
    now: Timestamp,
) -> rusqlite::Result<Option<i64>> {
    let mut update = connection.prepare_cached(
        "UPDATE thread SET leased_until = ?3, written_at = ?5, \
             last_checkpoint = max(coalesce(last_checkpoint, ?4), coalesce(?4, last_checkpoint)) \
         WHERE name = ?1 AND epoch = ?2 AND leased_until > 0 RETURNING id",
    )?;
    let (name, epoch) = (lease.thread.as_str(), integer(lease.epoch));
    let (until, id) = (now.after(lease.ttl), checkpoint.map(|id| integer(id.0)));
    update
        .query_row(params![name, epoch, until.0, id, now.0], |row| row.get(0))
        .optional()
}

fn acquire(
    connection: &Connection,
    thread: ThreadId,
    ttl: Duration,
    claim: Claim,
    now: Timestamp,
) -> rusqlite::Result<Outcome<Lease>> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO thread (name, epoch, leased_until) VALUES (?1, 0, 0) \
         ON CONFLICT (name) DO NOTHING",
    )?;
    insert.execute([thread.as_str()])?;
    let mut update = connection.prepare_cached(
        "UPDATE thread SET epoch = epoch + 1, leased_until = ?2 \
         WHERE name = ?1 AND (?3 OR leased_until <= ?4) RETURNING epoch, last_checkpoint",
    )?;
    let (until, takes_over) = (now.after(ttl), claim == Claim::TakeOver);
    let leased = update
        .query_row(
            params![thread.as_str(), until.0, takes_over, now.0],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
        )
        .optional()?;
    Ok(match leased {
        None => Outcome::Refused,
        Some((epoch, last)) => Outcome::Done(Lease {
            thread,
            epoch: unsigned(epoch),
            ttl,
            last: last.map(|id| CheckpointId(unsigned(id))),
        }),
    })
}

fn commit(
    connection: &Connection,
    lease: &Lease,
    batch: &Batch,
    now: Timestamp,
) -> Result<Outcome<()>, Failure> {
    let Some(thread) = extend(connection, lease, batch.last(), now)? else {
        return Ok(Outcome::Refused);
    };
    let mut insert = connection.prepare_cached(
        "REPLACE INTO channel_value (thread, channel, written_by, bytes) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for Value { key, bytes } in &batch.values {
        insert.execute(params![
            thread,
            key.channel,
            integer(key.written_by.0),
            bytes
        ])?;
    }
    let mut insert = connection.prepare_cached(
        "REPLACE INTO task_record (thread, checkpoint, task, key, bytes) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for Record {
        checkpoint,
        task,
        key,
        bytes,
    } in &batch.records
    {
        insert.execute(params![thread, integer(checkpoint.0), task, key, bytes])?;
    }
    let mut insert = connection.prepare_cached(
        "REPLACE INTO checkpoint (thread, namespace, id, head) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for head in &batch.checkpoints {
        let json = serde_json::to_string(head).map_err(|source| StoreError::Internal {
            source: source.into(),
        })?;
        insert.execute(params![thread, head.namespace, integer(head.id.0), json])?;
    }
    Ok(Outcome::Done(()))
}

/// Reads a head from the first column.
fn head_at(row: &Row<'_>) -> rusqlite::Result<Checkpoint> {
    let json: String = row.get(0)?;
    serde_json::from_str(&json).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

fn heads(
    connection: &Connection,
    thread: &str,
    namespace: &str,
    before: Option<CheckpointId>,
    limit: usize,
) -> rusqlite::Result<Vec<Checkpoint>> {
    let before = before.map_or(i64::MAX, |id| integer(id.0));
    let mut newest = connection.prepare_cached(NEWEST)?;
    let rows = newest.query_map(params![thread, namespace, before, limit_of(limit)], head_at)?;
    rows.collect()
}

fn load(
    connection: &Connection,
    thread: &str,
    namespace: &str,
    id: Option<CheckpointId>,
) -> Result<Option<Saved>, Failure> {
    let head = match id {
        None => heads(connection, thread, namespace, None, 1)?.pop(),
        Some(id) => connection
            .prepare_cached(ONE)?
            .query_row(params![thread, namespace, integer(id.0)], head_at)
            .optional()?,
    };
    let Some(checkpoint) = head else {
        return Ok(None);
    };
    let mut value = connection.prepare_cached(VALUE)?;
    let mut values = Vec::with_capacity(checkpoint.values.len());
    for key in &checkpoint.values {
        let written_by = integer(key.written_by.0);
        let bytes = value
            .query_row(params![thread, key.channel, written_by], |row| row.get(0))
            .optional()?;
        let Some(bytes) = bytes else {
            let source = format!("no value of {} by {written_by}", key.channel).into();
            return Err(StoreError::Corrupt { source }.into());
        };
        values.push(Value {
            key: key.clone(),
            bytes,
        });
    }
    let mut records = connection.prepare_cached(RECORDS)?;
    let records = records.query_map(params![thread, integer(checkpoint.id.0)], |row| {
        Ok(Record {
            checkpoint: checkpoint.id,
            task: row.get(0)?,
            key: row.get(1)?,
            bytes: row.get(2)?,
        })
    })?;
    let records = records.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Saved {
        checkpoint,
        values,
        records,
    }))
}

fn prune(
    connection: &Connection,
    lease: &Lease,
    keep: Keep,
    now: Timestamp,
) -> rusqlite::Result<Outcome<u64>> {
    let Some(thread) = extend(connection, lease, None, now)? else {
        return Ok(Outcome::Refused);
    };
    let mut all = connection.prepare_cached("SELECT head FROM checkpoint WHERE thread = ?1")?;
    let heads = all.query_map([thread], head_at)?;
    let heads = heads.collect::<rusqlite::Result<Vec<_>>>()?;
    let survivors = keep.survivors(&heads, unsigned(now.0));
    let (kept, gone): (Vec<_>, Vec<_>) = heads
        .into_iter()
        .partition(|head| survivors.contains(&head.id));
    let mut delete = connection.prepare_cached(
        "DELETE FROM checkpoint WHERE thread = ?1 AND namespace = ?2 AND id = ?3",
    )?;
    for head in &gone {
        delete.execute(params![thread, head.namespace, integer(head.id.0)])?;
    }
    let mut unowned = connection.prepare_cached(
        "DELETE FROM task_record WHERE thread = ?1 \
         AND checkpoint NOT IN (SELECT id FROM checkpoint WHERE thread = ?1)",
    )?;
    unowned.execute([thread])?;
    let used: BTreeSet<_> = kept.iter().flat_map(|head| &head.values).collect();
    let mut values = connection
        .prepare_cached("SELECT channel, written_by FROM channel_value WHERE thread = ?1")?;
    let values = values.query_map([thread], |row| {
        Ok(ValueRef {
            channel: row.get(0)?,
            written_by: CheckpointId(unsigned(row.get(1)?)),
        })
    })?;
    let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut delete = connection.prepare_cached(
        "DELETE FROM channel_value WHERE thread = ?1 AND channel = ?2 AND written_by = ?3",
    )?;
    for key in values.iter().filter(|key| !used.contains(key)) {
        delete.execute(params![thread, key.channel, integer(key.written_by.0)])?;
    }
    Ok(Outcome::Done(gone.len() as u64))
}

/// What a store's refusal means to a run.
fn saver_error(thread: &ThreadId, error: StoreError) -> SaverError {
    match error {
        StoreError::Corrupt { source } => SaverError::Corrupt {
            thread: thread.clone(),
            source,
        },
        other => SaverError::Backend {
            source: other.into(),
        },
    }
}

fn fenced<T>(thread: &ThreadId, written: Result<Outcome<T>, StoreError>) -> Result<T, SaverError> {
    match written {
        Ok(Outcome::Done(value)) => Ok(value),
        Ok(Outcome::Refused) => Err(SaverError::Fenced {
            thread: thread.clone(),
        }),
        Err(error) => Err(saver_error(thread, error)),
    }
}

impl Saver for SqliteStore {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        Box::pin(async move {
            let id = thread.clone();
            let acquired = self
                .write_for_now("acquire_thread", move |connection, now| {
                    Ok(acquire(connection, id, ttl, claim, now)?)
                })
                .await;
            match acquired {
                Ok(Outcome::Done(lease)) => Ok(lease),
                Ok(Outcome::Refused) => Err(SaverError::Busy {
                    thread: thread.clone(),
                }),
                Err(error) => Err(saver_error(thread, error)),
            }
        })
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        Box::pin(async move {
            let (name, epoch) = (lease.thread.clone(), integer(lease.epoch));
            let released = self.write_for_now("release_thread", move |connection, _| {
                let mut update = connection.prepare_cached(
                    "UPDATE thread SET leased_until = 0 WHERE name = ?1 AND epoch = ?2",
                )?;
                update.execute(params![name.as_str(), epoch])?;
                Ok(())
            });
            released
                .await
                .map_err(|error| saver_error(&lease.thread, error))
        })
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        Box::pin(async move {
            let (held, batch) = (lease.clone(), batch.clone());
            let committed = self.write_in_turn("commit_checkpoint", move |connection, now| {
                commit(connection, &held, &batch, now)
            });
            fenced(&lease.thread, committed.await)
        })
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        Box::pin(async move {
            let (name, namespace) = (thread.clone(), namespace.to_owned());
            let loaded = self.read_in_turn("load_checkpoint", move |connection| {
                load(connection, name.as_str(), &namespace, id)
            });
            loaded.await.map_err(|error| saver_error(thread, error))
        })
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        Box::pin(async move {
            let (name, namespace) = (thread.clone(), namespace.to_owned());
            let listed = self.read_in_turn("list_checkpoints", move |connection| {
                Ok(heads(connection, name.as_str(), &namespace, before, limit)?)
            });
            listed.await.map_err(|error| saver_error(thread, error))
        })
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        Box::pin(async move {
            let held = lease.clone();
            let pruned = self.write_in_turn("prune_checkpoints", move |connection, now| {
                Ok(prune(connection, &held, keep, now)?)
            });
            fenced(&lease.thread, pruned.await)
        })
    }
}

impl Threads for SqliteStore {
    fn threads<'a>(
        &'a self,
        idle: Duration,
        after: Option<&'a ThreadId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ThreadEntry>, SaverError>> {
        let after = after.map_or_else(String::new, |after| after.as_str().to_owned());
        Box::pin(async move {
            // Through the writer, which knows the time that the rows were stamped by.
            let listed = self.write_for_now("list_threads", move |connection, now| {
                let since = now.0.saturating_sub(millis(idle));
                let mut idle = connection.prepare_cached(IDLE)?;
                let rows = idle
                    .query_map(params![after, since, now.0, limit_of(limit)], |row| {
                        Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?))
                    })?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
            });
            let listed = listed.await.map_err(|error| SaverError::Backend {
                source: error.into(),
            })?;
            let entry = |(name, last): (String, Option<i64>)| {
                let thread = ThreadId::new(name).map_err(|error| SaverError::Backend {
                    source: error.into(),
                })?;
                let last = last.map(|id| CheckpointId(unsigned(id)));
                Ok(ThreadEntry { thread, last })
            };
            listed.into_iter().map(entry).collect()
        })
    }
}

/// A duration in milliseconds, as long as the file can say.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
