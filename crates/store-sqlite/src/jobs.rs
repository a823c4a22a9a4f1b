//! The job port: claims, leases and dead letters as updates of one row.
//!
//! Invariant: whatever a worker writes is written in a transaction that found its lease valid.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_core::{AgentId, Scope, SessionId, TenantId, UserId};
use lyceum_memory::{
    Claim, ClaimRequest, ClaimedJob, DeadJob, FailedJob, JobId, JobResults, JobStore, Lease,
    NewJob, StoreError, Summary, Timestamp, VANISHED,
};
use rusqlite::{Connection, Error, OptionalExtension, Row, params, types::Type};
use serde_json::Value;

use crate::{
    SqliteStore,
    error::Failure,
    memories,
    row::{id_at, integer, limit_of, unsigned},
    scope::{Home, Owner},
    sealed::{Db, Texts, sealed_row},
    sessions::kept,
};

pub(crate) const NEXT: &str = "\
    SELECT due_at, id, attempts FROM job WHERE kind = ?1 AND phase < 2 \
    ORDER BY due_at, id LIMIT 1";

pub(crate) const DEAD: &str = "\
    SELECT j.name, j.kind, j.payload, j.attempts, j.reason, j.due_at, j.sealed, \
        (SELECT name FROM session WHERE id = j.session) FROM job AS j \
    WHERE j.owner = (SELECT id FROM owner WHERE tenant = ?1 AND user = ?2 AND agent = ?3) \
    AND j.phase = 2 ORDER BY j.due_at DESC, j.id LIMIT ?4";

const CLAIMED: &str = "\
    SELECT j.name, o.tenant, o.user, o.agent, s.name, j.epoch, j.due_at, j.kind, j.payload, \
        j.attempts, j.created_at, j.sealed \
    FROM job j JOIN session s ON s.id = j.session JOIN owner o ON o.id = j.owner \
    WHERE j.id = ?1";

const HELD: &str = "\
    SELECT j.id, j.session \
    FROM job j JOIN session s ON s.id = j.session JOIN owner o ON o.id = j.owner \
    WHERE j.name = ?1 AND j.phase = 1 AND j.epoch = ?2 AND j.due_at > ?3 \
    AND o.tenant = ?4 AND o.user = ?5 AND o.agent = ?6 AND s.name = ?7";

/// The reason of a job whose payload was changed, or whose key is gone.
const UNREADABLE: &str = "it does not open";

const DIE: &str = "UPDATE job SET phase = 2, due_at = ?2, reason = ?3 WHERE id = ?1";

/// Adds jobs that are due at once.
pub(crate) fn insert(
    connection: &Connection,
    home: &Home,
    (session, session_name): (i64, &str),
    jobs: &[NewJob],
    now: Timestamp,
) -> Result<(), Failure> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO job (name, session, owner, kind, payload, due_at, created_at, sealed) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)",
    )?;
    for job in jobs {
        let (name, payload) = (JobId::random(), job.payload.to_string());
        let of = (name.as_str(), job.kind.as_str());
        let place = home.owner.session(session_name);
        let (payload, sealed) = place.job(of, |at| kept(&home.texts, at, &payload))?;
        insert.execute(params![
            name.as_str(),
            session,
            home.id,
            job.kind,
            payload,
            now.0,
            sealed
        ])?;
    }
    Ok(())
}

