//! The saver port of graphs: threads, their leases and their checkpoints.
//!
//! Invariant: whatever a run writes is written by a statement that found nobody else's epoch
//! and holds the lock of its thread's row; nothing locks more than that row. A checkpoint's
//! values are stored once, with the checkpoint that wrote them. A lease that ran out is extended
//! by its holder's next write, if nobody has taken the thread.
//! Deliberately absent: reading what the bytes mean.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::BoxFuture;
use lyceum_graph::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Record, Saved, Saver, SaverError,
    ThreadEntry, ThreadId, Threads, Value,
};
use lyceum_memory::StoreError;
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    connection::Session,
    error::Failure,
    pool::Held,
    row::{integer, limit_of, millis, unsigned},
};

/// A call that is repeated because its answer was lost finds the lease it made itself.
const ACQUIRE: &str = "\
    INSERT INTO lyceum.thread AS t (name, epoch, leased_until, claimed_by) \
    VALUES ($1, 1, lyceum.now_ms() + $2, $3) \
    ON CONFLICT (name) DO UPDATE \
    SET epoch = t.epoch + 1, leased_until = lyceum.now_ms() + $2, claimed_by = $3 \
    WHERE $4 OR t.leased_until <= lyceum.now_ms() OR t.claimed_by = $3 \
    RETURNING epoch, last_checkpoint";

const RELEASE: &str = "\
    UPDATE lyceum.thread SET leased_until = 0 WHERE name = $1 AND epoch = $2 AND leased_until > 0";

const RENEW: &str = "\
    UPDATE lyceum.thread SET leased_until = lyceum.now_ms() + $3, written_at = lyceum.now_ms() \
    WHERE name = $1 AND epoch = $2 AND leased_until > 0 RETURNING id";

/// The lease is checked and extended, and everything stored, in one statement: one round trip
/// and one transaction, during which the thread's row is locked.
const COMMIT: &str = "\
    WITH held AS ( \
        UPDATE lyceum.thread SET leased_until = lyceum.now_ms() + $3, written_at = lyceum.now_ms(), \
            last_checkpoint = greatest(last_checkpoint, $4) \
        WHERE name = $1 AND epoch = $2 AND leased_until > 0 RETURNING id \
    ), named AS ( \
        SELECT n.head, array_agg(n.channel ORDER BY n.place) AS channels, \
            array_agg(n.written_by ORDER BY n.place) AS written_by \
        FROM unnest($8::bigint[], $9::text[], $10::bigint[]) WITH ORDINALITY \
            AS n (head, channel, written_by, place) GROUP BY n.head \
    ), head AS ( \
        INSERT INTO lyceum.checkpoint (thread, namespace, id, head, channels, written_by) \
        SELECT held.id, h.namespace, h.id, h.head, \
            coalesce(named.channels, '{}'), coalesce(named.written_by, '{}') \
        FROM held CROSS JOIN unnest($5::text[], $6::bigint[], $7::text[]) WITH ORDINALITY \
            AS h (namespace, id, head, place) LEFT JOIN named ON named.head = h.place \
        ON CONFLICT (thread, namespace, id) DO UPDATE SET head = excluded.head, \
            channels = excluded.channels, written_by = excluded.written_by \
    ), wrote AS ( \
        INSERT INTO lyceum.channel_value (thread, channel, written_by, bytes) \
        SELECT held.id, v.channel, v.written_by, v.bytes FROM held, \
            unnest($11::text[], $12::bigint[], $13::bytea[]) AS v (channel, written_by, bytes) \
        ON CONFLICT (thread, channel, written_by) DO UPDATE SET bytes = excluded.bytes \
    ), achieved AS ( \
        INSERT INTO lyceum.task_record (thread, checkpoint, task, key, bytes) \
        SELECT held.id, r.checkpoint, r.task, r.key, r.bytes FROM held, \
            unnest($14::bigint[], $15::bigint[], $16::bytea[], $17::bytea[]) \
            AS r (checkpoint, task, key, bytes) \
        ON CONFLICT (thread, checkpoint, task, key) DO UPDATE SET bytes = excluded.bytes \
    ) \
    SELECT id FROM held";

