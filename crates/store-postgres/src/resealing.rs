//! Reads rows with what they seal, and writes it again under the newest key.
//!
//! Invariant: a row is written back in the transaction that read it under its lock, and says the
//! same after it. Rows that the newest key sealed already are left alone, so going over all of them
//! again is cheap.

use std::collections::{HashMap, hash_map::Entry};

use lyceum_vault::{At, OpenedKeys, SealedRow, Texts, places};
use tokio_postgres::Row;

use crate::{
    connection::Session,
    error::Failure,
    memory_row::{COLUMNS, Stored, columns},
    row::text,
    scope::{Home, OwnerRow, SessionKey},
    sealing::{kept, opened, texts_of},
    sessions::DIGEST,
    words,
};

/// Rows that one transaction looks at.
const PORTION: i64 = 256;

/// What a portion did: the last row it looked at, and how many it sealed.
pub(crate) type Done = Option<(i64, u64)>;

/// The texts of the tenants that a portion is of.
struct Tenants<'a> {
    session: &'a Session,
    keys: &'a OpenedKeys,
    known: HashMap<String, Texts>,
}

impl<'a> Tenants<'a> {
    fn new(session: &'a Session, keys: &'a OpenedKeys) -> Self {
        Self {
            session,
            keys,
            known: HashMap::new(),
        }
    }

    async fn of(&mut self, tenant: &str) -> Result<&Texts, Failure> {
        Ok(match self.known.entry(tenant.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let texts = texts_of(self.session, self.keys, tenant).await?;
                entry.insert(texts)
            }
        })
    }
}

/// Where a text of a session stands.
enum Place {
    Topic,
    Summary {
        upto: i64,
    },
    Message {
        seq: i64,
        turn: String,
        role: String,
        created_at: i64,
    },
    Job {
        name: String,
        kind: String,
    },
}

/// A text that one column holds sealed and another clear.
struct Cell {
    place: Place,
    columns: (String, Option<Vec<u8>>),
}

impl Cell {
    fn at<T>(&self, key: SessionKey<'_>, then: impl FnOnce(At<'_>) -> T) -> T {
        match &self.place {
            Place::Topic => key.place().topic(then),
            Place::Summary { upto } => key.place().summary(*upto, then),
            Place::Message {
                seq,
                turn,
                role,
                created_at,
            } => {
                let said = places::Message {
                    seq: *seq,
                    turn,
                    role,
                    created_at: *created_at,
                };
                key.place().message(said, then)
            }
            Place::Job { name, kind } => key.place().job((name, kind), then),
        }
    }

    fn open(&self, key: SessionKey<'_>, texts: &Texts) -> Result<String, SealedRow> {
        self.at(key, |at| opened(texts, at, self.columns.clone()))
    }
}

/// A session of an owner.
pub(crate) struct SessionRow<'a> {
    pub(crate) id: i64,
    pub(crate) key: SessionKey<'a>,
    pub(crate) texts: &'a Texts,
}

const TEXTS: &str = "\
    SELECT topic, sealed_topic, summary, sealed_summary, summary_upto FROM lyceum.session \
    WHERE id = $1";

const MESSAGES: &str = "\
    SELECT content, sealed, seq, turn, role, created_at FROM lyceum.message \
    WHERE session = $1 ORDER BY seq DESC";

const JOBS: &str =
    "SELECT payload, sealed, name, kind FROM lyceum.job WHERE session = $1 ORDER BY id";

const DIGESTS: &str =
    "SELECT name, digest FROM lyceum.turn WHERE session = $1 AND digest IS NOT NULL";

const SET_MESSAGES: &str = "\
    UPDATE lyceum.message m SET content = '', sealed = a.sealed \
    FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS a (seq, created_at, sealed) \
    WHERE m.session = $1 AND m.seq = a.seq AND m.created_at = a.created_at";

const SET_DIGESTS: &str = "\
    UPDATE lyceum.turn t SET digest = a.digest \
    FROM unnest($2::text[], $3::bytea[]) AS a (name, digest) \
    WHERE t.session = $1 AND t.name = a.name";