fn claim(
    connection: &Db<'_>,
    kinds: &[String],
    lease: Duration,
    max_attempts: u32,
    now: Timestamp,
) -> Result<Claim, Failure> {
    let mut next = connection.prepare_cached(NEXT)?;
    loop {
        let mut first: Option<(i64, i64, u32)> = None;
        for kind in kinds {
            let of_kind = next
                .query_row([kind], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            first = first.into_iter().chain(of_kind).min();
        }
        let Some((due_at, id, attempts)) = first else {
            return Ok(Claim::Idle { due_in: None });
        };
        if due_at > now.0 {
            let due_in = Some(Timestamp(due_at).since(now));
            return Ok(Claim::Idle { due_in });
        }
        if attempts >= max_attempts {
            connection
                .prepare_cached(DIE)?
                .execute(params![id, now.0, VANISHED])?;
            continue;
        }
        connection
            .prepare_cached(
                "UPDATE job SET phase = 1, due_at = ?2, epoch = epoch + 1, \
                 attempts = attempts + 1 WHERE id = ?1",
            )?
            .execute(params![id, now.after(lease).0])?;
        let job = connection
            .prepare_cached(CLAIMED)?
            .query_row([id], |row| claimed(row, connection));
        match job {
            // The jobs of others wait behind it.
            Err(error) if sealed_row(&error).is_some() => {
                tracing::error!(error = %error, "a job is given up: it does not open");
                connection
                    .prepare_cached(DIE)?
                    .execute(params![id, now.0, UNREADABLE])?;
            }
            job => return Ok(Claim::Job(Box::new(job??))),
        }
    }
}

/// The engine's failure outside, the keys' inside.
fn claimed(row: &Row<'_>, db: &Db<'_>) -> rusqlite::Result<Result<ClaimedJob, Failure>> {
    let owner = Owner {
        tenant: row.get(1)?,
        user: row.get(2)?,
        agent: row.get(3)?,
    };
    let texts = match db.texts(&owner.tenant) {
        Ok(texts) => texts,
        Err(failure) => return Ok(Err(failure)),
    };
    let (name, session, kind): (String, String, String) = (row.get(0)?, row.get(4)?, row.get(7)?);
    let (sealed, clear) = (row.get(11)?, [row.get(8)?]);
    let [payload] = owner
        .session(&session)
        .job((&name, &kind), |at| texts.open(at, sealed, clear))?;
    Ok(Ok(ClaimedJob {
        lease: Lease {
            job: id_at(row, 0, JobId::new)?,
            scope: Scope {
                tenant: id_at(row, 1, TenantId::new)?,
                user: id_at(row, 2, UserId::new)?,
                agent: id_at(row, 3, AgentId::new)?,
                session: Some(id_at(row, 4, SessionId::new)?),
            },
            epoch: unsigned(row.get(5)?),
            until: Timestamp(row.get(6)?),
        },
        kind,
        payload: json(&payload)?,
        attempts: row.get(9)?,
        created_at: Timestamp(row.get(10)?),
    }))
}

fn dead(row: &Row<'_>, owner: &Owner, texts: &Texts) -> rusqlite::Result<DeadJob> {
    let (name, kind, session): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(7)?);
    let (sealed, clear) = (row.get(6)?, [row.get(2)?]);
    let [payload] = owner
        .session(&session)
        .job((&name, &kind), |at| texts.open(at, sealed, clear))?;
    Ok(DeadJob {
        id: id_at(row, 0, JobId::new)?,
        kind,
        payload: json(&payload)?,
        attempts: row.get(3)?,
        reason: row.get(4)?,
        died_at: Timestamp(row.get(5)?),
    })
}

fn json(text: &str) -> rusqlite::Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

/// The rows of a job whose lease is valid.
struct Held {
    job: i64,
    session: i64,
}

fn held(connection: &Connection, lease: &Lease, now: Timestamp) -> Result<Held, Failure> {
    let Owner {
        tenant,
        user,
        agent,
    } = Owner::new(&lease.scope);
    let (name, session) = (lease.job.as_str(), lease.scope.session.as_ref());
    let session = session.map(SessionId::as_str);
    connection
        .prepare_cached(HELD)?
        .query_row(
            params![
                name,
                integer(lease.epoch),
                now.0,
                tenant,
                user,
                agent,
                session
            ],
            |row| {
                Ok(Held {
                    job: row.get(0)?,
                    session: row.get(1)?,
                })
            },
        )
        .optional()?
        .ok_or_else(|| {
            Failure::Store(StoreError::LeaseLost {
                job: lease.job.clone(),
            })
        })
}

