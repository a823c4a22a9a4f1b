//! Whole sessions from elsewhere.

use async_trait::async_trait;
use lyceum_core::Scope;
use lyceum_memory::{Session, SessionArchive, StoreError, StoredMessage};
use rusqlite::{Connection, params};

use crate::{SqliteStore, error::Failure, row::integer, scope::SessionKey};

fn restore(
    connection: &Connection,
    key: &SessionKey,
    session: &Session,
    messages: &[StoredMessage],
) -> Result<bool, Failure> {
    if key.find(connection)?.is_some() {
        return Ok(false);
    }
    let owner = key.owner.ensure(connection)?;
    let (summary, upto) = match &session.summary {
        Some(summary) => (Some(&summary.text), integer(summary.upto_seq)),
        None => (None, 0),
    };
    connection
        .prepare_cached(
            "INSERT INTO session (owner, name, topic, messages, completed, summary, \
             summary_upto, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            owner,
            key.name,
            session.topic,
            integer(messages.len() as u64),
            session.completed,
            summary,
            upto,
            session.created_at.0,
            session.updated_at.0
        ])?;
    let id = connection.last_insert_rowid();
    let mut message = connection.prepare_cached(
        "INSERT INTO message (session, seq, turn, role, content, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut turn = connection.prepare_cached(
        "INSERT INTO turn (session, name, first_seq, last_seq) VALUES (?1, ?2, ?3, ?3) \
         ON CONFLICT (session, name) DO UPDATE SET last_seq = excluded.last_seq",
    )?;
    for (seq, stored) in (1_i64..).zip(messages) {
        let (name, role) = (stored.turn_id.as_str(), stored.role.as_str());
        message.execute(params![
            id,
            seq,
            name,
            role,
            stored.content,
            stored.created_at.0
        ])?;
        turn.execute(params![id, name, seq])?;
    }
    Ok(true)
}

#[async_trait]
impl SessionArchive for SqliteStore {
    async fn restore(
        &self,
        scope: &Scope,
        session: &Session,
        messages: &[StoredMessage],
    ) -> Result<bool, StoreError> {
        let key = SessionKey::new(scope)?;
        let (session, messages) = (session.clone(), messages.to_vec());
        self.write("restore_session", move |connection, _| {
            restore(connection, &key, &session, &messages)
        })
        .await
    }
}
