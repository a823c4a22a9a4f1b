//! The operator's port: the index of words, the statistics and the numbers of messages against
//! the rows, and erasing.
//!
//! Invariant: each owner is checked in one state of the database and made anew under the lock of
//! its row, which every change of its words waits for, so both may run beside the server. What was
//! erased is in no table; PostgreSQL overwrites it in its files when it vacuums, and in its log
//! when that is recycled.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lyceum_core::{AgentId, Scope, TenantId, UserId};
use lyceum_memory::{self as memory, Checked, Erased, StoreCheck, StoreError, lexical::Document};

use lyceum_vault::{OpenedKeys, Texts, places};
use tokio_postgres::Row;

use crate::{
    PostgresStore,
    connection::{Param, Session, Whose},
    error::Failure,
    memory_row::{COLUMNS, Stored, columns},
    pool::Held,
    records,
    resealing::SessionRow,
    row::{id, limit_of, text, unsigned},
    scope::{Home, OwnerRow, SessionKey},
    sealing::{blinded, opened, texts_of, texts_seen},
    words,
};

/// Each term of an owner, and the memories that hold it.
type Words = BTreeMap<String, Vec<(i64, i64, i64)>>;

const OWNERS: &str = "\
    SELECT tenant, user_id, agent FROM lyceum.owner o \
    WHERE (tenant, user_id, agent) > ($1, $2, $3) \
    AND (EXISTS (SELECT 1 FROM lyceum.session WHERE owner = o.id) \
        OR EXISTS (SELECT 1 FROM lyceum.memory WHERE owner = o.id)) \
    ORDER BY tenant, user_id, agent LIMIT $4";

const ALL_OWNERS: &str = "\
    SELECT id, tenant, user_id, agent FROM lyceum.owner WHERE id > $1 ORDER BY id LIMIT 500";

const OWNER: &str = "\
    SELECT documents, total_length, \
        EXISTS (SELECT 1 FROM lyceum.session WHERE owner = o.id) \
        OR EXISTS (SELECT 1 FROM lyceum.memory WHERE owner = o.id), words_key \
    FROM lyceum.owner o WHERE id = $1";

const SESSIONS: &str = "\
    SELECT s.name, s.messages, m.count, m.last, t.count, t.broken, s.id \
    FROM lyceum.session s \
    CROSS JOIN LATERAL (SELECT count(*) AS count, coalesce(max(seq), 0) AS last \
        FROM lyceum.message WHERE session = s.id) m \
    CROSS JOIN LATERAL (SELECT coalesce(sum(last_seq - first_seq + 1), 0)::bigint AS count, \
        count(*) FILTER (WHERE last_seq - first_seq + 1 <> (SELECT count(*) FROM lyceum.message \
            WHERE session = s.id AND turn = t.name AND seq BETWEEN first_seq AND last_seq)) \
            AS broken \
        FROM lyceum.turn t WHERE t.session = s.id) t WHERE s.owner = $1";

const MEMORIES: &str = concat!(
    "SELECT ",
    columns!(""),
    ", id FROM lyceum.memory WHERE owner = $1 ORDER BY id"
);

const POSTINGS: &str = "\
    SELECT term, memory, count, length FROM lyceum.posting WHERE owner = $1 ORDER BY term, memory";

const STRAYS: &str = "\
    SELECT (SELECT count(*) FROM lyceum.posting p \
            WHERE NOT EXISTS (SELECT 1 FROM lyceum.owner WHERE id = p.owner)), \
        (SELECT count(*) FROM lyceum.message m \
            WHERE NOT EXISTS (SELECT 1 FROM lyceum.session WHERE id = m.session)), \
        (SELECT count(*) FROM lyceum.turn t \
            WHERE NOT EXISTS (SELECT 1 FROM lyceum.session WHERE id = t.session)), \
        (SELECT count(*) FROM lyceum.job j \
            WHERE NOT EXISTS (SELECT 1 FROM lyceum.session WHERE id = j.session))";

const RENUMBER: &str = "\
    UPDATE lyceum.session s SET messages = \
    (SELECT coalesce(max(seq), 0) FROM lyceum.message WHERE session = s.id) \
    WHERE s.owner = $1";

