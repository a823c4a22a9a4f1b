//! The session port.
//!
//! Invariant: whatever belongs to a session is written and deleted in a transaction that holds
//! the lock of the session's row, so its messages are numbered without gaps.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_core::{AgentId, Role, Scope, SessionId, TenantId, UserId};
use lyceum_memory::{
    NewTurn, Saved, Session, SessionCursor, SessionStore, StoreError, StoredMessage, Summary,
    TurnId,
};
use lyceum_vault::{OpenedKeys, Texts, places};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    connection::{self, Begun, Whose},
    error::Failure,
    jobs, memories,
    pool::Held,
    row::{id, integer, limit_of, millis, time, unsigned},
    scope::{Owner, SessionKey},
    sealing::{kept, opened, to_write},
};

/// How many months of messages have their partition ahead of time.
const MONTHS_AHEAD: i32 = 2;

/// The times of the session's messages name the partitions to look in, before any is opened.
pub(crate) const MESSAGES: &str = "\
    WITH s AS MATERIALIZED ( \
        SELECT s.id, s.oldest_at, s.newest_at \
        FROM lyceum.owner o JOIN lyceum.session s ON s.owner = o.id \
        WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 AND s.name = $4 \
    ) \
    SELECT seq, turn, role, content, created_at, sealed FROM lyceum.message \
    WHERE session = (SELECT id FROM s) AND seq < $5 \
        AND created_at >= (SELECT oldest_at FROM s) AND created_at <= (SELECT newest_at FROM s) \
    ORDER BY seq DESC LIMIT $6";

macro_rules! session {
    ($which:literal) => {
        concat!(
            "SELECT s.name, s.topic, s.messages, s.summary, s.summary_upto, s.completed, \
                s.created_at, s.updated_at, s.sealed_topic, s.sealed_summary \
            FROM lyceum.session s \
            WHERE s.owner = (SELECT id FROM lyceum.owner \
                WHERE tenant = $1 AND user_id = $2 AND agent = $3) ",
            $which
        )
    };
}

const SESSION: &str = session!("AND s.name = $4");

/// The newest sessions; [`SESSIONS_AFTER`] is the page after a cursor.
pub(crate) const SESSIONS: &str = session!("ORDER BY s.created_at DESC, s.name DESC LIMIT $4");

pub(crate) const SESSIONS_AFTER: &str = session!(
    "AND (s.created_at, s.name) < ($5, $6) ORDER BY s.created_at DESC, s.name DESC LIMIT $4"
);

/// Makes the session or finds it, locks its row either way, and then asks for the time.
const OPEN: &str = "\
    INSERT INTO lyceum.session AS s \
        (tenant, owner, name, topic, sealed_topic, created_at, updated_at, oldest_at, newest_at) \
    SELECT $1, $2, $3, $4, $5, now, now, now, now FROM (SELECT lyceum.now_ms() AS now) clock \
    ON CONFLICT (owner, name) DO UPDATE SET messages = s.messages \
    RETURNING id, messages, lyceum.now_ms()";

const TURN: &str =
    "SELECT first_seq, last_seq, digest FROM lyceum.turn WHERE session = $1 AND name = $2";

/// Everything of a turn but its memories, in one statement.
const APPEND: &str = "\
    WITH said AS ( \
        INSERT INTO lyceum.message \
            (tenant, session, seq, turn, role, content, created_at, sealed) \
        SELECT $1, $2, $3 + m.place, $4, m.role, m.content, $8, m.sealed \
        FROM unnest($5::text[], $6::text[], $9::bytea[]) WITH ORDINALITY \
            AS m (role, content, sealed, place) \
    ), turned AS ( \
        INSERT INTO lyceum.turn (tenant, session, name, first_seq, last_seq, digest) \
        VALUES ($1, $2, $4, $3 + 1, $3 + cardinality($5::text[]), $7) \
    ) \
    UPDATE lyceum.session SET messages = $3 + cardinality($5::text[]), completed = false, \
        updated_at = $8, oldest_at = least(oldest_at, $8), newest_at = greatest(newest_at, $8) \
    WHERE id = $2";

const COMPLETE: &str = "\
    UPDATE lyceum.session s SET completed = true FROM lyceum.owner o \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 \
        AND s.owner = o.id AND s.name = $4 RETURNING s.id";

/// Deletes the sessions that `doomed` locked, with all that belongs to them.
macro_rules! delete {
    ($doomed:literal) => {
        concat!(
            "WITH doomed AS MATERIALIZED (",
            $doomed,
            "), said AS ( \
                DELETE FROM lyceum.message m USING doomed WHERE m.session = doomed.id \
            ), turned AS ( \
                DELETE FROM lyceum.turn t USING doomed WHERE t.session = doomed.id \
            ), worked AS ( \
                DELETE FROM lyceum.job j USING doomed WHERE j.session = doomed.id \
            ), gone AS ( \
                DELETE FROM lyceum.session s USING doomed WHERE s.id = doomed.id \
                RETURNING s.owner, s.name \
            ) SELECT o.tenant, o.user_id, o.agent, gone.name \
            FROM gone JOIN lyceum.owner o ON o.id = gone.owner"
        )
    };
}

