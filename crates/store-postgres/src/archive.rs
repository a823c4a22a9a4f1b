//! Whole sessions from elsewhere.

use async_trait::async_trait;
use lyceum_core::Scope;
use lyceum_memory::{Session, SessionArchive, StoreError, StoredMessage};
use lyceum_vault::{OpenedKeys, places};

use crate::{
    PostgresStore,
    connection::{self, Begun, Param},
    error::Failure,
    pool::Held,
    row::integer,
    scope::SessionKey,
    sealing::{kept, to_write},
};

const SESSION: &str = "\
    INSERT INTO lyceum.session (tenant, owner, name, topic, messages, completed, summary, \
        summary_upto, created_at, updated_at, oldest_at, newest_at, sealed_topic, sealed_summary) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
    ON CONFLICT (owner, name) DO NOTHING RETURNING id";

const MESSAGES: &str = "\
    WITH m AS MATERIALIZED ( \
        SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::bytea[]) \
        WITH ORDINALITY AS m (turn, role, content, created_at, sealed, seq) \
    ), turned AS ( \
        INSERT INTO lyceum.turn (tenant, session, name, first_seq, last_seq) \
        SELECT $1, $2, turn, min(seq), max(seq) FROM m GROUP BY turn \
    ) \
    INSERT INTO lyceum.message (tenant, session, seq, turn, role, content, created_at, sealed) \
    SELECT $1, $2, seq, turn, role, content, created_at, sealed FROM m";

async fn restore(
    held: &connection::Session,
    keys: &OpenedKeys,
    key: SessionKey<'_>,
    (session, messages): (&Session, &[StoredMessage]),
    begun: Begun,
) -> Result<bool, Failure> {
    let tenant = key.owner.tenant;
    let texts = to_write(keys, tenant, begun)?;
    let owner = key.owner.ensure(held, &texts).await?.id;
    let summary = session.summary.as_ref();
    let upto = summary.map_or(0, |summary| integer(summary.upto_seq));
    let summary = summary.map(|summary| {
        key.place()
            .summary(upto, |at| kept(&texts, at, &summary.text))
    });
    let (summary, sealed_summary) = summary.transpose()?.unzip();
    let (topic, sealed_topic) = key.place().topic(|at| kept(&texts, at, &session.topic))?;
    let count = integer(messages.len() as u64);
    let times: Vec<i64> = messages
        .iter()
        .map(|message| message.created_at.0)
        .collect();
    let oldest = times.iter().copied().min().unwrap_or(session.created_at.0);
    let newest = times.iter().copied().max().unwrap_or(session.created_at.0);
    let sealed_summary = sealed_summary.flatten();
    let params: [Param<'_>; 14] = [
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
        &sealed_topic,
        &sealed_summary,
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
    let (mut contents, mut seals) = (Vec::new(), Vec::new());
    for (seq, message) in (1..).zip(messages) {
        let said = places::Message {
            seq,
            turn: message.turn_id.as_str(),
            role: message.role.as_str(),
            created_at: message.created_at.0,
        };
        let (content, sealed) = key
            .place()
            .message(said, |at| kept(&texts, at, &message.content))?;
        contents.push(content);
        seals.push(sealed);
    }
    let params: [Param<'_>; 7] = [&tenant, &row, &turns, &roles, &contents, &times, &seals];
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
            let work = |begun| restore(&held, self.keys(), key, (session, messages), begun);
            held.write(key.owner.whose(), work).await
        })
        .await
    }
}