/// One checkpoint with what it names, in one statement and so as of one moment. A value that is
/// missing comes as NULL.
macro_rules! load {
    ($which:literal) => {
        concat!(
            "SELECT c.head, \
                ARRAY(SELECT v.bytes \
                    FROM unnest(c.channels, c.written_by) WITH ORDINALITY \
                        AS u (channel, written_by, place) \
                    LEFT JOIN lyceum.channel_value v ON v.thread = c.thread \
                        AND v.channel = u.channel AND v.written_by = u.written_by \
                    ORDER BY u.place), \
                r.tasks, r.keys, r.bytes \
            FROM ( \
                SELECT * FROM lyceum.checkpoint \
                WHERE thread = (SELECT id FROM lyceum.thread WHERE name = $1) \
                    AND namespace = $2 ",
            $which,
            ") c LEFT JOIN LATERAL ( \
                SELECT array_agg(task ORDER BY task, key) AS tasks, \
                    array_agg(key ORDER BY task, key) AS keys, \
                    array_agg(bytes ORDER BY task, key) AS bytes \
                FROM lyceum.task_record WHERE thread = c.thread AND checkpoint = c.id \
            ) r ON true"
        )
    };
}

const LOAD_ONE: &str = load!("AND id = $3");

pub(crate) const LOAD_NEWEST: &str = load!("ORDER BY id DESC LIMIT 1");

pub(crate) const HISTORY: &str = "\
    SELECT head FROM lyceum.checkpoint \
    WHERE thread = (SELECT id FROM lyceum.thread WHERE name = $1) \
        AND namespace = $2 AND id < $3 ORDER BY id DESC LIMIT $4";

/// Runs after [`RENEW`] in its transaction, so it sees all that was committed under the lease.
const HEADS: &str = "SELECT head FROM lyceum.checkpoint WHERE thread = $1";

const NOW: &str = "SELECT lyceum.now_ms()";

const PRUNE: &str = "\
    WITH kept AS MATERIALIZED ( \
        SELECT namespace, id, channels, written_by FROM lyceum.checkpoint \
        WHERE thread = $1 AND id = ANY($2) \
    ), used AS MATERIALIZED ( \
        SELECT DISTINCT u.channel, u.written_by \
        FROM kept, unnest(kept.channels, kept.written_by) AS u (channel, written_by) \
    ), records AS ( \
        DELETE FROM lyceum.task_record r WHERE thread = $1 \
            AND NOT EXISTS (SELECT FROM kept WHERE kept.id = r.checkpoint) \
    ), vals AS ( \
        DELETE FROM lyceum.channel_value v WHERE thread = $1 AND NOT EXISTS ( \
            SELECT FROM used WHERE used.channel = v.channel AND used.written_by = v.written_by) \
    ), heads AS ( \
        DELETE FROM lyceum.checkpoint c WHERE thread = $1 AND NOT EXISTS ( \
            SELECT FROM kept WHERE kept.id = c.id AND kept.namespace = c.namespace) \
        RETURNING 1 \
    ) SELECT count(*) FROM heads";

pub(crate) const IDLE: &str = "\
    SELECT name, last_checkpoint FROM lyceum.thread t \
    WHERE name > $1 AND written_at <= lyceum.now_ms() - $2 AND leased_until <= lyceum.now_ms() \
        AND EXISTS (SELECT FROM lyceum.checkpoint c WHERE c.thread = t.id) \
    ORDER BY name LIMIT $3";

/// What a write to a thread comes to. A refusal is no failure of the store.
pub(crate) enum Outcome<T> {
    Done(T),
    Refused,
}

/// A batch as the arrays that one statement takes. Of what stands in it twice, the last counts.
pub(crate) struct Columns<'a> {
    heads: BTreeMap<(&'a str, i64), (&'a Checkpoint, String)>,
    last: Option<i64>,
    values: BTreeMap<(&'a str, i64), &'a [u8]>,
    records: BTreeMap<(i64, i64, &'a [u8]), &'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(batch: &'a Batch) -> Result<Self, StoreError> {
        let encode = |head: &'a Checkpoint| match serde_json::to_string(head) {
            Ok(json) => Ok(((head.namespace.as_str(), integer(head.id.0)), (head, json))),
            Err(source) => Err(StoreError::Internal {
                source: source.into(),
            }),
        };
        let value = |value: &'a Value| {
            let key = (value.key.channel.as_str(), integer(value.key.written_by.0));
            (key, value.bytes.as_slice())
        };
        let record = |record: &'a Record| {
            let (checkpoint, task) = (integer(record.checkpoint.0), i64::from(record.task));
            (
                (checkpoint, task, record.key.as_bytes()),
                record.bytes.as_slice(),
            )
        };
        Ok(Self {
            heads: batch
                .checkpoints
                .iter()
                .map(encode)
                .collect::<Result<_, _>>()?,
            last: batch.last().map(|id| integer(id.0)),
            values: batch.values.iter().map(value).collect(),
            records: batch.records.iter().map(record).collect(),
        })
    }
}