/// Locks the session first, so that the deletion sees every turn that was stored.
const LOCK: &str = "\
    SELECT s.id FROM lyceum.owner o JOIN lyceum.session s ON s.owner = o.id \
    WHERE o.tenant = $1 AND o.user_id = $2 AND o.agent = $3 AND s.name = $4 FOR UPDATE OF s";

const DELETE: &str = delete!("SELECT $1::bigint AS id");

pub(crate) const EXPIRE: &str = delete!(
    "SELECT s.id FROM lyceum.session s \
    WHERE s.completed AND s.updated_at < (SELECT lyceum.now_ms()) - $1 \
        AND NOT EXISTS (SELECT FROM lyceum.job j WHERE j.session = s.id AND j.phase < 2) \
    ORDER BY s.updated_at LIMIT $2 FOR UPDATE OF s SKIP LOCKED"
);

/// The length of a digest.
pub(crate) const DIGEST: usize = 32;

async fn append(
    session: &connection::Session,
    keys: &OpenedKeys,
    key: SessionKey<'_>,
    turn: &NewTurn,
    begun: Begun,
) -> Result<Saved, Failure> {
    let tenant = key.owner.tenant;
    let texts = to_write(keys, tenant, begun)?;
    let home = key.owner.ensure(session, &texts).await?;
    let (topic, sealed) = key.place().topic(|at| kept(&texts, at, &turn.topic))?;
    let opened = session
        .query_opt(OPEN, &[&tenant, &home.id, &key.name, &topic, &sealed])
        .await?;
    let opened =
        opened.ok_or_else(|| Failure::corrupt("a session can neither be made nor found"))?;
    let (row, before): (i64, i64) = (opened.try_get(0)?, opened.try_get(1)?);
    let now: i64 = opened.try_get(2)?;
    let (name, digest) = (turn.turn_id.as_str(), turn.digest());
    if let Some(known) = session.query_opt(TURN, &[&row, &name]).await? {
        let first: Option<&[u8]> = known.try_get(2)?;
        let open = |first| {
            key.place()
                .turn(name, |at| texts.open_bytes(at, first, DIGEST))
        };
        let first = first.map(open).transpose()?;
        if first.is_some_and(|first| first != digest) {
            return Err(Failure::Store(StoreError::TurnConflict {
                turn: turn.turn_id.clone(),
            }));
        }
        return Ok(Saved {
            first_seq: unsigned(known.try_get(0)?),
            last_seq: unsigned(known.try_get(1)?),
            replayed: true,
        });
    }
    let roles: Vec<&str> = turn
        .messages
        .iter()
        .map(|message| message.role.as_str())
        .collect();
    let (mut contents, mut seals) = (Vec::new(), Vec::new());
    for (seq, message) in (before + 1..).zip(&turn.messages) {
        let said = places::Message {
            seq,
            turn: name,
            role: message.role.as_str(),
            created_at: now,
        };
        let (content, sealed) = key
            .place()
            .message(said, |at| kept(&texts, at, &message.content))?;
        contents.push(content);
        seals.push(sealed);
    }
    let digest = key
        .place()
        .turn(name, |at| texts.seal_bytes(at, digest.to_vec()))?;
    let params: [connection::Param<'_>; 9] = [
        &tenant, &row, &before, &name, &roles, &contents, &digest, &now, &seals,
    ];
    session.execute(APPEND, &params).await?;
    jobs::insert(session, home, (row, key.name), &turn.jobs).await?;
    memories::insert(session, home, Some(key.name), &turn.memories, now).await?;
    Ok(Saved {
        first_seq: unsigned(before + 1),
        last_seq: unsigned(before) + turn.messages.len() as u64,
        replayed: false,
    })
}

fn message(row: &Row, key: SessionKey<'_>, texts: &Texts) -> Result<StoredMessage, Failure> {
    let said = places::Message {
        seq: row.try_get(0)?,
        turn: row.try_get(1)?,
        role: row.try_get(2)?,
        created_at: row.try_get(4)?,
    };
    let columns = (row.try_get(3)?, row.try_get(5)?);
    let content = key.place().message(said, |at| opened(texts, at, columns))?;
    let known = [Role::System, Role::User, Role::Assistant, Role::Tool];
    let role = known.into_iter().find(|known| known.as_str() == said.role);
    Ok(StoredMessage {
        seq: unsigned(said.seq),
        turn_id: id(row, 1, TurnId::new)?,
        role: role.ok_or_else(|| Failure::corrupt("a message has an unknown role"))?,
        content,
        created_at: time(row, 4)?,
    })
}

