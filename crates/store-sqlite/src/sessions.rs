//! The session port.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_core::{AgentId, Role, Scope, SessionId, TenantId, UserId};
use lyceum_memory::{
    NewTurn, Saved, Session, SessionCursor, SessionStore, StoreError, StoredMessage, Summary,
    Timestamp, TurnId,
};
use lyceum_vault::places;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    SqliteStore,
    error::Failure,
    jobs, memories,
    row::{LAST_NAME, id_at, integer, limit_of, unsigned},
    scope::{Owner, SessionKey},
    sealed::{At, Db, Texts},
};

pub(crate) const MESSAGES: &str = "\
    SELECT seq, turn, role, content, created_at, sealed FROM message \
    WHERE session = (SELECT s.id FROM owner o JOIN session s ON s.owner = o.id \
        WHERE o.tenant = ?1 AND o.user = ?2 AND o.agent = ?3 AND s.name = ?4) \
    AND seq < ?5 ORDER BY seq DESC LIMIT ?6";

pub(crate) const SESSIONS: &str = "\
    SELECT name, topic, messages, summary, summary_upto, completed, created_at, updated_at, \
        sealed_topic, sealed_summary FROM session \
    WHERE owner = (SELECT id FROM owner WHERE tenant = ?1 AND user = ?2 AND agent = ?3) \
    AND (created_at, name) < (?4, ?5) ORDER BY created_at DESC, name DESC LIMIT ?6";

const SESSION: &str = "\
    SELECT s.name, s.topic, s.messages, s.summary, s.summary_upto, s.completed, s.created_at, \
        s.updated_at, s.sealed_topic, s.sealed_summary \
    FROM owner o JOIN session s ON s.owner = o.id \
    WHERE o.tenant = ?1 AND o.user = ?2 AND o.agent = ?3 AND s.name = ?4";

pub(crate) const EXPIRE: &str = "\
    DELETE FROM session WHERE id IN (SELECT s.id FROM session s \
        WHERE s.completed = 1 AND s.updated_at < ?1 \
        AND NOT EXISTS (SELECT 1 FROM job j WHERE j.session = s.id AND j.phase < 2) \
        ORDER BY s.updated_at LIMIT ?2) \
    RETURNING (SELECT tenant FROM owner AS o WHERE o.id = owner), \
        (SELECT user FROM owner AS o WHERE o.id = owner), \
        (SELECT agent FROM owner AS o WHERE o.id = owner), name";

/// The length of a digest.
pub(crate) const DIGEST: usize = 32;

/// A text for its clear column, and sealed for the other.
pub(crate) fn kept<'a>(
    texts: &Texts,
    at: At<'_>,
    text: &'a str,
) -> Result<(&'a str, Option<Vec<u8>>), Failure> {
    let sealed = texts.seal(at, &[text])?;
    Ok((if sealed.is_some() { "" } else { text }, sealed))
}

