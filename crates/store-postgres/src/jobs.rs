//! The job port: claims, leases and dead letters as updates of one row.
//!
//! Invariant: whatever a worker writes is written in a transaction that found its lease valid by
//! the server's clock and holds the lock of the job's row. Workers never wait for each other: a
//! row that another one claims is passed over.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_core::{AgentId, Scope, SessionId, TenantId, UserId};
use lyceum_memory::{
    Claim, ClaimRequest, ClaimedJob, DeadJob, FailedJob, JobId, JobResults, JobStore, Lease,
    NewJob, StoreError, Summary, Timestamp, VANISHED,
};
use lyceum_vault::{At, OpenedKeys, Texts};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    connection::{Begun, Param, Session, Whose},
    error::Failure,
    memories,
    pool::Held,
    row::{id, integer, limit_of, millis, text, time, unsigned},
    scope::{Home, Owner, OwnerRow, SessionKey},
    sealing::{kept, opened, texts_of, to_write},
    text::stored,
};

const INSERT: &str = "\
    INSERT INTO lyceum.job \
        (tenant, name, session, owner, kind, payload, due_at, created_at, sealed) \
    SELECT $1, j.name, $2, $3, j.kind, j.payload, clock.now, clock.now, j.sealed \
    FROM (SELECT lyceum.now_ms() AS now) clock, \
        unnest($4::text[], $5::text[], $6::text[], $7::bytea[]) WITH ORDINALITY \
        AS j (name, kind, payload, sealed, place) \
    ORDER BY j.place";

/// Takes the job that is due longest, or buries it when it was claimed too often.
pub(crate) const CLAIM: &str = "\
    WITH clock AS MATERIALIZED (SELECT lyceum.now_ms() AS now), next AS ( \
        SELECT due.id FROM unnest($1::text[]) AS wanted (kind) CROSS JOIN LATERAL ( \
            SELECT id, due_at FROM lyceum.job \
            WHERE kind = wanted.kind AND phase < 2 AND due_at <= (SELECT now FROM clock) \
            ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED \
        ) due ORDER BY due.due_at, due.id LIMIT 1 \
    ) \
    UPDATE lyceum.job j SET \
        phase = CASE WHEN j.attempts >= $3 THEN 2 ELSE 1 END, \
        due_at = clock.now + CASE WHEN j.attempts >= $3 THEN 0 ELSE $2::bigint END, \
        epoch = j.epoch + CASE WHEN j.attempts >= $3 THEN 0 ELSE 1 END, \
        attempts = j.attempts + CASE WHEN j.attempts >= $3 THEN 0 ELSE 1 END, \
        reason = CASE WHEN j.attempts >= $3 THEN $4 ELSE j.reason END \
    FROM clock, next, lyceum.session s, lyceum.owner o \
    WHERE j.id = next.id AND s.id = j.session AND o.id = j.owner \
    RETURNING j.name, o.tenant, o.user_id, o.agent, s.name, j.epoch, j.due_at, j.kind, j.payload, \
        j.attempts, j.created_at, j.phase, j.sealed";

/// When the next job is due that is not due yet.
pub(crate) const NEXT: &str = "\
    SELECT min(due.due_at) - min(clock.now) \
    FROM (SELECT lyceum.now_ms() AS now OFFSET 0) clock, unnest($1::text[]) AS wanted (kind) \
    CROSS JOIN LATERAL ( \
        SELECT due_at FROM lyceum.job \
        WHERE kind = wanted.kind AND phase < 2 AND due_at > clock.now ORDER BY due_at LIMIT 1 \
    ) due";

pub(crate) const DEAD: &str = "\
    SELECT name, kind, payload, attempts, reason, due_at, sealed, \
        (SELECT s.name FROM lyceum.session s WHERE s.id = j.session) FROM lyceum.job j \
    WHERE owner = (SELECT id FROM lyceum.owner \
        WHERE tenant = $1 AND user_id = $2 AND agent = $3) \
    AND phase = 2 ORDER BY due_at DESC, id LIMIT $4";

/// The job whose lease is valid and bound to the scope.
macro_rules! held {
    ($change:literal, $result:literal) => {
        concat!(
            $change,
            "WHERE j.name = $1 AND j.epoch = $2 AND j.phase = 1 AND j.due_at > lyceum.now_ms() \
                AND s.id = j.session AND s.name = $3 AND o.id = j.owner \
                AND o.tenant = $4 AND o.user_id = $5 AND o.agent = $6 ",
            $result
        )
    };
}

