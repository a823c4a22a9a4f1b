//! Reads rows with what they seal, and writes it again under the newest key.
//!
//! Invariant: a row is written back in the transaction that read it, and says the same after it.
//! Rows that the newest key sealed already are left alone, so going over all of them again is cheap.

use lyceum_vault::places;
use rusqlite::{Connection, params};

use crate::{
    error::Failure,
    memory_row::{Stored, columns},
    scope::{Home, Owner},
    sealed::{At, Db, Texts, sealed_row},
    sessions::DIGEST,
    vectors::vector_at,
};

/// Rows that one transaction looks at.
const PORTION: i64 = 256;

/// A text that one column holds sealed and another clear.
struct Cell {
    id: i64,
    sealed: Option<Vec<u8>>,
    clear: String,
}

impl Cell {
    /// The text sealed anew; `None` where the newest key sealed it.
    fn reseal(self, texts: &Texts, at: At<'_>) -> Result<Option<Vec<u8>>, Failure> {
        if texts.is_newest(self.sealed.as_deref()) {
            return Ok(None);
        }
        let [text] = texts.open(at, self.sealed, [self.clear])?;
        texts.seal(at, &[&text])
    }
}

/// A session of an owner.
pub(crate) struct SessionRow<'a> {
    home: &'a Home,
    id: i64,
    name: String,
}

