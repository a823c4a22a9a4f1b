//! Whole sessions from elsewhere.

use async_trait::async_trait;
use lyceum_core::Scope;
use lyceum_memory::{Session, SessionArchive, StoreError, StoredMessage, Summary};
use lyceum_vault::places;
use rusqlite::params;

use crate::{
    SqliteStore, error::Failure, row::integer, scope::SessionKey, sealed::Db, sessions::kept,
};

fn restore(
    connection: &Db<'_>,
    key: &SessionKey,
    session: &Session,
    messages: &[StoredMessage],
) -> Result<bool, Failure> {
    if key.find(connection)?.is_some() {
        return Ok(false);
    }
    let home = key.owner.ensure(connection)?;
    let (owner, texts) = (home.id, &home.texts);
    let topic = session.topic.as_str();
    let (topic, sealed_topic) = key.place().topic(|at| kept(texts, at, topic))?;
    let (summary, upto, sealed_summary) = match &session.summary {
        Some(Summary { upto_seq, text }) => {
            let upto = integer(*upto_seq);
            let (summary, sealed) = key.place().summary(upto, |at| kept(texts, at, text))?;
            (Some(summary), upto, sealed)
        }
        None => (None, 0, None),
    };
    connection
        .prepare_cached(
            "INSERT INTO session (owner, name, topic, messages, completed, summary, \
             summary_upto, created_at, updated_at, sealed_topic, sealed_summary) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            owner,
            key.name,
            topic,
            integer(messages.len() as u64),
            session.completed,
            summary,
            upto,
            session.created_at.0,
            session.updated_at.0,
            sealed_topic,
            sealed_summary
        ])?;
    let id = connection.last_insert_rowid();
    let mut message = connection.prepare_cached(
        "INSERT INTO message (session, seq, turn, role, content, created_at, sealed) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut turn = connection.prepare_cached(
        "INSERT INTO turn (session, name, first_seq, last_seq) VALUES (?1, ?2, ?3, ?3) \
         ON CONFLICT (session, name) DO UPDATE SET last_seq = excluded.last_seq",
    )?;
    for (seq, stored) in (1_i64..).zip(messages) {
        let (name, role) = (stored.turn_id.as_str(), stored.role.as_str());
        let of = places::Message {
            seq,
            turn: name,
            role,
            created_at: stored.created_at.0,
        };
        let (content, sealed) = key
            .place()
            .message(of, |at| kept(texts, at, &stored.content))?;
        let at = stored.created_at.0;
        message.execute(params![id, seq, name, role, content, at, sealed])?;
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