const EXTEND: &str = held!(
    "UPDATE lyceum.job j SET due_at = lyceum.now_ms() + $7 \
    FROM lyceum.session s, lyceum.owner o ",
    "RETURNING j.due_at"
);

const RETRY: &str = held!(
    "UPDATE lyceum.job j SET phase = 0, due_at = lyceum.now_ms() + $7, reason = $8 \
    FROM lyceum.session s, lyceum.owner o ",
    "RETURNING j.due_at"
);

const DIE: &str = held!(
    "UPDATE lyceum.job j SET phase = 2, due_at = lyceum.now_ms(), reason = $7 \
    FROM lyceum.session s, lyceum.owner o ",
    "RETURNING j.due_at"
);

const COMPLETE: &str = held!(
    "DELETE FROM lyceum.job j USING lyceum.session s, lyceum.owner o ",
    "RETURNING j.owner, j.session, lyceum.now_ms()"
);

const SUMMARISE: &str = "\
    UPDATE lyceum.session SET summary = $2, summary_upto = $3, sealed_summary = $4 \
    WHERE id = $1 AND summary_upto < $3";

const REVIVE: &str = "\
    UPDATE lyceum.job j SET phase = 0, due_at = lyceum.now_ms(), attempts = 0 \
    FROM lyceum.owner o \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 \
        AND j.owner = o.id AND j.name = $4 AND j.phase = 2 RETURNING j.id";

/// The reason of a job whose payload was changed, or whose key is gone.
const UNREADABLE: &str = "it does not open";

const BURY: &str = "\
    UPDATE lyceum.job SET phase = 2, due_at = lyceum.now_ms(), reason = $2 WHERE name = $1";

/// Adds jobs that are due at once; inside a transaction that holds the session's row.
pub(crate) async fn insert(
    session: &Session,
    home: Home<'_>,
    (row, name): (i64, &str),
    jobs: &[NewJob],
) -> Result<(), Failure> {
    if jobs.is_empty() {
        return Ok(());
    }
    let owner = home.owner;
    let key = SessionKey { owner, name };
    let names: Vec<String> = jobs.iter().map(|_| JobId::random().to_string()).collect();
    let kinds: Vec<&str> = jobs.iter().map(|job| job.kind.as_str()).collect();
    let (mut payloads, mut seals) = (Vec::new(), Vec::new());
    for (name, job) in names.iter().zip(jobs) {
        let payload = job.payload.to_string();
        let keep = |at: At<'_>| {
            let (clear, sealed) = kept(home.texts, at, &payload)?;
            Ok::<_, Failure>((clear.into_owned(), sealed))
        };
        let (payload, sealed) = key.place().job((name, &job.kind), keep)?;
        payloads.push(payload);
        seals.push(sealed);
    }
    let params: [Param<'_>; 7] = [
        &owner.tenant,
        &row,
        &home.id,
        &names,
        &kinds,
        &payloads,
        &seals,
    ];
    session.execute(INSERT, &params).await?;
    Ok(())
}

fn claimed(row: &Row, texts: &Texts) -> Result<ClaimedJob, Failure> {
    let owner = OwnerRow::read(row, 1)?;
    let (name, session): (&str, &str) = (row.try_get(0)?, row.try_get(4)?);
    let kind: String = row.try_get(7)?;
    let key = SessionKey {
        owner: owner.owner(),
        name: session,
    };
    let columns = (row.try_get(8)?, row.try_get(12)?);
    let payload = key
        .place()
        .job((name, &kind), |at| opened(texts, at, columns))?;
    Ok(ClaimedJob {
        lease: Lease {
            job: id(row, 0, JobId::new)?,
            scope: Scope {
                tenant: id(row, 1, TenantId::new)?,
                user: id(row, 2, UserId::new)?,
                agent: id(row, 3, AgentId::new)?,
                session: Some(id(row, 4, SessionId::new)?),
            },
            epoch: unsigned(row.try_get(5)?),
            until: time(row, 6)?,
        },
        kind,
        payload: serde_json::from_str(&payload).map_err(Failure::corrupt)?,
        attempts: attempts(row, 9)?,
        created_at: time(row, 10)?,
    })
}

fn attempts(row: &Row, at: usize) -> Result<u32, Failure> {
    u32::try_from(row.try_get::<_, i64>(at)?).map_err(Failure::corrupt)
}