/// Goes through the sessions of an owner.
pub(crate) fn each_session(
    db: &Db<'_>,
    home: &Home,
    mut then: impl FnMut(&SessionRow<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut all = db.prepare("SELECT id, name FROM session WHERE owner = ?1")?;
    let mut rows = all.query([home.id])?;
    while let Some(row) = rows.next()? {
        then(&SessionRow {
            home,
            id: row.get(0)?,
            name: row.get(1)?,
        })?;
    }
    Ok(())
}

impl SessionRow<'_> {
    /// The rows of the session that do not open.
    pub(crate) fn refused(&self, db: &Db<'_>) -> Result<Vec<String>, Failure> {
        let mut refused = Vec::new();
        let mut note = |opened: rusqlite::Result<()>| match opened {
            Ok(()) => Ok(()),
            Err(error) => match sealed_row(&error) {
                Some(row) => {
                    refused.push(row.to_string());
                    Ok(())
                }
                None => Err(error),
            },
        };
        let texts = &self.home.texts;
        self.each_text(db, |at, cell| {
            note(texts.open(at, cell.sealed, [cell.clear]).map(drop))?;
            Ok(())
        })?;
        self.each_digest(db, |_, at, digest| {
            note(texts.open_bytes(at, digest, DIGEST).map(drop))?;
            Ok(())
        })?;
        Ok(refused)
    }

    /// Goes through the texts of the session: its topic, its summary, its messages, its jobs.
    fn each_text(
        &self,
        db: &Db<'_>,
        mut then: impl FnMut(At<'_>, Cell) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let place = self.home.owner.session(&self.name);
        let mut one = db.prepare_cached(
            "SELECT topic, sealed_topic, summary, sealed_summary, summary_upto FROM session \
             WHERE id = ?1",
        )?;
        let (topic, summary, upto) = one.query_row([self.id], |row| {
            let topic = Cell {
                id: self.id,
                sealed: row.get(1)?,
                clear: row.get(0)?,
            };
            let (clear, sealed): (Option<String>, _) = (row.get(2)?, row.get(3)?);
            let id = self.id;
            let summary = clear.map(|clear| Cell { id, sealed, clear });
            Ok((topic, summary, row.get::<_, i64>(4)?))
        })?;
        place.topic(|at| then(at, topic))?;
        if let Some(summary) = summary {
            place.summary(upto, |at| then(at, summary))?;
        }
        let mut messages = db.prepare_cached(
            "SELECT id, content, sealed, seq, turn, role, created_at FROM message \
             WHERE session = ?1 ORDER BY seq DESC",
        )?;
        let mut rows = messages.query([self.id])?;
        while let Some(row) = rows.next()? {
            let cell = Cell {
                id: row.get(0)?,
                sealed: row.get(2)?,
                clear: row.get(1)?,
            };
            let (turn, role): (String, String) = (row.get(4)?, row.get(5)?);
            let of = places::Message {
                seq: row.get(3)?,
                turn: &turn,
                role: &role,
                created_at: row.get(6)?,
            };
            place.message(of, |at| then(at, cell))?;
        }
        let mut jobs = db.prepare_cached(
            "SELECT id, payload, sealed, name, kind FROM job WHERE session = ?1 ORDER BY id",
        )?;
        let mut rows = jobs.query([self.id])?;
        while let Some(row) = rows.next()? {
            let cell = Cell {
                id: row.get(0)?,
                sealed: row.get(2)?,
                clear: row.get(1)?,
            };
            let (name, kind): (String, String) = (row.get(3)?, row.get(4)?);
            place.job((&name, &kind), |at| then(at, cell))?;
        }
        Ok(())
    }

    fn each_digest(
        &self,
        db: &Db<'_>,
        mut then: impl FnMut(&str, At<'_>, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut turns = db.prepare_cached(
            "SELECT name, digest FROM turn WHERE session = ?1 AND digest NOT NULL",
        )?;
        let mut rows = turns.query([self.id])?;
        while let Some(row) = rows.next()? {
            let (name, digest): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            self.home
                .owner
                .session(&self.name)
                .turn(&name, |at| then(&name, at, &digest))?;
        }
        Ok(())
    }

    fn reseal(&self, db: &Db<'_>) -> Result<u64, Failure> {
        let texts = &self.home.texts;
        let mut anew = Vec::new();
        self.each_text(db, |at, cell| {
            let (id, column) = (cell.id, (at.table, at.column));
            anew.extend(cell.reseal(texts, at)?.map(|sealed| (column, id, sealed)));
            Ok(())
        })?;
        for (column, id, sealed) in &anew {
            let sql = match column {
                ("session", "topic") => {
                    "UPDATE session SET topic = '', sealed_topic = ?2 WHERE id = ?1"
                }
                ("session", _) => {
                    "UPDATE session SET summary = '', sealed_summary = ?2 WHERE id = ?1"
                }
                ("message", _) => "UPDATE message SET content = '', sealed = ?2 WHERE id = ?1",
                _ => "UPDATE job SET payload = '', sealed = ?2 WHERE id = ?1",
            };
            db.prepare_cached(sql)?.execute(params![id, sealed])?;
        }
        let mut digests = Vec::new();
        self.each_digest(db, |name, at, digest| {
            if !texts.is_newest(Some(digest)) || digest.len() == DIGEST {
                let opened = texts.open_bytes(at, digest, DIGEST)?;
                digests.push((name.to_owned(), texts.seal_bytes(at, opened)?));
            }
            Ok(())
        })?;
        let mut update =
            db.prepare_cached("UPDATE turn SET digest = ?3 WHERE session = ?1 AND name = ?2")?;
        for (name, digest) in &digests {
            update.execute(params![self.id, name, digest])?;
        }
        Ok((anew.len() + digests.len()) as u64)
    }
}

/// What a portion did: the last row it looked at, and how many it sealed.
pub(crate) type Done = Option<(i64, u64)>;

/// The owner of a row of four columns that begin at `at`.
fn home(row: &rusqlite::Row<'_>, at: usize, db: &Db<'_>) -> Result<Home, Failure> {
    let owner = Owner {
        tenant: row.get(at + 1)?,
        user: row.get(at + 2)?,
        agent: row.get(at + 3)?,
    };
    let texts = db.texts(&owner.tenant)?;
    let id = row.get(at)?;
    Ok(Home { id, owner, texts })
}

/// Sessions, with all that belongs to them. They may be long, so there are fewer at a time.
pub(crate) fn sessions(db: &Db<'_>, after: i64) -> Result<Done, Failure> {
    let mut next = db.prepare_cached(
        "SELECT o.id, o.tenant, o.user, o.agent, s.id, s.name FROM session AS s \
         JOIN owner AS o ON o.id = s.owner WHERE s.id > ?1 ORDER BY s.id LIMIT 8",
    )?;
    let mut rows = next.query([after])?;
    let mut done = None;
    while let Some(row) = rows.next()? {
        let session = SessionRow {
            home: &home(row, 0, db)?,
            id: row.get(4)?,
            name: row.get(5)?,
        };
        let (_, sealed) = done.unwrap_or_default();
        done = Some((session.id, sealed + session.reseal(db)?));
    }
    Ok(done)
}

/// Memories, but not the index of their words.
pub(crate) fn memories(db: &Db<'_>, after: i64) -> Result<Done, Failure> {
    let mut next = db.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        ", o.id, o.tenant, o.user, o.agent, m.id FROM memory AS m \
         JOIN owner AS o ON o.id = m.owner WHERE m.id > ?1 ORDER BY m.id LIMIT ?2"
    ))?;
    let mut update = db.prepare_cached(
        "UPDATE memory SET topic = '', text = '', context = '', sealed = ?2 WHERE id = ?1",
    )?;
    let mut rows = next.query([after, PORTION])?;
    let mut done = None;
    while let Some(row) = rows.next()? {
        let home = home(row, 12, db)?;
        let (id, mut stored): (i64, _) = (row.get(16)?, Stored::read(row, 0)?);
        let (_, mut count) = done.unwrap_or_default();
        if !home.texts.is_newest(stored.sealed.as_deref()) {
            let texts = stored.open(&home.owner, &home.texts)?;
            let sealed = stored.reseal(&home.owner, &home.texts, &texts)?;
            update.execute(params![id, sealed])?;
            count += 1;
        }
        done = Some((id, count));
    }
    Ok(done)
}