impl SessionRow<'_> {
    /// The texts of the session: its topic, its summary, its messages, its jobs.
    async fn cells(&self, session: &Session) -> Result<Vec<Cell>, Failure> {
        let mut cells = Vec::new();
        let mut add = |row: &Row, clear: String, sealed: usize, place| {
            let columns = (clear, row.try_get(sealed)?);
            cells.push(Cell { place, columns });
            Ok::<_, Failure>(())
        };
        if let Some(row) = session.query_opt(TEXTS, &[&self.id]).await? {
            add(&row, row.try_get(0)?, 1, Place::Topic)?;
            if let Some(summary) = row.try_get(2)? {
                let upto = row.try_get(4)?;
                add(&row, summary, 3, Place::Summary { upto })?;
            }
        }
        for row in session.query(MESSAGES, &[&self.id]).await? {
            let place = Place::Message {
                seq: row.try_get(2)?,
                turn: row.try_get(3)?,
                role: row.try_get(4)?,
                created_at: row.try_get(5)?,
            };
            add(&row, row.try_get(0)?, 1, place)?;
        }
        for row in session.query(JOBS, &[&self.id]).await? {
            let (name, kind) = (row.try_get(2)?, row.try_get(3)?);
            add(&row, row.try_get(0)?, 1, Place::Job { name, kind })?;
        }
        Ok(cells)
    }

    async fn digests(&self, session: &Session) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let rows = session.query(DIGESTS, &[&self.id]).await?;
        let digest = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(digest).collect()
    }

    fn digest(&self, name: &str, stored: &[u8]) -> Result<Vec<u8>, SealedRow> {
        self.key
            .place()
            .turn(name, |at| self.texts.open_bytes(at, stored, DIGEST))
    }

    /// The rows of the session that do not open.
    pub(crate) async fn refused(&self, session: &Session) -> Result<Vec<SealedRow>, Failure> {
        let cells = self.cells(session).await?;
        let cells = cells.iter().map(|cell| cell.open(self.key, self.texts));
        let mut refused: Vec<SealedRow> = cells.filter_map(Result::err).collect();
        for (name, stored) in self.digests(session).await? {
            refused.extend(self.digest(&name, &stored).err());
        }
        Ok(refused)
    }

    async fn reseal(&self, session: &Session) -> Result<u64, Failure> {
        let mut count = 0;
        let (mut seqs, mut times, mut seals) = (Vec::new(), Vec::new(), Vec::new());
        for cell in self.cells(session).await? {
            if self.texts.is_newest(cell.columns.1.as_deref()) {
                continue;
            }
            let text = cell.open(self.key, self.texts)?;
            let (_, sealed) = cell.at(self.key, |at| kept(self.texts, at, &text))?;
            count += 1;
            let sql = match cell.place {
                Place::Message {
                    seq, created_at, ..
                } => {
                    seqs.push(seq);
                    times.push(created_at);
                    seals.push(sealed);
                    continue;
                }
                Place::Job { name, .. } => {
                    let sql = "UPDATE lyceum.job SET payload = '', sealed = $2 WHERE name = $1";
                    session.execute(sql, &[&name, &sealed]).await?;
                    continue;
                }
                Place::Topic => {
                    "UPDATE lyceum.session SET topic = '', sealed_topic = $2 WHERE id = $1"
                }
                Place::Summary { .. } => {
                    "UPDATE lyceum.session SET summary = '', sealed_summary = $2 WHERE id = $1"
                }
            };
            session.execute(sql, &[&self.id, &sealed]).await?;
        }
        if !seqs.is_empty() {
            let params: [crate::connection::Param<'_>; 4] = [&self.id, &seqs, &times, &seals];
            session.execute(SET_MESSAGES, &params).await?;
        }
        let (mut names, mut digests) = (Vec::new(), Vec::new());
        for (name, stored) in self.digests(session).await? {
            if stored.len() == DIGEST || !self.texts.is_newest(Some(&stored)) {
                let digest = self.digest(&name, &stored)?;
                digests.push(
                    self.key
                        .place()
                        .turn(&name, |at| self.texts.seal_bytes(at, digest))?,
                );
                names.push(name);
                count += 1;
            }
        }
        if !names.is_empty() {
            session
                .execute(SET_DIGESTS, &[&self.id, &names, &digests])
                .await?;
        }
        Ok(count)
    }
}