fn dead(row: &Row, owner: Owner<'_>, texts: &Texts) -> Result<DeadJob, Failure> {
    let (name, kind): (&str, String) = (row.try_get(0)?, row.try_get(1)?);
    let key = SessionKey {
        owner,
        name: row.try_get(7)?,
    };
    let columns = (row.try_get(2)?, row.try_get(6)?);
    let payload = key
        .place()
        .job((name, &kind), |at| opened(texts, at, columns))?;
    Ok(DeadJob {
        id: id(row, 0, JobId::new)?,
        kind,
        payload: serde_json::from_str(&payload).map_err(Failure::corrupt)?,
        attempts: attempts(row, 3)?,
        reason: text(row, 4)?,
        died_at: time(row, 5)?,
    })
}

/// A step of handing out: what one statement took.
enum Taken {
    Nothing,
    /// One that was buried, or given up.
    Dead,
    Job(Box<ClaimedJob>),
}

/// Takes the next job that is due. Where texts are sealed its key is looked for while its row is
/// locked, so that it is one that opens it.
async fn take(
    session: &Session,
    keys: &OpenedKeys,
    params: &[Param<'_>],
) -> Result<Taken, Failure> {
    if keys.masters().is_none() {
        let rows = session.ask(Whose::Operator, CLAIM, params).await?;
        return taken(rows.first(), |tenant| Ok(keys.texts(&tenant, Vec::new())?));
    }
    let work = async {
        let rows = session.query(CLAIM, params).await?;
        let Some(row) = rows.first() else {
            return Ok(Taken::Nothing);
        };
        let texts = texts_of(session, keys, row.try_get(1)?).await?;
        match taken(Some(row), |_| Ok(texts)) {
            // The jobs of others wait behind it.
            Err(Failure::Sealed(error)) => {
                tracing::error!(%error, "a job is given up: it does not open");
                let name: &str = row.try_get(0)?;
                session.execute(BURY, &[&name, &UNREADABLE]).await?;
                Ok(Taken::Dead)
            }
            taken => taken,
        }
    };
    session.write(Whose::Operator, |_| work).await
}

fn taken(
    row: Option<&Row>,
    texts: impl FnOnce(String) -> Result<Texts, Failure>,
) -> Result<Taken, Failure> {
    let Some(row) = row else {
        return Ok(Taken::Nothing);
    };
    if row.try_get::<_, i16>(11)? != 1 {
        return Ok(Taken::Dead);
    }
    let texts = texts(row.try_get(1)?)?;
    Ok(Taken::Job(Box::new(claimed(row, &texts)?)))
}

async fn claim(
    session: &Session,
    keys: &OpenedKeys,
    request: &ClaimRequest<'_>,
) -> Result<Claim, Failure> {
    let (kinds, lease) = (request.kinds, millis(request.lease));
    let most = i64::from(request.max_attempts);
    let params: [Param<'_>; 4] = [&kinds, &lease, &most, &VANISHED];
    loop {
        match take(session, keys, &params).await? {
            Taken::Job(job) => return Ok(Claim::Job(job)),
            Taken::Dead => {}
            Taken::Nothing => break,
        }
    }
    let rows = session.ask(Whose::Operator, NEXT, &[&kinds]).await?;
    let due_in: Option<i64> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
    Ok(Claim::Idle {
        due_in: due_in.map(|wait| Duration::from_millis(unsigned(wait))),
    })
}

/// The parameters that [`held!`] takes first.
struct Bound<'a> {
    job: &'a str,
    epoch: i64,
    session: Option<&'a str>,
    owner: Owner<'a>,
}

impl<'a> Bound<'a> {
    fn new(lease: &'a Lease) -> Self {
        Self {
            job: lease.job.as_str(),
            epoch: integer(lease.epoch),
            session: lease.scope.session.as_ref().map(SessionId::as_str),
            owner: Owner::new(&lease.scope),
        }
    }

    fn params<'p>(&'p self, more: &[Param<'p>]) -> Vec<Param<'p>> {
        let Self {
            job,
            epoch,
            session,
            owner,
        } = self;
        let mut params: Vec<Param<'p>> = vec![job, epoch, session];
        params.extend([&owner.tenant as Param<'p>, &owner.user, &owner.agent]);
        params.extend(more);
        params
    }
}

fn lost(lease: &Lease) -> Failure {
    Failure::Store(StoreError::LeaseLost {
        job: lease.job.clone(),
    })
}

async fn complete(
    session: &Session,
    keys: &OpenedKeys,
    lease: &Lease,
    results: &JobResults,
    begun: Begun,
) -> Result<(), Failure> {
    let bound = Bound::new(lease);
    let texts = to_write(keys, bound.owner.tenant, begun)?;
    let done = session.query_opt(COMPLETE, &bound.params(&[])).await?;
    let done = done.ok_or_else(|| lost(lease))?;
    let (row, now): (i64, i64) = (done.try_get(1)?, done.try_get(2)?);
    let (owner, name) = (bound.owner, bound.session.unwrap_or_default());
    let key = SessionKey { owner, name };
    let home = Home {
        id: done.try_get(0)?,
        owner,
        texts: &texts,
    };
    if let Some(Summary { upto_seq, text }) = &results.summary {
        let upto = integer(*upto_seq);
        let (text, sealed) = key.place().summary(upto, |at| kept(&texts, at, text))?;
        session
            .execute(SUMMARISE, &[&row, &text, &upto, &sealed])
            .await?;
    }
    insert(session, home, (row, name), &results.jobs).await?;
    memories::insert(session, home, bound.session, &results.memories, now)
        .await
        .map(drop)
}

#[async_trait]
impl JobStore for PostgresStore {
    /// Not repeated when its answer is lost: the first attempt may have taken a job, which is
    /// then due again when its lease has ended.
    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.call_once("claim", |session: Held| async move {
            claim(&session, self.keys(), request).await
        })
        .await
    }

    async fn heartbeat(&self, lease: &Lease, extend: Duration) -> Result<Lease, StoreError> {
        let bound = &Bound::new(lease);
        let extend = &millis(extend);
        self.call("heartbeat", |session: Held| async move {
            let rows = session
                .ask(bound.owner.whose(), EXTEND, &bound.params(&[extend]))
                .await?;
            let row = rows.first().ok_or_else(|| lost(lease))?;
            Ok(Lease {
                until: time(row, 0)?,
                ..lease.clone()
            })
        })
        .await
    }

    async fn complete(&self, lease: &Lease, results: &JobResults) -> Result<(), StoreError> {
        self.call("complete_job", |session: Held| async move {
            let whose = Owner::new(&lease.scope).whose();
            let work = |begun| complete(&session, self.keys(), lease, results, begun);
            session.write(whose, work).await
        })
        .await
    }

    async fn fail(
        &self,
        lease: &Lease,
        retry_in: Option<Duration>,
        reason: &str,
    ) -> Result<FailedJob, StoreError> {
        let (bound, reason) = (&Bound::new(lease), &stored(reason));
        let wait = retry_in.map(millis);
        self.call("fail_job", |session: Held| async move {
            let whose = bound.owner.whose();
            let rows = match &wait {
                Some(wait) => {
                    session
                        .ask(whose, RETRY, &bound.params(&[wait, reason]))
                        .await?
                }
                None => session.ask(whose, DIE, &bound.params(&[reason])).await?,
            };
            let row = rows.first().ok_or_else(|| lost(lease))?;
            let due: Timestamp = time(row, 0)?;
            Ok(wait.map_or(FailedJob::Dead, |_| FailedJob::RetryAt(due)))
        })
        .await
    }

    async fn dead(&self, scope: &Scope, limit: usize) -> Result<Vec<DeadJob>, StoreError> {
        let (owner, limit) = (Owner::new(scope), limit_of(limit));
        self.call("dead_jobs", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let params: [Param<'_>; 4] = [&tenant, &user, &agent, &limit];
            let (texts, rows) = self.rows(&session, tenant, DEAD, &params).await?;
            let mut all = Vec::new();
            for row in &rows {
                match dead(row, owner, &texts) {
                    Err(Failure::Sealed(error)) => {
                        tracing::error!(%error, "a job that is dead does not open");
                    }
                    job => all.push(job?),
                }
            }
            Ok(all)
        })
        .await
    }

    async fn revive(&self, scope: &Scope, job: &JobId) -> Result<bool, StoreError> {
        let owner = Owner::new(scope);
        self.call("revive_job", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let rows = session
                .ask(
                    owner.whose(),
                    REVIVE,
                    &[&tenant, &user, &agent, &job.as_str()],
                )
                .await?;
            Ok(!rows.is_empty())
        })
        .await
    }
}