/// Vectors.
pub(crate) fn vectors(db: &Db<'_>, after: i64) -> Result<Done, Failure> {
    let mut next = db.prepare_cached(
        "SELECT v.id, o.tenant, v.space, v.memory, v.data, s.dimensions FROM vector AS v \
         JOIN owner AS o ON o.id = v.owner JOIN vector_space AS s ON s.id = v.space \
         WHERE v.id > ?1 ORDER BY v.id LIMIT ?2",
    )?;
    let mut update = db.prepare_cached("UPDATE vector SET data = ?2 WHERE id = ?1")?;
    let mut rows = next.query([after, PORTION])?;
    let mut done = None;
    while let Some(row) = rows.next()? {
        let (id, tenant): (i64, String) = (row.get(0)?, row.get(1)?);
        let (_, mut count) = done.unwrap_or_default();
        if let Some(data) = row.get::<_, Option<Vec<u8>>>(4)? {
            let texts = db.texts(&tenant)?;
            let clear = 4 * usize::try_from(row.get::<_, i64>(5)?).unwrap_or(0);
            if data.len() == clear || !texts.is_newest(Some(&data)) {
                let sealed = vector_at(row.get(2)?, row.get(3)?, |at| {
                    let opened = texts.open_bytes(at, &data, clear)?;
                    texts.seal_bytes(at, opened)
                })?;
                update.execute(params![id, sealed])?;
                count += 1;
            }
        }
        done = Some((id, count));
    }
    Ok(done)
}

/// Records.
pub(crate) fn records(db: &Db<'_>, after: i64) -> Result<Done, Failure> {
    let mut next = db.prepare_cached(
        "SELECT seq, tenant, kind, name, body, sealed, grouped FROM record WHERE seq > ?1 \
         ORDER BY seq LIMIT ?2",
    )?;
    let mut update =
        db.prepare_cached("UPDATE record SET body = '', sealed = ?2 WHERE seq = ?1")?;
    let mut rows = next.query([after, PORTION])?;
    let mut done = None;
    while let Some(row) = rows.next()? {
        let cell = Cell {
            id: row.get(0)?,
            sealed: row.get(5)?,
            clear: row.get(4)?,
        };
        let of = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(6)?];
        let [tenant, kind, name, group]: [String; 4] = of;
        let texts = db.texts(&tenant)?;
        let (id, (_, mut count)) = (cell.id, done.unwrap_or_default());
        if let Some(sealed) = places::record((&kind, &name, &group), |at| cell.reseal(&texts, at))?
        {
            update.execute(params![id, sealed])?;
            count += 1;
        }
        done = Some((id, count));
    }
    Ok(done)
}

/// The records and vectors that do not open.
pub(crate) fn refused_beside(db: &Db<'_>) -> Result<Vec<String>, Failure> {
    let mut refused = Vec::new();
    let mut note = |opened: rusqlite::Result<()>| match opened {
        Ok(()) => Ok(()),
        Err(error) => match sealed_row(&error) {
            Some(row) => {
                refused.push(row.to_string());
                Ok(())
            }
            None => Err(error),
        },
    };
    let mut records = db.prepare("SELECT tenant, kind, name, body, sealed, grouped FROM record")?;
    let mut rows = records.query([])?;
    while let Some(row) = rows.next()? {
        let of = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(5)?];
        let [tenant, kind, name, group]: [String; 4] = of;
        let (sealed, clear) = (row.get(4)?, [row.get(3)?]);
        let texts = db.texts(&tenant)?;
        note(places::record((&kind, &name, &group), |at| texts.open(at, sealed, clear)).map(drop))?;
    }
    let mut vectors = db.prepare(
        "SELECT o.tenant, v.space, v.memory, v.data, s.dimensions FROM vector AS v \
         JOIN owner AS o ON o.id = v.owner JOIN vector_space AS s ON s.id = v.space \
         WHERE v.data NOT NULL",
    )?;
    let mut rows = vectors.query([])?;
    while let Some(row) = rows.next()? {
        let (tenant, data): (String, Vec<u8>) = (row.get(0)?, row.get(3)?);
        let clear = 4 * usize::try_from(row.get::<_, i64>(4)?).unwrap_or(0);
        let texts = db.texts(&tenant)?;
        let (space, memory) = (row.get(1)?, row.get(2)?);
        let opened = vector_at(space, memory, |at| texts.open_bytes(at, &data, clear));
        note(opened.map(drop))?;
    }
    Ok(refused)
}

/// The index of words, one owner at a time: its terms are the newest key's, or the old one's.
pub(crate) fn words(db: &Db<'_>, after: i64) -> Result<Done, Failure> {
    let mut next = db.prepare_cached(
        "SELECT id, tenant, user, agent, words_key FROM owner WHERE id > ?1 ORDER BY id LIMIT 1",
    )?;
    let mut rows = next.query([after])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let home = home(row, 0, db)?;
    let (id, has): (i64, u32) = (home.id, row.get(4)?);
    let newest = home.texts.keys().map_or(0, |keys| keys.newest());
    if has == newest {
        return Ok(Some((id, 0)));
    }
    drop(rows);
    set_words(db, id, newest)?;
    crate::memories::rebuild_owner(db, &home)?;
    Ok(Some((id, 1)))
}

fn set_words(connection: &Connection, owner: i64, version: u32) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE owner SET words_key = ?2 WHERE id = ?1")?
        .execute(params![owner, version])?;
    Ok(())
}
