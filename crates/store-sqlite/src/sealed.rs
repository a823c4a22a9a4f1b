//! Texts as rows keep them, see [`lyceum_vault::Texts`], in the engine's own errors; and the keys
//! of tenants as the file keeps them.
//!
//! Invariant: what a transaction sees of the table of keys is what it works with: nothing is sealed
//! with a key that is undone with it.

use std::{ops::Deref, sync::Arc};

use lyceum_memory::{StoreError, lexical::Document};
pub(crate) use lyceum_vault::{At, OpenedKeys as Keys, SealedRow};
use lyceum_vault::{Clear, SealError, TenantKeys, Wrapped};
use rusqlite::{Connection, Error, params, types::Type};

use crate::error::Failure;

/// A connection, and the keys of what it reads and writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Db<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) keys: &'a Keys,
}

impl Deref for Db<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Db<'_> {
    /// The wrapped keys of a tenant, oldest first.
    pub(crate) fn wrapped(&self, tenant: &str) -> rusqlite::Result<Vec<Wrapped>> {
        self.prepare_cached(
            "SELECT version, wrapped FROM tenant_key WHERE tenant = ?1 ORDER BY version",
        )?
        .query_map([tenant], |row| {
            Ok(Wrapped {
                version: row.get(0)?,
                bytes: row.get(1)?,
            })
        })?
        .collect()
    }

    pub(crate) fn keep(&self, tenant: &str, key: &Wrapped) -> rusqlite::Result<()> {
        self.prepare_cached(
            "REPLACE INTO tenant_key (tenant, version, wrapped) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![tenant, key.version, key.bytes])?;
        Ok(())
    }

    /// How the texts of a tenant are read.
    pub(crate) fn texts(&self, tenant: &str) -> Result<Texts, Failure> {
        let wrapped = match self.keys.masters() {
            None => Vec::new(),
            Some(_) => self.wrapped(tenant)?,
        };
        let texts = self.keys.texts(tenant, wrapped);
        Ok(Texts(texts.map_err(engine)?))
    }

    /// How the texts of a tenant are written: it gets a key where it has none.
    pub(crate) fn texts_to_write(&self, tenant: &str) -> Result<Texts, Failure> {
        let texts = self.texts(tenant)?;
        let (None, Some(masters)) = (texts.keys(), self.keys.masters()) else {
            return Ok(texts);
        };
        let made = masters.make(tenant, None, Clear::Refused);
        let made = made.map_err(internal)?;
        self.keep(tenant, &made)?;
        self.texts(tenant)
    }
}

fn internal(source: SealError) -> Failure {
    Failure::Store(StoreError::Internal {
        source: source.into(),
    })
}

/// The engine's own error for a value that cannot be read carries it through a query.
fn engine(row: SealedRow) -> Error {
    Error::FromSqlConversionFailure(0, Type::Blob, Box::new(row))
}

/// The row that an error of the engine carries.
pub(crate) fn sealed_row(error: &Error) -> Option<&SealedRow> {
    match error {
        Error::FromSqlConversionFailure(_, _, source) => source.downcast_ref(),
        _ => None,
    }
}

/// The texts of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Texts(lyceum_vault::Texts);

impl Texts {
    pub(crate) fn keys(&self) -> Option<&Arc<TenantKeys>> {
        self.0.keys()
    }

    pub(crate) fn is_newest(&self, sealed: Option<&[u8]>) -> bool {
        self.0.is_newest(sealed)
    }

    pub(crate) fn seal(&self, at: At<'_>, texts: &[&str]) -> Result<Option<Vec<u8>>, Failure> {
        self.0.seal(at, texts).map_err(internal)
    }

    pub(crate) fn open<const N: usize>(
        &self,
        at: At<'_>,
        sealed: Option<Vec<u8>>,
        clear: [String; N],
    ) -> rusqlite::Result<[String; N]> {
        self.0.open(at, sealed, clear).map_err(engine)
    }

    pub(crate) fn seal_bytes(&self, at: At<'_>, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
        self.0.seal_bytes(at, bytes).map_err(internal)
    }

    pub(crate) fn open_bytes(
        &self,
        at: At<'_>,
        bytes: &[u8],
        clear: usize,
    ) -> rusqlite::Result<Vec<u8>> {
        self.0.open_bytes(at, bytes, clear).map_err(engine)
    }

    /// How the words of an owner are written whose row says this version.
    pub(crate) fn words(&self, owner: i64, version: u32) -> Result<Words, Failure> {
        let words = self.0.words(owner, version).map_err(engine)?;
        Ok(Words(words))
    }
}

/// The words of one owner, as the index writes them.
#[derive(Debug, Clone)]
pub(crate) struct Words(lyceum_vault::Words);

impl Words {
    pub(crate) fn term(&self, word: String) -> String {
        self.0.term(word)
    }

    pub(crate) fn document(&self, texts: &[&str]) -> Document {
        let document = Document::new(texts);
        let terms = document.terms.into_iter();
        Document {
            terms: terms
                .map(|(word, count)| (self.term(word), count))
                .collect(),
            length: document.length,
        }
    }
}
