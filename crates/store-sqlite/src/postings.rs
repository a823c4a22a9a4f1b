//! The index of words: for each owner and term the memories that hold it, packed.
//!
//! A row holds up to [`CHUNK_BYTES`] of entries, each three LEB128 numbers: the memory's id less
//! the row's `first`, the term's count, the document's length. Packing lets a search read
//! a row for a hundred entries; a file of 100,000 memories of 40 words shrank from 120 to 67 MB.
//!
//! Invariant: an entry stands in the row with the greatest `first` not above its memory's id.
//! It holds because a new memory's id is above all others of the file.

use lyceum_memory::lexical::{Document, Posting};
use rusqlite::{Connection, Error, OptionalExtension, params, types::Type};

/// A row that is this long is not appended to. With its key it stays below the 1,002 bytes
/// that SQLite keeps inside a page of 4,096 bytes (<https://sqlite.org/fileformat2.html>, 1.5).
const CHUNK_BYTES: usize = 512;

/// A term is common when more memories of its owner hold it than this …
const COMMON: u64 = 1_024;
/// … and more than one in so many: BM25 then gives it at most a fifth of a rare term's weight.
const COMMON_SHARE: u64 = 8;

/// The postings of a term, or the newest of a common one.
#[derive(Debug)]
pub(crate) enum Held {
    By(Vec<Posting>),
    ByMany(Vec<Posting>),
}

pub(crate) const OF_TERM: &str = "\
    SELECT first, entries FROM posting WHERE owner = ?1 AND term = ?2 ORDER BY first DESC";

const ROW: &str = "\
    SELECT first, entries FROM posting WHERE owner = ?1 AND term = ?2 AND first <= ?3 \
    ORDER BY first DESC LIMIT 1";

const UPDATE: &str =
    "UPDATE posting SET entries = ?4 WHERE owner = ?1 AND term = ?2 AND first = ?3";

/// Adds the words of a new memory.
pub(crate) fn add(
    connection: &Connection,
    owner: i64,
    memory: i64,
    document: &Document,
) -> rusqlite::Result<()> {
    let mut find = connection.prepare_cached(ROW)?;
    let mut update = connection.prepare_cached(UPDATE)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO posting (owner, term, first, entries) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (term, &count) in &document.terms {
        let row: Option<(i64, Vec<u8>)> = find
            .query_row(params![owner, term, memory], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let posting = Posting {
            document: memory,
            count,
            length: document.length,
        };
        match row {
            Some((first, mut entries)) if entries.len() < CHUNK_BYTES => {
                encode(first, posting, &mut entries);
                update.execute(params![owner, term, first, entries])?;
            }
            _ => {
                let mut entries = Vec::new();
                encode(memory, posting, &mut entries);
                insert.execute(params![owner, term, memory, entries])?;
            }
        }
    }
    Ok(())
}

/// Removes the words of a memory.
pub(crate) fn remove(
    connection: &Connection,
    owner: i64,
    memory: i64,
    document: &Document,
) -> rusqlite::Result<()> {
    let mut find = connection.prepare_cached(ROW)?;
    let mut update = connection.prepare_cached(UPDATE)?;
    let mut delete = connection
        .prepare_cached("DELETE FROM posting WHERE owner = ?1 AND term = ?2 AND first = ?3")?;
    for term in document.terms.keys() {
        let row: Option<(i64, Vec<u8>)> = find
            .query_row(params![owner, term, memory], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((first, entries)) = row else {
            continue;
        };
        let mut postings = Vec::new();
        decode(first, &entries, &mut postings)?;
        postings.retain(|posting| posting.document != memory);
        let mut kept = Vec::new();
        for posting in postings {
            encode(first, posting, &mut kept);
        }
        match kept.is_empty() {
            true => delete.execute(params![owner, term, first])?,
            false => update.execute(params![owner, term, first, kept])?,
        };
    }
    Ok(())
}

/// Removes the words of a memory that nobody can read any more, going through all of its owner's;
/// gives the memory's length.
pub(crate) fn purge(connection: &Connection, owner: i64, memory: i64) -> rusqlite::Result<u32> {
    let mut all = connection
        .prepare("SELECT term, first, entries FROM posting WHERE owner = ?1 AND first <= ?2")?;
    let mut rows = all.query([owner, memory])?;
    let (mut held, mut length) = (Document::default(), 0);
    while let Some(row) = rows.next()? {
        let mut postings = Vec::new();
        decode(row.get(1)?, row.get_ref(2)?.as_blob()?, &mut postings)?;
        let own = postings.iter().find(|posting| posting.document == memory);
        if let Some(own) = own {
            length = own.length;
            held.terms.insert(row.get(0)?, own.count);
        }
    }
    drop(rows);
    remove(connection, owner, memory, &held)?;
    Ok(length)
}

/// The memories of the owner that hold the term, in no particular order. `documents` is how
/// many the owner has; it bounds what a common term costs.
pub(crate) fn of_term(
    connection: &Connection,
    owner: i64,
    term: &str,
    documents: u64,
) -> rusqlite::Result<Held> {
    let most = usize::try_from(COMMON.max(documents / COMMON_SHARE)).unwrap_or(usize::MAX);
    let mut all = connection.prepare_cached(OF_TERM)?;
    let mut rows = all.query(params![owner, term])?;
    let mut postings = Vec::new();
    while let Some(row) = rows.next()? {
        decode(row.get(0)?, row.get_ref(1)?.as_blob()?, &mut postings)?;
        if postings.len() > most {
            return Ok(Held::ByMany(postings));
        }
    }
    Ok(Held::By(postings))
}

fn encode(first: i64, posting: Posting, entries: &mut Vec<u8>) {
    let offset = u64::try_from(posting.document - first).unwrap_or(0);
    for number in [offset, posting.count.into(), posting.length.into()] {
        let mut rest = number;
        while rest >= 0x80 {
            entries.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        entries.push(rest as u8);
    }
}

pub(crate) fn decode(
    first: i64,
    entries: &[u8],
    postings: &mut Vec<Posting>,
) -> rusqlite::Result<()> {
    let mut bytes = entries.iter();
    let mut number = || {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let &byte = bytes.next()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    };
    while let Some(offset) = number() {
        let entry = number().zip(number());
        let (count, length) = entry.ok_or_else(damaged)?;
        postings.push(Posting {
            document: first.saturating_add_unsigned(offset),
            count: u32::try_from(count).map_err(|_| damaged())?,
            length: u32::try_from(length).map_err(|_| damaged())?,
        });
    }
    Ok(())
}

fn damaged() -> Error {
    Error::FromSqlConversionFailure(
        1,
        Type::Blob,
        "an entry of the index of words is cut".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_packing() {
        let postings: Vec<Posting> = [(7, 1, 1), (8, 127, 128), (7 + (1 << 40), u32::MAX, 0)]
            .map(|(document, count, length)| Posting {
                document,
                count,
                length,
            })
            .to_vec();
        let mut entries = Vec::new();
        for &posting in &postings {
            encode(7, posting, &mut entries);
        }
        let mut unpacked = Vec::new();
        decode(7, &entries, &mut unpacked).unwrap();
        assert_eq!(unpacked, postings);
    }

    #[test]
    fn a_cut_entry_is_damage() {
        assert!(decode(0, &[1, 1], &mut Vec::new()).is_err());
        assert!(decode(0, &[1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 1], &mut Vec::new()).is_err());
    }
}