/// Checks what belongs to one owner; inside a transaction that sees one state.
async fn verify(
    session: &Session,
    keys: &OpenedKeys,
    (owner, of): (i64, &OwnerRow),
) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let Some(row) = session.query_opt(OWNER, &[&owner]).await? else {
        return Ok(checked);
    };
    let counts: (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    checked.owners = u64::from(row.try_get::<_, bool>(2)?);
    let texts = &match keys.masters() {
        None => keys.texts(&of.tenant, Vec::new())?,
        Some(_) => texts_seen(session, keys, &of.tenant).await?,
    };
    for row in session.query(SESSIONS, &[&owner]).await? {
        checked.sessions += 1;
        let name: &str = row.try_get(0)?;
        let (said, there): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        let (last, of_turns, broken): (i64, i64, i64) =
            (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        checked.messages += unsigned(there);
        if said != there || there != last {
            let detail = format!("session {name} says {said}, has {there}, the last is {last}");
            checked.fault("messages", detail);
        }
        if of_turns != there || broken > 0 {
            let detail = format!("session {name} has {there} messages, its turns {of_turns}");
            checked.fault("turns", detail);
        }
        // What is clear needs no look.
        if texts.keys().is_some() {
            let owner = of.owner();
            let id = row.try_get(6)?;
            let key = SessionKey { owner, name };
            for row in (SessionRow { id, key, texts }).refused(session).await? {
                checked.fault("sealed", format!("{row}: it does not open"));
            }
        }
    }
    let home = Home {
        id: owner,
        owner: of.owner(),
        texts,
    };
    words_of(session, home, row.try_get(3)?, counts, &mut checked).await?;
    Ok(checked)
}

/// Compares an owner's words, which are written with this version of a key, with its memories.
async fn words_of(
    session: &Session,
    home: Home<'_>,
    version: i64,
    (documents, total_length): (i64, i64),
    checked: &mut Checked,
) -> Result<(), Failure> {
    let (mut wanted, mut there, mut length) = (Words::new(), 0, 0);
    let owner = home.id;
    for row in session.query(MEMORIES, &[&owner]).await? {
        let id: i64 = row.try_get(COLUMNS)?;
        let texts = match Stored::read(&row)?.open(home.owner, home.texts) {
            Ok(texts) => texts,
            Err(error) => {
                checked.fault("sealed", format!("{error}: it does not open"));
                continue;
            }
        };
        let document = Document::new(&texts.each_ref().map(String::as_str));
        let document = match blinded(home.texts, (owner, version), document) {
            Ok(document) => document,
            Err(Failure::Sealed(error)) => {
                checked.fault("sealed", format!("{error}: it does not open"));
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        let words = i64::from(document.length);
        there += 1;
        length += words;
        for (term, count) in document.terms {
            let held = (id, i64::from(count), words);
            wanted.entry(term).or_default().push(held);
        }
    }
    checked.memories += unsigned(there);
    if (documents, total_length) != (there, length) {
        checked.fault(
            "statistics",
            format!(
                "owner {owner} says {documents} memories of {total_length} words, \
                 has {there} of {length}"
            ),
        );
    }
    let mut found = Words::new();
    for row in session.query(POSTINGS, &[&owner]).await? {
        let held = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        found.entry(row.try_get(0)?).or_default().push(held);
    }
    for (term, wanted) in &wanted {
        if found.get(term) != Some(wanted) {
            let detail = format!("owner {owner}: a word of {} memories", wanted.len());
            checked.fault("words", detail);
        }
    }
    let strays = found.keys().filter(|term| !wanted.contains_key(*term));
    let strays = strays.count();
    if strays > 0 {
        let detail = format!("owner {owner} has {strays} that no memory holds");
        checked.fault("words", detail);
    }
    Ok(())
}

/// The records behind this one (tenant, kind, name) that do not open, and the last that was looked
/// at; inside a transaction that sees one state.
async fn records_refused(
    session: &Session,
    keys: &OpenedKeys,
    after: &(String, String, String),
) -> Result<(Vec<String>, Option<(String, String, String)>), Failure> {
    let params: [Param<'_>; 3] = [&after.0, &after.1, &after.2];
    let rows = session.query(RECORDS, &params).await?;
    let (mut refused, mut texts) = (Vec::new(), None::<Texts>);
    for row in &rows {
        let (tenant, kind): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        if texts.as_ref().is_none_or(|texts| texts.tenant() != tenant) {
            texts = Some(texts_seen(session, keys, tenant).await?);
        }
        let (name, group) = (text(row, 2)?, text(row, 3)?);
        let columns = (row.try_get(4)?, row.try_get(5)?);
        if let Some(texts) = &texts {
            let body = places::record((kind, &name, &group), |at| opened(texts, at, columns));
            refused.extend(body.err().map(|row| row.to_string()));
        }
    }
    let last = rows.last();
    let last =
        last.map(|row| Ok::<_, Failure>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
    Ok((refused, last.transpose()?))
}

const RECORDS: &str = "\
    SELECT tenant, kind, name, grouped, body, sealed FROM lyceum.record \
    WHERE (tenant, kind, name) > ($1, $2, $3) ORDER BY tenant, kind, name LIMIT 1000";

/// Makes what follows from one owner's rows anew; inside a transaction.
async fn rebuild(
    session: &Session,
    keys: &OpenedKeys,
    (owner, of): (i64, &OwnerRow),
) -> Result<(), Failure> {
    let home = Home {
        id: owner,
        owner: of.owner(),
        texts: &texts_of(session, keys, &of.tenant).await?,
    };
    words::rebuild(session, home).await?;
    session.execute(RENUMBER, &[&owner]).await?;
    Ok(())
}

impl PostgresStore {
    /// The rows of all owners.
    async fn all_owners(&self) -> Result<Vec<(i64, OwnerRow)>, StoreError> {
        let mut all: Vec<(i64, OwnerRow)> = Vec::new();
        loop {
            let after = all.last().map_or(0, |(id, _)| *id);
            let page = self.operate("owners", |session: Held| async move {
                let rows = session.ask(Whose::Operator, ALL_OWNERS, &[&after]).await?;
                let owner = |row: &Row| Ok((row.try_get(0)?, OwnerRow::read(row, 1)?));
                rows.iter().map(owner).collect::<Result<Vec<_>, Failure>>()
            });
            let page = page.await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

const SESSIONS_OF: &str = "\
    SELECT s.id FROM lyceum.session s JOIN lyceum.owner o ON o.id = s.owner \
    WHERE o.tenant = $1 AND ($2::text IS NULL OR o.user_id = $2) FOR UPDATE OF s";

/// What goes with the sessions, whose rows are locked.
const OF_SESSIONS: [&str; 4] = [
    "DELETE FROM lyceum.message WHERE session = ANY ($1)",
    "DELETE FROM lyceum.turn WHERE session = ANY ($1)",
    "DELETE FROM lyceum.job WHERE session = ANY ($1)",
    "DELETE FROM lyceum.session WHERE id = ANY ($1)",
];

const MEMORIES_OF: &str = "\
    DELETE FROM lyceum.memory m USING lyceum.owner o WHERE o.id = m.owner \
    AND o.tenant = $1 AND ($2::text IS NULL OR o.user_id = $2)";

const POSTINGS_OF: &str = "\
    DELETE FROM lyceum.posting p USING lyceum.owner o WHERE o.id = p.owner \
    AND o.tenant = $1 AND ($2::text IS NULL OR o.user_id = $2)";

/// A turn of theirs that is being stored at this moment, and knows the row, fails by it.
const FORGET: &str = "\
    DELETE FROM lyceum.owner WHERE tenant = $1 AND ($2::text IS NULL OR user_id = $2)";

/// Destroys a tenant's keys, so that nothing that they sealed can be read again, here or in a copy
/// of the rows that was made without its keys.
const DESTROY: &str = "DELETE FROM lyceum.tenant_key WHERE tenant = $1";

async fn erase(session: &Session, whose: &memory::Whose) -> Result<Erased, Failure> {
    let tenant = whose.tenant.as_str();
    let user = whose.user.as_ref().map(UserId::as_str);
    let params: [Param<'_>; 2] = [&tenant, &user];
    let rows = session.query(SESSIONS_OF, &params).await?;
    let sessions = rows.iter().map(|row| row.try_get(0));
    let sessions: Vec<i64> = sessions.collect::<Result<_, _>>()?;
    let mut erased = Erased::default();
    for sql in OF_SESSIONS {
        // The last statement's rows are the sessions themselves.
        erased.sessions = session.execute(sql, &[&sessions]).await?;
    }
    session.execute(POSTINGS_OF, &params).await?;
    erased.memories = session.execute(MEMORIES_OF, &params).await?;
    session.execute(FORGET, &params).await?;
    if user.is_none() {
        erased.records = session.execute(records::ERASE, &[&tenant]).await?;
    }
    Ok(erased)
}

#[async_trait]
impl StoreCheck for PostgresStore {
    async fn verify(&self) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        for (owner, of) in &self.all_owners().await? {
            let one = self.operate("verify", |session: Held| async move {
                let work = verify(&session, self.keys(), (*owner, of));
                session.snapshot(Whose::Operator, work).await
            });
            checked.add(one.await?);
        }
        self.verify_vectors(&mut checked).await?;
        let mut after = self.is_encrypting().then(Default::default);
        while let Some(from) = &after {
            let page = self.operate("verify_records", |session: Held| async move {
                let work = records_refused(&session, self.keys(), from);
                session.snapshot(Whose::Operator, work).await
            });
            let (refused, last) = page.await?;
            for row in refused {
                checked.fault("sealed", format!("{row}: it does not open"));
            }
            after = last;
        }
        let strays = self.operate("strays", |session: Held| async move {
            let rows = session.ask(Whose::Operator, STRAYS, &[]).await?;
            let row = rows.first().ok_or(Failure::corrupt("no row of counts"))?;
            let count = |place| Ok::<i64, Failure>(row.try_get(place)?);
            Ok([count(0)?, count(1)?, count(2)?, count(3)?])
        });
        let kinds = ["words", "messages", "turns", "jobs"];
        for (what, count) in kinds.into_iter().zip(strays.await?) {
            if count > 0 {
                checked.fault(what, format!("{count} belong to nothing"));
            }
        }
        Ok(checked)
    }

    async fn rebuild(&self) -> Result<(), StoreError> {
        for (owner, of) in &self.all_owners().await? {
            let one = self.operate("rebuild", |session: Held| async move {
                let work = rebuild(&session, self.keys(), (*owner, of));
                session.write(Whose::Operator, |_| work).await
            });
            one.await?;
        }
        self.mend_vectors().await
    }

    async fn owners(&self, after: Option<&Scope>, limit: usize) -> Result<Vec<Scope>, StoreError> {
        let after = after.map_or(["", "", ""], |scope| {
            [
                scope.tenant.as_str(),
                scope.user.as_str(),
                scope.agent.as_str(),
            ]
        });
        let limit = limit_of(limit);
        self.call("owners", |session: Held| async move {
            let [tenant, user, agent] = after;
            let params: [Param<'_>; 4] = [&tenant, &user, &agent, &limit];
            let rows = session.ask(Whose::Operator, OWNERS, &params).await?;
            let scope = |row: &Row| {
                Ok(Scope {
                    tenant: id(row, 0, TenantId::new)?,
                    user: id(row, 1, UserId::new)?,
                    agent: id(row, 2, AgentId::new)?,
                    session: None,
                })
            };
            rows.iter().map(scope).collect()
        })
        .await
    }

    async fn erase(&self, whose: &memory::Whose) -> Result<Erased, StoreError> {
        let rights = Whose::Tenant(whose.tenant.as_str());
        if whose.user.is_none() {
            // First, and by itself: whatever comes between, nothing is readable from here on.
            let destroyed = self.operate("destroy_keys", |session: Held| async move {
                let tenant = whose.tenant.as_str();
                let work = async { Ok::<_, Failure>(session.execute(DESTROY, &[&tenant]).await?) };
                session.change_keys(rights, work).await
            });
            destroyed.await?;
            self.keys().forget();
        }
        self.operate("erase", |session: Held| async move {
            session.write(rights, |_| erase(&session, whose)).await
        })
        .await
    }

    async fn forget_deleted(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