const SESSIONS: &str = "\
    SELECT s.id, s.name, o.tenant, o.user_id, o.agent \
    FROM lyceum.session s JOIN lyceum.owner o ON o.id = s.owner \
    WHERE s.id > $1 ORDER BY s.id LIMIT 8 FOR UPDATE OF s";

/// Sessions, with all that belongs to them. They may be long, so there are fewer at a time.
pub(crate) async fn sessions(
    session: &Session,
    keys: &OpenedKeys,
    after: i64,
) -> Result<Done, Failure> {
    let mut tenants = Tenants::new(session, keys);
    let (mut done, mut count) = (None, 0);
    for row in session.query(SESSIONS, &[&after]).await? {
        let owner = OwnerRow::read(&row, 2)?;
        let key = SessionKey {
            owner: owner.owner(),
            name: row.try_get(1)?,
        };
        let (id, texts) = (row.try_get(0)?, tenants.of(&owner.tenant).await?);
        count += SessionRow { id, key, texts }.reseal(session).await?;
        done = Some((id, count));
    }
    Ok(done)
}

const MEMORIES: &str = concat!(
    "SELECT ",
    columns!("m."),
    ", m.id, o.tenant, o.user_id, o.agent \
    FROM lyceum.memory m JOIN lyceum.owner o ON o.id = m.owner \
    WHERE m.id > $1 ORDER BY m.id LIMIT $2 FOR UPDATE OF m"
);

const SET_MEMORIES: &str = "\
    UPDATE lyceum.memory m SET topic = '', text = '', context = '', sealed = a.sealed \
    FROM unnest($1::bigint[], $2::bytea[]) AS a (id, sealed) WHERE m.id = a.id";

/// Memories, but not the index of their words.
pub(crate) async fn memories(
    session: &Session,
    keys: &OpenedKeys,
    after: i64,
) -> Result<Done, Failure> {
    let mut tenants = Tenants::new(session, keys);
    let (mut last, mut ids, mut seals) = (None, Vec::new(), Vec::new());
    for row in session.query(MEMORIES, &[&after, &PORTION]).await? {
        let id: i64 = row.try_get(COLUMNS)?;
        let owner = OwnerRow::read(&row, COLUMNS + 1)?;
        let texts = tenants.of(&owner.tenant).await?;
        let mut stored = Stored::read(&row)?;
        if !texts.is_newest(stored.sealed.as_deref()) {
            let opened = stored.open(owner.owner(), texts)?;
            seals.push(stored.reseal(owner.owner(), texts, &opened)?);
            ids.push(id);
        }
        last = Some(id);
    }
    if !ids.is_empty() {
        session.execute(SET_MEMORIES, &[&ids, &seals]).await?;
    }
    Ok(last.map(|last| (last, ids.len() as u64)))
}

/// The next records over all kinds, by steps in the index of each.
const NUMBERS: &str = "\
    WITH RECURSIVE kinds (kind) AS ( \
        (SELECT kind FROM lyceum.record ORDER BY kind LIMIT 1) \
        UNION ALL \
        SELECT (SELECT r.kind FROM lyceum.record r WHERE r.kind > kinds.kind \
            ORDER BY r.kind LIMIT 1) FROM kinds WHERE kinds.kind IS NOT NULL \
    ) \
    SELECT kinds.kind, r.seq FROM kinds CROSS JOIN LATERAL ( \
        SELECT seq FROM lyceum.record WHERE kind = kinds.kind AND seq > $1 ORDER BY seq LIMIT $2 \
    ) r ORDER BY r.seq LIMIT $2";