fn append(
    connection: &Db<'_>,
    key: &SessionKey,
    turn: &NewTurn,
    now: Timestamp,
) -> Result<Saved, Failure> {
    let home = key.owner.ensure(connection)?;
    let (owner, texts) = (home.id, &home.texts);
    let known: Option<(i64, i64)> = connection
        .prepare_cached("SELECT id, messages FROM session WHERE owner = ?1 AND name = ?2")?
        .query_row(params![owner, key.name], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (session, before) = match known {
        Some(known) => known,
        None => {
            let (topic, sealed) = key.place().topic(|at| kept(texts, at, &turn.topic))?;
            connection
                .prepare_cached(
                    "INSERT INTO session (owner, name, topic, created_at, updated_at, \
                     sealed_topic) VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
                )?
                .execute(params![owner, key.name, topic, now.0, sealed])?;
            (connection.last_insert_rowid(), 0)
        }
    };
    let digest = turn.digest();
    if let Some(saved) = replayed(connection, (session, key), texts, turn, digest)? {
        return Ok(saved);
    }
    let name = turn.turn_id.as_str();
    let mut insert = connection.prepare_cached(
        "INSERT INTO message (session, seq, turn, role, content, created_at, sealed) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut last = before;
    for message in &turn.messages {
        last += 1;
        let role = message.role.as_str();
        let of = places::Message {
            seq: last,
            turn: name,
            role,
            created_at: now.0,
        };
        let (content, sealed) = key
            .place()
            .message(of, |at| kept(texts, at, &message.content))?;
        insert.execute(params![session, last, name, role, content, now.0, sealed])?;
    }
    let digest = key
        .place()
        .turn(name, |at| texts.seal_bytes(at, digest.to_vec()))?;
    connection
        .prepare_cached(
            "INSERT INTO turn (session, name, first_seq, last_seq, digest) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![session, name, before + 1, last, digest])?;
    connection
        .prepare_cached(
            "UPDATE session SET messages = ?2, completed = 0, updated_at = ?3 WHERE id = ?1",
        )?
        .execute(params![session, last, now.0])?;
    for memory in &turn.memories {
        memories::insert(connection, &home, Some(&key.name), memory, now)?;
    }
    jobs::insert(connection, &home, (session, &key.name), &turn.jobs, now)?;
    Ok(Saved {
        first_seq: unsigned(before + 1),
        last_seq: unsigned(last),
        replayed: false,
    })
}

fn replayed(
    connection: &Connection,
    (session, key): (i64, &SessionKey),
    texts: &Texts,
    turn: &NewTurn,
    digest: [u8; DIGEST],
) -> Result<Option<Saved>, Failure> {
    let stored = connection
        .prepare_cached(
            "SELECT first_seq, last_seq, digest FROM turn WHERE session = ?1 AND name = ?2",
        )?
        .query_row(params![session, turn.turn_id.as_str()], |row| {
            let saved = Saved {
                first_seq: unsigned(row.get(0)?),
                last_seq: unsigned(row.get(1)?),
                replayed: true,
            };
            let known: Option<Vec<u8>> = row.get(2)?;
            let open = |bytes: Vec<u8>| {
                key.place().turn(turn.turn_id.as_str(), |at| {
                    texts.open_bytes(at, &bytes, DIGEST)
                })
            };
            Ok((saved, known.map(open).transpose()?))
        })
        .optional()?;
    match stored {
        None => Ok(None),
        Some((saved, known)) if known.as_ref().is_none_or(|known| *known == digest) => {
            Ok(Some(saved))
        }
        Some(_) => Err(Failure::Store(StoreError::TurnConflict {
            turn: turn.turn_id.clone(),
        })),
    }
}

fn message(row: &Row<'_>, key: &SessionKey, texts: &Texts) -> rusqlite::Result<StoredMessage> {
    let role: String = row.get(2)?;
    let turn: String = row.get(1)?;
    let of = places::Message {
        seq: row.get(0)?,
        turn: &turn,
        role: &role,
        created_at: row.get(4)?,
    };
    let (sealed, clear) = (row.get(5)?, [row.get(3)?]);
    let [content] = key
        .place()
        .message(of, |at| texts.open(at, sealed, clear))?;
    let known = [Role::System, Role::User, Role::Assistant, Role::Tool];
    let role = known.into_iter().find(|known| known.as_str() == role);
    Ok(StoredMessage {
        seq: unsigned(row.get(0)?),
        turn_id: id_at(row, 1, TurnId::new)?,
        role: role.ok_or(rusqlite::Error::InvalidColumnType(
            2,
            "role".into(),
            rusqlite::types::Type::Text,
        ))?,
        content,
        created_at: Timestamp(row.get(4)?),
    })
}

fn session(row: &Row<'_>, owner: &Owner, texts: &Texts) -> rusqlite::Result<Session> {
    let name: String = row.get(0)?;
    let (sealed, clear) = (row.get(8)?, [row.get(1)?]);
    let [topic] = owner
        .session(&name)
        .topic(|at| texts.open(at, sealed, clear))?;
    let upto: i64 = row.get(4)?;
    let summary = match row.get::<_, Option<String>>(3)? {
        None => None,
        Some(clear) => {
            let sealed = row.get(9)?;
            let [text] = owner
                .session(&name)
                .summary(upto, |at| texts.open(at, sealed, [clear]))?;
            let upto_seq = unsigned(upto);
            Some(Summary { upto_seq, text })
        }
    };
    Ok(Session {
        id: id_at(row, 0, SessionId::new)?,
        topic,
        messages: unsigned(row.get(2)?),
        summary,
        completed: row.get(5)?,
        created_at: Timestamp(row.get(6)?),
        updated_at: Timestamp(row.get(7)?),
    })
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn append(&self, scope: &Scope, turn: &NewTurn) -> Result<Saved, StoreError> {
        let (key, turn) = (SessionKey::new(scope)?, turn.clone());
        self.write("append", move |connection, now| {
            append(connection, &key, &turn, now)
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
        let before = before.map_or(i64::MAX, integer);
        self.read("messages", move |connection| {
            let Owner {
                tenant,
                user,
                agent,
            } = &key.owner;
            let texts = connection.texts(tenant)?;
            let mut messages = connection
                .prepare_cached(MESSAGES)?
                .query_map(
                    params![tenant, user, agent, key.name, before, limit_of(limit)],
                    |row| message(row, &key, &texts),
                )?
                .collect::<Result<Vec<_>, _>>()?;
            messages.reverse();
            Ok(messages)
        })
        .await
    }

    async fn session(&self, scope: &Scope) -> Result<Option<Session>, StoreError> {
        let key = SessionKey::new(scope)?;
        self.read("session", move |connection| {
            let Owner {
                tenant,
                user,
                agent,
            } = &key.owner;
            let texts = connection.texts(tenant)?;
            Ok(connection
                .prepare_cached(SESSION)?
                .query_row(params![tenant, user, agent, key.name], |row| {
                    session(row, &key.owner, &texts)
                })
                .optional()?)
        })
        .await
    }

    async fn sessions(
        &self,
        scope: &Scope,
        after: Option<&SessionCursor>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let owner = Owner::new(scope);
        let (age, name) = match after {
            Some(cursor) => (cursor.created_at.0, cursor.id.to_string()),
            None => (i64::MAX, LAST_NAME.to_owned()),
        };
        self.read("sessions", move |connection| {
            let Owner {
                tenant,
                user,
                agent,
            } = &owner;
            let texts = connection.texts(tenant)?;
            Ok(connection
                .prepare_cached(SESSIONS)?
                .query_map(
                    params![tenant, user, agent, age, name, limit_of(limit)],
                    |row| session(row, &owner, &texts),
                )?
                .collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn complete(&self, scope: &Scope) -> Result<bool, StoreError> {
        let key = SessionKey::new(scope)?;
        self.write("complete_session", move |connection, _| {
            let Some((_, session)) = key.find(connection)? else {
                return Ok(false);
            };
            let mut update =
                connection.prepare_cached("UPDATE session SET completed = 1 WHERE id = ?1")?;
            Ok(update.execute([session])? > 0)
        })
        .await
    }

    async fn delete(&self, scope: &Scope) -> Result<bool, StoreError> {
        let key = SessionKey::new(scope)?;
        self.write("delete_session", move |connection, _| {
            let Some((_, session)) = key.find(connection)? else {
                return Ok(false);
            };
            let mut delete = connection.prepare_cached("DELETE FROM session WHERE id = ?1")?;
            Ok(delete.execute([session])? > 0)
        })
        .await
    }

    async fn expire(&self, idle: Duration, limit: usize) -> Result<Vec<Scope>, StoreError> {
        self.write("expire", move |connection, now| {
            let cutoff = now.before(idle).0;
            let mut delete = connection.prepare_cached(EXPIRE)?;
            let gone = delete.query_map(params![cutoff, limit_of(limit)], |row| {
                Ok(Scope {
                    tenant: id_at(row, 0, TenantId::new)?,
                    user: id_at(row, 1, UserId::new)?,
                    agent: id_at(row, 2, AgentId::new)?,
                    session: Some(id_at(row, 3, SessionId::new)?),
                })
            })?;
            Ok(gone.collect::<Result<_, _>>()?)
        })
        .await
    }
}
