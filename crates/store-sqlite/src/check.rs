//! The operator's port: the index of words, the statistics and the numbers of messages against
//! the rows, and erasing.
//!
//! Invariant: what this erases of a user is in no page of the file and of its log once the call
//! returns: SQLite leaves deleted cells where they are, so the file is written anew.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use lyceum_core::{AgentId, Scope, TenantId, UserId};
use lyceum_memory::{Checked, Erased, StoreCheck, StoreError, Whose, lexical::Posting};
use rusqlite::{Connection, params};

use crate::{
    SqliteStore,
    error::{Failure, classify},
    memories, postings, resealing,
    row::{id_at, limit_of, unsigned},
    scope::{Home, Owner},
    sealed::{Db, sealed_row},
    vectors,
};

/// The words of one owner: of each term the memories that hold it.
type Words = BTreeMap<String, Vec<(i64, u32, u32)>>;

const OWNERS: &str = "\
    SELECT tenant, user, agent FROM owner AS o \
    WHERE (tenant, user, agent) > (?1, ?2, ?3) \
    AND (EXISTS (SELECT 1 FROM session WHERE owner = o.id) \
        OR EXISTS (SELECT 1 FROM memory WHERE owner = o.id)) \
    ORDER BY tenant, user, agent LIMIT ?4";

/// Sessions whose messages are not numbered 1 to their number, or whose turns are not theirs.
const BROKEN_SESSIONS: &str = "\
    SELECT s.name, s.messages, (SELECT count(*) FROM message WHERE session = s.id), \
        (SELECT coalesce(max(seq), 0) FROM message WHERE session = s.id), \
        (SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM turn WHERE session = s.id), \
        (SELECT count(*) FROM turn AS t WHERE t.session = s.id AND \
            (SELECT count(*) FROM message AS m WHERE m.session = s.id AND m.turn = t.name \
                AND m.seq BETWEEN t.first_seq AND t.last_seq) <> t.last_seq - t.first_seq + 1) \
    FROM session AS s";

fn verify(connection: &Db<'_>) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let count = |sql: &str| connection.query_row(sql, [], |row| Ok(unsigned(row.get(0)?)));
    checked.owners = count(
        "SELECT count(*) FROM owner AS o WHERE EXISTS (SELECT 1 FROM session WHERE owner = o.id) \
         OR EXISTS (SELECT 1 FROM memory WHERE owner = o.id)",
    )?;
    checked.messages = count("SELECT count(*) FROM message")?;
    let mut pages = connection.prepare("PRAGMA integrity_check(10)")?;
    for verdict in pages.query_map([], |row| row.get::<_, String>(0))? {
        let verdict = verdict?;
        if verdict != "ok" {
            checked.fault("file", verdict);
        }
    }
    let strays = count("SELECT count(*) FROM pragma_foreign_key_check")?;
    if strays > 0 {
        checked.fault("rows", format!("{strays} belong to nothing"));
    }
    sessions(connection, &mut checked)?;
    let mut owners =
        connection.prepare("SELECT id, documents, total_length, tenant, user, agent FROM owner")?;
    let mut rows = owners.query([])?;
    while let Some(row) = rows.next()? {
        let counts = (unsigned(row.get(1)?), unsigned(row.get(2)?));
        let of = Owner {
            tenant: row.get(3)?,
            user: row.get(4)?,
            agent: row.get(5)?,
        };
        let texts = connection.texts(&of.tenant)?;
        let (id, owner_of) = (row.get(0)?, of);
        let home = Home {
            id,
            owner: owner_of,
            texts,
        };
        match owner(connection, &home, counts, &mut checked) {
            Err(Failure::Sqlite(error)) if sealed_row(&error).is_some() => {
                checked.fault("sealed", error.to_string());
            }
            other => other?,
        }
        conversations(connection, &home, &mut checked)?;
    }
    let unowned = "SELECT count(*) FROM posting WHERE owner NOT IN (SELECT id FROM owner)";
    let unowned = count(unowned)?;
    if unowned > 0 {
        checked.fault("words", format!("{unowned} rows belong to nobody"));
    }
    spaces(connection, &mut checked)?;
    if connection.keys.masters().is_some() {
        for row in resealing::refused_beside(connection)? {
            checked.fault("sealed", format!("{row}: it does not open"));
        }
    }
    Ok(checked)
}

fn sessions(connection: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let mut all = connection.prepare(BROKEN_SESSIONS)?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        checked.sessions += 1;
        let name: String = row.get(0)?;
        let [said, there, last, of_turns, broken]: [i64; 5] = [
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
        ];
        if said != there || there != last {
            let detail = format!("session {name} says {said}, has {there}, the last is {last}");
            checked.fault("messages", detail);
        }
        if of_turns != there || broken > 0 {
            let detail = format!("session {name} has {there} messages, its turns {of_turns}");
            checked.fault("turns", detail);
        }
    }
    Ok(())
}