fn session(row: &Row, owner: Owner<'_>, texts: &Texts) -> Result<Session, Failure> {
    let name: &str = row.try_get(0)?;
    let key = SessionKey { owner, name };
    let columns = (row.try_get(1)?, row.try_get(8)?);
    let topic = key.place().topic(|at| opened(texts, at, columns))?;
    let upto: i64 = row.try_get(4)?;
    let summary = match row.try_get::<_, Option<String>>(3)? {
        None => None,
        Some(clear) => {
            let columns = (clear, row.try_get(9)?);
            let text = key.place().summary(upto, |at| opened(texts, at, columns))?;
            let upto_seq = unsigned(upto);
            Some(Summary { upto_seq, text })
        }
    };
    Ok(Session {
        id: id(row, 0, SessionId::new)?,
        topic,
        messages: unsigned(row.try_get(2)?),
        summary,
        completed: row.try_get(5)?,
        created_at: time(row, 6)?,
        updated_at: time(row, 7)?,
    })
}

#[async_trait]
impl SessionStore for PostgresStore {
    async fn append(&self, scope: &Scope, turn: &NewTurn) -> Result<Saved, StoreError> {
        let key = SessionKey::new(scope)?;
        self.call("append", |session: Held| async move {
            let work = |begun| append(&session, self.keys(), key, turn, begun);
            session.write(key.owner.whose(), work).await
        })
        .await
    }

    async fn messages(
        &self,
        scope: &Scope,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let key = SessionKey::new(scope)?;
        let SessionKey { owner, name } = key;
        let (before, limit) = (before.map_or(i64::MAX, integer), limit_of(limit));
        self.call("messages", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let params: [connection::Param<'_>; 6] =
                [&tenant, &user, &agent, &name, &before, &limit];
            let (texts, rows) = self.rows(&session, tenant, MESSAGES, &params).await?;
            let rows = rows.iter().rev();
            rows.map(|row| message(row, key, &texts)).collect()
        })
        .await
    }

    async fn session(&self, scope: &Scope) -> Result<Option<Session>, StoreError> {
        let SessionKey { owner, name } = SessionKey::new(scope)?;
        self.call("session", |held: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let params: [connection::Param<'_>; 4] = [&tenant, &user, &agent, &name];
            let (texts, rows) = self.rows(&held, tenant, SESSION, &params).await?;
            let row = rows.first();
            row.map(|row| session(row, owner, &texts)).transpose()
        })
        .await
    }

    async fn sessions(
        &self,
        scope: &Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let (owner, limit) = (Owner::new(scope), limit_of(limit));
        self.call("sessions", |held: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let (texts, rows) = match after {
                None => {
                    let params: [connection::Param<'_>; 4] = [&tenant, &user, &agent, &limit];
                    self.rows(&held, tenant, SESSIONS, &params).await?
                }
                Some(SessionCursor { created_at, id }) => {
                    let (age, name) = (created_at.0, id.as_str());
                    let params: [connection::Param<'_>; 6] =
                        [&tenant, &user, &agent, &limit, &age, &name];
                    self.rows(&held, tenant, SESSIONS_AFTER, &params).await?
                }
            };
            rows.iter().map(|row| session(row, owner, &texts)).collect()
        })
        .await
    }

    async fn complete(&self, scope: &Scope) -> Result<bool, StoreError> {
        let SessionKey { owner, name } = SessionKey::new(scope)?;
        self.call("complete_session", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let params: [connection::Param<'_>; 4] = [&tenant, &user, &agent, &name];
            Ok(!session
                .ask(owner.whose(), COMPLETE, &params)
                .await?
                .is_empty())
        })
        .await
    }

    async fn delete(&self, scope: &Scope) -> Result<bool, StoreError> {
        let SessionKey { owner, name } = SessionKey::new(scope)?;
        self.call("delete_session", |session: Held| async move {
            let Owner {
                tenant,
                user,
                agent,
            } = owner;
            let work = async {
                let params: [connection::Param<'_>; 4] = [&tenant, &user, &agent, &name];
                let Some(found) = session.query_opt(LOCK, &params).await? else {
                    return Ok(false);
                };
                session
                    .query(DELETE, &[&found.try_get::<_, i64>(0)?])
                    .await?;
                Ok(true)
            };
            session.write(owner.whose(), |_| work).await
        })
        .await
    }

    /// Also makes the partitions of the coming months, so that they are there in time.
    async fn expire(&self, idle: Duration, limit: usize) -> Result<Vec<Scope>, StoreError> {
        self.make_partitions().await?;
        let (idle, limit) = (millis(idle), limit_of(limit));
        self.call("expire", |session: Held| async move {
            let rows = session
                .ask(Whose::Operator, EXPIRE, &[&idle, &limit])
                .await?;
            let scope = |row: &Row| {
                Ok(Scope {
                    tenant: id(row, 0, TenantId::new)?,
                    user: id(row, 1, UserId::new)?,
                    agent: id(row, 2, AgentId::new)?,
                    session: Some(id(row, 3, SessionId::new)?),
                })
            };
            rows.iter().map(scope).collect()
        })
        .await
    }
}

impl PostgresStore {
    /// Makes the partitions of this month's and the coming months' messages.
    pub(crate) async fn make_partitions(&self) -> Result<(), StoreError> {
        self.call("make_partitions", |session: Held| async move {
            let make = "SELECT lyceum.make_partitions($1)";
            session.query(make, &[&MONTHS_AHEAD]).await?;
            Ok(())
        })
        .await
    }
}