fn complete(
    connection: &Db<'_>,
    lease: &Lease,
    results: &JobResults,
    now: Timestamp,
) -> Result<(), Failure> {
    let Held { job, session } = held(connection, lease, now)?;
    let home = Owner::new(&lease.scope).ensure(connection)?;
    connection
        .prepare_cached("DELETE FROM job WHERE id = ?1")?
        .execute([job])?;
    let origin = lease.scope.session.as_ref().map(SessionId::as_str);
    for memory in &results.memories {
        memories::insert(connection, &home, origin, memory, now)?;
    }
    let origin = origin.unwrap_or_default();
    if let Some(Summary { upto_seq, text }) = &results.summary {
        let upto = integer(*upto_seq);
        let (text, sealed) = home
            .owner
            .session(origin)
            .summary(upto, |at| kept(&home.texts, at, text))?;
        connection
            .prepare_cached(
                "UPDATE session SET summary = ?2, summary_upto = ?3, sealed_summary = ?4 \
                 WHERE id = ?1 AND summary_upto < ?3",
            )?
            .execute(params![session, text, upto, sealed])?;
    }
    insert(connection, &home, (session, origin), &results.jobs, now)
}

#[async_trait]
impl JobStore for SqliteStore {
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let kinds: Vec<String> = request.kinds.iter().map(|&kind| kind.to_owned()).collect();
        let (lease, max_attempts) = (request.lease, request.max_attempts);
        self.write("claim", move |connection, now| {
            claim(connection, &kinds, lease, max_attempts, now)
        })
        .await
    }

    async fn heartbeat(&self, lease: &Lease, extend: Duration) -> Result<Lease, StoreError> {
        let lease = lease.clone();
        self.write("heartbeat", move |connection, now| {
            let until = now.after(extend);
            let Held { job, .. } = held(connection, &lease, now)?;
            connection
                .prepare_cached("UPDATE job SET due_at = ?2 WHERE id = ?1")?
                .execute(params![job, until.0])?;
            Ok(Lease { until, ..lease })
        })
        .await
    }

    async fn complete(&self, lease: &Lease, results: &JobResults) -> Result<(), StoreError> {
        let (lease, results) = (lease.clone(), results.clone());
        self.write("complete_job", move |connection, now| {
            complete(connection, &lease, &results, now)
        })
        .await
    }

    async fn fail(
        &self,
        lease: &Lease,
        retry_in: Option<Duration>,
        reason: &str,
    ) -> Result<FailedJob, StoreError> {
        let (lease, reason) = (lease.clone(), reason.to_owned());
        self.write("fail_job", move |connection, now| {
            let Held { job, .. } = held(connection, &lease, now)?;
            let Some(wait) = retry_in else {
                connection
                    .prepare_cached(DIE)?
                    .execute(params![job, now.0, reason])?;
                return Ok(FailedJob::Dead);
            };
            let due = now.after(wait);
            connection
                .prepare_cached("UPDATE job SET phase = 0, due_at = ?2, reason = ?3 WHERE id = ?1")?
                .execute(params![job, due.0, reason])?;
            Ok(FailedJob::RetryAt(due))
        })
        .await
    }

    async fn dead(&self, scope: &Scope, limit: usize) -> Result<Vec<DeadJob>, StoreError> {
        let owner = Owner::new(scope);
        self.read("dead_jobs", move |connection| {
            let Owner {
                tenant,
                user,
                agent,
            } = &owner;
            let texts = connection.texts(tenant)?;
            let mut all = Vec::new();
            let mut select = connection.prepare_cached(DEAD)?;
            let mut rows = select.query(params![tenant, user, agent, limit_of(limit)])?;
            while let Some(row) = rows.next()? {
                match dead(row, &owner, &texts) {
                    Ok(job) => all.push(job),
                    Err(error) if sealed_row(&error).is_some() => {
                        tracing::error!(error = %error, "a job that is dead does not open");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(all)
        })
        .await
    }

    async fn revive(&self, scope: &Scope, job: &JobId) -> Result<bool, StoreError> {
        let (owner, job) = (Owner::new(scope), job.clone());
        self.write("revive_job", move |connection, now| {
            let Some(owner) = owner.find(connection)? else {
                return Ok(false);
            };
            let mut update = connection.prepare_cached(
                "UPDATE job SET phase = 0, due_at = ?3, attempts = 0 \
                 WHERE name = ?1 AND owner = ?2 AND phase = 2",
            )?;
            Ok(update.execute(params![job.as_str(), owner, now.0])? > 0)
        })
        .await
    }
}