/// Compares an owner's words with its memories. Holds the words of one owner at a time.
fn owner(
    connection: &Db<'_>,
    home: &Home,
    (documents, total_length): (u64, u64),
    checked: &mut Checked,
) -> Result<(), Failure> {
    let owner = home.id;
    let (mut wanted, mut there, mut length) = (Words::new(), 0, 0);
    let mut sealed = Vec::new();
    let words = home.words(connection)?;
    memories::each(connection, home, |id, opened| {
        let texts = match opened {
            Ok(texts) => texts,
            Err(error) => match sealed_row(&error) {
                Some(row) => {
                    sealed.push(row.to_string());
                    return Ok(());
                }
                None => return Err(error.into()),
            },
        };
        let document = words.document(&texts.each_ref().map(String::as_str));
        there += 1;
        length += u64::from(document.length);
        for (term, count) in document.terms {
            wanted
                .entry(term)
                .or_default()
                .push((id, count, document.length));
        }
        Ok(())
    })?;
    for row in sealed {
        checked.fault("sealed", format!("{row}: it does not open"));
    }
    checked.memories += there;
    if (documents, total_length) != (there, length) {
        checked.fault(
            "statistics",
            format!(
                "owner {owner} says {documents} memories of {total_length} words, \
                 has {there} of {length}"
            ),
        );
    }
    let mut postings_of = connection.prepare_cached(
        "SELECT term, first, entries FROM posting WHERE owner = ?1 ORDER BY term, first",
    )?;
    let mut rows = postings_of.query([owner])?;
    let mut found = Words::new();
    while let Some(row) = rows.next()? {
        let mut entries = Vec::new();
        let (first, packed): (i64, Vec<u8>) = (row.get(1)?, row.get(2)?);
        if postings::decode(first, &packed, &mut entries).is_err() {
            checked.fault("words", format!("owner {owner} has an entry that is cut"));
        }
        let entries = entries
            .into_iter()
            .map(|posting: Posting| (posting.document, posting.count, posting.length));
        found.entry(row.get(0)?).or_default().extend(entries);
    }
    for (term, wanted) in &wanted {
        if found.get(term) != Some(wanted) {
            checked.fault(
                "words",
                format!("owner {owner}: a word of {} memories", wanted.len()),
            );
        }
    }
    let strays = found
        .keys()
        .filter(|term| !wanted.contains_key(*term))
        .count();
    if strays > 0 {
        checked.fault(
            "words",
            format!("owner {owner} has {strays} that no memory holds"),
        );
    }
    Ok(())
}

/// Sealed messages, topics and summaries that do not open. What is clear needs no look.
fn conversations(connection: &Db<'_>, home: &Home, checked: &mut Checked) -> Result<(), Failure> {
    if home.texts.keys().is_none() {
        return Ok(());
    }
    let mut refused = Vec::new();
    resealing::each_session(connection, home, |session| {
        refused.extend(session.refused(connection)?);
        Ok(())
    })?;
    for row in refused {
        checked.fault("sealed", format!("{row}: it does not open"));
    }
    Ok(())
}

/// Vectors of a wrong shape, and memories that no embedder will be asked for.
fn spaces(connection: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let mut all = connection.prepare(
        "SELECT s.model, \
            (SELECT count(*) FROM vector WHERE space = s.id AND length(data) NOT IN \
                (4 * s.dimensions, 4 * s.dimensions + 45)), \
            (SELECT count(*) FROM memory AS m WHERE m.id <= s.upto AND NOT EXISTS \
                (SELECT 1 FROM vector WHERE memory = m.id AND space = s.id)), \
            (SELECT count(*) FROM vector AS v JOIN memory AS m ON m.id = v.memory \
                WHERE v.space = s.id AND v.owner <> m.owner) \
         FROM vector_space AS s",
    )?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let model: String = row.get(0)?;
        for (place, what) in [
            (1, "have another shape"),
            (2, "were missed"),
            (3, "are another's"),
        ] {
            let count: i64 = row.get(place)?;
            if count > 0 {
                checked.fault("vectors", format!("{model}: {count} {what}"));
            }
        }
    }
    Ok(())
}

