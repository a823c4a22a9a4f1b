//! Whole sessions from elsewhere.

use async_trait::async_trait;
use lyceum_core::Scope;
use lyceum_memory::{Session, SessionArchive, StoreError, StoredMessage};

use crate::{
    PostgresStore,
    error::Failure,
    pool::{self, Held, Param},
    row::integer,
    scope::SessionKey,
    text::stored,
};

const SESSION: &str = "\
    INSERT INTO lyceum.session (tenant, owner, name, topic, messages, completed, summary, \
        summary_upto, created_at, updated_at, oldest_at, newest_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
    ON CONFLICT (owner, name) DO NOTHING RETURNING id";

const MESSAGES: &str = "\
    WITH m AS MATERIALIZED ( \
        SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[]) WITH ORDINALITY \
        AS m (turn, role, content, created_at, seq) \
    ), turned AS ( \
        INSERT INTO lyceum.turn (tenant, session, name, first_seq, last_seq) \
        SELECT $1, $2, turn, min(seq), max(seq) FROM m GROUP BY turn \
    ) \
    INSERT INTO lyceum.message (tenant, session, seq, turn, role, content, created_at) \
    SELECT $1, $2, seq, turn, role, content, created_at FROM m";

async fn restore(
    held: &pool::Session,
    key: SessionKey<'_>,
    session: &Session,
    messages: &[StoredMessage],
) -> Result<bool, Failure> {
    let tenant = key.owner.tenant;
    let owner = key.owner.ensure(held).await?;
    let summary = session.summary.as_ref();
    let upto = summary.map_or(0, |summary| integer(summary.upto_seq));
    let summary = summary.map(|summary| stored(&summary.text));
    let (topic, count) = (stored(&session.topic), integer(messages.len() as u64));
    let times: Vec<i64> = messages
        .iter()
        .map(|message| message.created_at.0)
        .collect();
    let oldest = times.iter().copied().min().unwrap_or(session.created_at.0);
    let newest = times.iter().copied().max().unwrap_or(session.created_at.0);
    let params: [Param<'_>; 12] = [
        &tenant,
        &owner,
        &key.name,
        &topic,
        &count,
        &session.completed,
        &summary,
        &upto,
        &session.created_at.0,
        &session.updated_at.0,
        &oldest,
        &newest,
    ];
    let Some(row) = held.query_opt(SESSION, &params).await? else {
        return Ok(false);
    };
    let row: i64 = row.try_get(0)?;
    let turns: Vec<&str> = messages
        .iter()
        .map(|message| message.turn_id.as_str())
        .collect();
    let roles: Vec<&str> = messages
        .iter()
        .map(|message| message.role.as_str())
        .collect();
    let contents: Vec<_> = messages
        .iter()
        .map(|message| stored(&message.content))
        .collect();
    let params: [Param<'_>; 6] = [&tenant, &row, &turns, &roles, &contents, &times];
    held.execute(MESSAGES, &params).await?;
    Ok(true)
}

#[async_trait]
impl SessionArchive for PostgresStore {
    async fn restore(
        &self,
        scope: &Scope,
        session: &Session,
        messages: &[StoredMessage],
    ) -> Result<bool, StoreError> {
        let key = SessionKey::new(scope)?;
        self.call("restore_session", |held: Held| async move {
            held.write(key.owner.whose(), restore(&held, key, session, messages))
                .await
        })
        .await
    }
}