pub(crate) async fn commit(
    session: &Session,
    lease: &Lease,
    columns: &Columns<'_>,
) -> Result<Outcome<()>, Failure> {
    let (name, epoch) = (lease.thread.as_str(), integer(lease.epoch));
    let ttl = millis(lease.ttl);
    let held =
        if columns.heads.is_empty() && columns.values.is_empty() && columns.records.is_empty() {
            session.query_opt(RENEW, &[&name, &epoch, &ttl]).await?
        } else {
            let (namespaces, ids): (Vec<_>, Vec<_>) = columns.heads.keys().copied().unzip();
            let heads: Vec<_> = columns
                .heads
                .values()
                .map(|(_, json)| json.as_str())
                .collect();
            let (mut named_in, mut named, mut named_by) = (Vec::new(), Vec::new(), Vec::new());
            for (place, (head, _)) in (1_i64..).zip(columns.heads.values()) {
                for key in &head.values {
                    named_in.push(place);
                    named.push(key.channel.as_str());
                    named_by.push(integer(key.written_by.0));
                }
            }
            let written: Vec<&[u8]> = columns.values.values().copied().collect();
            let (channels, written_by): (Vec<_>, Vec<_>) = columns.values.keys().copied().unzip();
            let mut checkpoints = Vec::with_capacity(columns.records.len());
            let mut tasks = Vec::with_capacity(columns.records.len());
            let mut keys = Vec::with_capacity(columns.records.len());
            for (checkpoint, task, key) in columns.records.keys().copied() {
                checkpoints.push(checkpoint);
                tasks.push(task);
                keys.push(key);
            }
            let achieved: Vec<&[u8]> = columns.records.values().copied().collect();
            session
                .query_opt(
                    COMMIT,
                    &[
                        &name,
                        &epoch,
                        &ttl,
                        &columns.last,
                        &namespaces,
                        &ids,
                        &heads,
                        &named_in,
                        &named,
                        &named_by,
                        &channels,
                        &written_by,
                        &written,
                        &checkpoints,
                        &tasks,
                        &keys,
                        &achieved,
                    ],
                )
                .await?
        };
    Ok(held.map_or(Outcome::Refused, |_| Outcome::Done(())))
}

/// Reads a head from the first column.
fn head_of(row: &Row) -> Result<Checkpoint, Failure> {
    serde_json::from_str(row.try_get(0)?).map_err(Failure::corrupt)
}

/// Reads what [`load!`] gives.
fn saved_of(row: &Row) -> Result<Saved, Failure> {
    let checkpoint = head_of(row)?;
    let bytes: Vec<Option<Vec<u8>>> = row.try_get(1)?;
    if bytes.len() != checkpoint.values.len() {
        return Err(Failure::corrupt("a head and its list of values disagree"));
    }
    let value = |(key, bytes): (_, Option<Vec<u8>>)| match bytes {
        Some(bytes) => Ok(Value { key, bytes }),
        None => Err(Failure::corrupt(format!("no value {key:?}"))),
    };
    let values = checkpoint.values.iter().cloned().zip(bytes).map(value);
    let values = values.collect::<Result<_, _>>()?;
    let tasks: Option<Vec<i64>> = row.try_get(2)?;
    let keys: Option<Vec<Vec<u8>>> = row.try_get(3)?;
    let bytes: Option<Vec<Vec<u8>>> = row.try_get(4)?;
    let keys = keys.unwrap_or_default().into_iter();
    let bytes = bytes.unwrap_or_default();
    let tasks = tasks.unwrap_or_default().into_iter();
    let record = |((task, key), bytes)| {
        Ok(Record {
            checkpoint: checkpoint.id,
            task: u32::try_from(task).map_err(Failure::corrupt)?,
            key: String::from_utf8(key).map_err(Failure::corrupt)?,
            bytes,
        })
    };
    let records = tasks.zip(keys).zip(bytes).map(record);
    let records = records.collect::<Result<_, Failure>>()?;
    Ok(Saved {
        checkpoint,
        values,
        records,
    })
}