fn rebuild(connection: &Db<'_>) -> Result<(), Failure> {
    memories::rebuild(connection)?;
    connection.execute_batch(
        "UPDATE session SET messages = \
            (SELECT coalesce(max(seq), 0) FROM message WHERE session = session.id); \
         DELETE FROM vector WHERE EXISTS (SELECT 1 FROM vector_space AS s \
            WHERE s.id = vector.space \
            AND length(vector.data) NOT IN (4 * s.dimensions, 4 * s.dimensions + 45)); \
         UPDATE vector_space SET upto = 0;",
    )?;
    Ok(())
}

/// Destroys a tenant's keys, so that nothing that they sealed can be read again, here or in a copy
/// of the file that was made without its keys.
fn destroy_keys(connection: &Connection, tenant: &str) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM tenant_key WHERE tenant = ?1", [tenant])
}

fn erase(connection: &Connection, whose: &Whose) -> Result<Erased, Failure> {
    let (tenant, user) = (
        whose.tenant.as_str(),
        whose.user.as_ref().map(UserId::as_str),
    );
    let mut owners = connection
        .prepare("SELECT id FROM owner WHERE tenant = ?1 AND (?2 IS NULL OR user = ?2)")?;
    let owners = owners.query_map(params![tenant, user], |row| row.get(0))?;
    let owners: Vec<i64> = owners.collect::<rusqlite::Result<_>>()?;
    let mut erased = Erased::default();
    for owner in owners {
        let delete = |sql: &str| Ok::<u64, Failure>(connection.execute(sql, [owner])? as u64);
        // Messages, turns and jobs go with their sessions, vectors with their memories.
        erased.sessions += delete("DELETE FROM session WHERE owner = ?1")?;
        erased.memories += delete("DELETE FROM memory WHERE owner = ?1")?;
        delete("DELETE FROM posting WHERE owner = ?1")?;
        delete("DELETE FROM job WHERE owner = ?1")?;
        delete("DELETE FROM owner WHERE id = ?1")?;
    }
    if user.is_none() {
        let sql = "DELETE FROM record WHERE tenant = ?1";
        erased.records = connection.execute(sql, [tenant])? as u64;
    }
    vectors::after_deletion(connection)?;
    Ok(erased)
}

impl SqliteStore {
    /// Writes the file anew, so that nothing is left of what was deleted or written over.
    pub(crate) async fn forget_pages(&self) -> Result<(), StoreError> {
        self.maintain("forget", |connection| {
            let failed = |error| classify(&Arc::new(error));
            connection.execute_batch("VACUUM").map_err(failed)?;
            // One who reads what was there before keeps it in the log.
            let is_read: bool = connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .map_err(failed)?;
            match is_read {
                false => Ok(()),
                true => Err(StoreError::Unavailable {
                    source: "the erased is still being read; erase again".into(),
                }),
            }
        })
        .await
    }
}

#[async_trait]
impl StoreCheck for SqliteStore {
    async fn verify(&self) -> Result<Checked, StoreError> {
        self.read("verify", verify).await
    }

    async fn rebuild(&self) -> Result<(), StoreError> {
        let matrices = self.matrices();
        self.write("rebuild", move |connection, _| {
            rebuild(connection)?;
            matrices.forget_all();
            Ok(())
        })
        .await
    }

    async fn owners(&self, after: Option<&Scope>, limit: usize) -> Result<Vec<Scope>, StoreError> {
        let after = after.map_or_else(Default::default, |scope| {
            [
                scope.tenant.as_str(),
                scope.user.as_str(),
                scope.agent.as_str(),
            ]
            .map(str::to_owned)
        });
        self.read("owners", move |connection| {
            let [tenant, user, agent]: [String; 3] = after;
            let mut owners = connection.prepare_cached(OWNERS)?;
            let rows = owners.query_map(params![tenant, user, agent, limit_of(limit)], |row| {
                Ok(Scope {
                    tenant: id_at(row, 0, TenantId::new)?,
                    user: id_at(row, 1, UserId::new)?,
                    agent: id_at(row, 2, AgentId::new)?,
                    session: None,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn erase(&self, whose: &Whose) -> Result<Erased, StoreError> {
        let (whose, matrices) = (whose.clone(), self.matrices());
        if whose.user.is_none() {
            let tenant = whose.tenant.clone();
            let keys = Arc::clone(self.keys());
            // First, and by itself: whatever comes between, nothing is readable from here on.
            self.write("destroy_keys", move |connection, _| {
                destroy_keys(connection, tenant.as_str())?;
                keys.forget();
                Ok(())
            })
            .await?;
        }
        let erased = self
            .write("erase", move |connection, _| {
                let erased = erase(connection, &whose)?;
                matrices.forget_all();
                Ok(erased)
            })
            .await?;
        self.forget_pages().await?;
        Ok(erased)
    }

    async fn forget_deleted(&self) -> Result<(), StoreError> {
        self.forget_pages().await
    }
}