const RECORDS: &str = "\
    SELECT r.seq, r.tenant, r.kind, r.name, r.grouped, r.body, r.sealed FROM lyceum.record r \
    JOIN unnest($1::text[], $2::bigint[]) AS a (kind, seq) ON r.kind = a.kind AND r.seq = a.seq \
    FOR UPDATE OF r";

const SET_RECORDS: &str = "\
    UPDATE lyceum.record r SET body = '', sealed = a.sealed \
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) \
        AS a (tenant, kind, name, sealed) \
    WHERE r.tenant = a.tenant AND r.kind = a.kind AND r.name = a.name";

/// Records.
pub(crate) async fn records(
    session: &Session,
    keys: &OpenedKeys,
    after: i64,
) -> Result<Done, Failure> {
    let (mut kinds, mut numbers) = (Vec::<String>::new(), Vec::<i64>::new());
    for row in session.query(NUMBERS, &[&after, &PORTION]).await? {
        kinds.push(row.try_get(0)?);
        numbers.push(row.try_get(1)?);
    }
    let Some(&last) = numbers.last() else {
        return Ok(None);
    };
    let rows = session.query(RECORDS, &[&kinds, &numbers]).await?;
    let mut tenants = Tenants::new(session, keys);
    let (mut of, mut kinds) = (Vec::<String>::new(), Vec::<String>::new());
    let (mut names, mut seals) = (Vec::<String>::new(), Vec::new());
    for row in rows {
        let (tenant, kind): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let (name, group) = (text(&row, 3)?, text(&row, 4)?);
        let columns: (String, Option<Vec<u8>>) = (row.try_get(5)?, row.try_get(6)?);
        let texts = tenants.of(&tenant).await?;
        if texts.is_newest(columns.1.as_deref()) {
            continue;
        }
        let (_, sealed) = places::record((&kind, &name, &group), |at| {
            let body = opened(texts, at, columns)?;
            kept(texts, at, &body).map(|(_, sealed)| ((), sealed))
        })?;
        of.push(tenant);
        kinds.push(kind);
        names.push(row.try_get(3)?);
        seals.push(sealed);
    }
    if !names.is_empty() {
        session
            .execute(SET_RECORDS, &[&of, &kinds, &names, &seals])
            .await?;
    }
    Ok(Some((last, names.len() as u64)))
}

const HAS_VECTORS: &str = "SELECT to_regclass('lyceum.embedding') IS NOT NULL";

/// What vectors there are goes: an encrypted database keeps none.
pub(crate) async fn vectors(session: &Session) -> Result<Done, Failure> {
    let row = session.query_opt(HAS_VECTORS, &[]).await?;
    if row.map_or(Ok(false), |row| row.try_get(0))? {
        let all = "DELETE FROM lyceum.embedding; DELETE FROM lyceum.vector_waiting; \
            DELETE FROM lyceum.vector_graph; DELETE FROM lyceum.vector_space; \
            DELETE FROM lyceum.setting WHERE key LIKE 'await_vectors %'";
        session.batch(all).await?;
    }
    Ok(None)
}

const OWNER: &str = "\
    SELECT id, tenant, user_id, agent, words_key FROM lyceum.owner WHERE id > $1 \
    ORDER BY id LIMIT 1";

/// The index of words, one owner at a time: its terms are the newest key's, or the old one's.
pub(crate) async fn words(
    session: &Session,
    keys: &OpenedKeys,
    after: i64,
) -> Result<Done, Failure> {
    let Some(row) = session.query_opt(OWNER, &[&after]).await? else {
        return Ok(None);
    };
    let (id, has): (i64, i64) = (row.try_get(0)?, row.try_get(4)?);
    let owner = OwnerRow::read(&row, 1)?;
    let texts = &texts_of(session, keys, &owner.tenant).await?;
    let newest = texts.keys().map_or(0, |keys| i64::from(keys.newest()));
    if has == newest {
        return Ok(Some((id, 0)));
    }
    let owner = owner.owner();
    words::rebuild(session, Home { id, owner, texts }).await?;
    Ok(Some((id, 1)))
}