async fn prune(session: &Session, lease: &Lease, keep: Keep) -> Result<Outcome<u64>, Failure> {
    session
        .transaction(async {
            let (name, epoch) = (lease.thread.as_str(), integer(lease.epoch));
            let held = session
                .query_opt(RENEW, &[&name, &epoch, &millis(lease.ttl)])
                .await?;
            let Some(held) = held else {
                return Ok(Outcome::Refused);
            };
            let thread: i64 = held.try_get(0)?;
            let heads = session.query(HEADS, &[&thread]).await?;
            let heads = heads.iter().map(head_of).collect::<Result<Vec<_>, _>>()?;
            let now = session.query_opt(NOW, &[]).await?;
            let now = now.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
            let survivors = keep.survivors(&heads, unsigned(now));
            let survivors: Vec<_> = survivors.iter().map(|id| integer(id.0)).collect();
            let removed = session.query_opt(PRUNE, &[&thread, &survivors]).await?;
            let removed = removed.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
            Ok(Outcome::Done(unsigned(removed)))
        })
        .await
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

pub(crate) fn fenced<T>(
    thread: &ThreadId,
    written: Result<Outcome<T>, StoreError>,
) -> Result<T, SaverError> {
    match written {
        Ok(Outcome::Done(value)) => Ok(value),
        Ok(Outcome::Refused) => Err(SaverError::Fenced {
            thread: thread.clone(),
        }),
        Err(error) => Err(saver_error(thread, error)),
    }
}

impl Saver for PostgresStore {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        let (ttl_ms, takes_over) = (millis(ttl), claim == Claim::TakeOver);
        let token: i64 = rand::random();
        Box::pin(async move {
            let acquired = self.call_in_turn("acquire_thread", |session: Held| async move {
                let row = session
                    .query_opt(ACQUIRE, &[&thread.as_str(), &ttl_ms, &token, &takes_over])
                    .await?;
                let Some(row) = row else {
                    return Ok(Outcome::Refused);
                };
                let last: Option<i64> = row.try_get(1)?;
                Ok(Outcome::Done(Lease {
                    thread: thread.clone(),
                    epoch: unsigned(row.try_get(0)?),
                    ttl,
                    last: last.map(|id| CheckpointId(unsigned(id))),
                }))
            });
            match acquired.await {
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
            let released = self.call_in_turn("release_thread", |session: Held| async move {
                let (name, epoch) = (lease.thread.as_str(), integer(lease.epoch));
                session.execute(RELEASE, &[&name, &epoch]).await?;
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
            let columns =
                &Columns::new(batch).map_err(|error| saver_error(&lease.thread, error))?;
            let committed = self.call_in_turn("commit_checkpoint", |session: Held| async move {
                commit(&session, lease, columns).await
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
            let loaded = self.call_in_turn("load_checkpoint", |session: Held| async move {
                let name = thread.as_str();
                let row = match id.map(|id| integer(id.0)) {
                    Some(id) => {
                        session
                            .query_opt(LOAD_ONE, &[&name, &namespace, &id])
                            .await?
                    }
                    None => session.query_opt(LOAD_NEWEST, &[&name, &namespace]).await?,
                };
                row.as_ref().map(saved_of).transpose()
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
        let before = before.map_or(i64::MAX, |id| integer(id.0));
        let limit = limit_of(limit);
        Box::pin(async move {
            let listed = self.call_in_turn("list_checkpoints", |session: Held| async move {
                let rows = session
                    .query(HISTORY, &[&thread.as_str(), &namespace, &before, &limit])
                    .await?;
                rows.iter().map(head_of).collect()
            });
            listed.await.map_err(|error| saver_error(thread, error))
        })
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        Box::pin(async move {
            let pruned = self.call_in_turn("prune_thread", |session: Held| async move {
                prune(&session, lease, keep).await
            });
            fenced(&lease.thread, pruned.await)
        })
    }
}

impl Threads for PostgresStore {
    fn threads<'a>(
        &'a self,
        idle: Duration,
        after: Option<&'a ThreadId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<ThreadEntry>, SaverError>> {
        let (idle, limit) = (millis(idle), limit_of(limit));
        let after = after.map_or("", ThreadId::as_str);
        Box::pin(async move {
            let listed = self.call_in_turn("list_threads", |session: Held| async move {
                let rows = session.query(IDLE, &[&after, &idle, &limit]).await?;
                let entry = |row: &Row| {
                    let thread = ThreadId::new(row.try_get::<_, &str>(0)?);
                    let last: Option<i64> = row.try_get(1)?;
                    Ok(ThreadEntry {
                        thread: thread.map_err(Failure::corrupt)?,
                        last: last.map(|id| CheckpointId(unsigned(id))),
                    })
                };
                rows.iter().map(entry).collect()
            });
            listed.await.map_err(|error| SaverError::Backend {
                source: error.into(),
            })
        })
    }
}
