//! Texts as rows keep them: clear, or sealed under their tenant's key where they stand.
//!
//! The associated data of a sealed text is its tenant, table, row, column and what else the row
//! says of it for good, so that none of these can be changed or exchanged unnoticed.
//! Invariant: with keys no text is written in the clear, and none is read that was, unless the
//! tenant's own key says that its rows are being sealed. What a transaction sees of the table of
//! keys is what it works with: nothing is sealed with a key that is undone with it.

use std::{
    collections::HashMap,
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lyceum_memory::{StoreError, lexical::Document};
use lyceum_vault::{Clear, KeyRing, Masters, OpenError, TenantKeys, Wrapped, place};
use rusqlite::{Connection, Error, params, types::Type};

use crate::error::Failure;

/// The kind of the place of a row's texts.
const ROW: u8 = b't';

/// What a sealed piece is longer by: its form, its key's version, the nonce, the tag.
pub(crate) const OVERHEAD: usize = 1 + 4 + 24 + 16;

/// Tenants whose opened keys are kept.
const KEPT: usize = 4_096;

/// Keys that were opened, by their tenant and what they were wrapped as.
type Opened = HashMap<(String, Vec<Wrapped>), Arc<TenantKeys>>;

/// The master keys, where there are any, and the keys that were opened with them.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    masters: Option<Masters>,
    opened: Mutex<Opened>,
}

impl Keys {
    pub(crate) fn new(masters: Option<Masters>) -> Self {
        Self {
            masters,
            opened: Mutex::default(),
        }
    }

    pub(crate) fn masters(&self) -> Option<&Masters> {
        self.masters.as_ref()
    }

    /// The keys that these are, wrapped: the same bytes are the same keys, whatever becomes of
    /// the transaction that read them.
    fn open(
        &self,
        masters: &Masters,
        tenant: &str,
        wrapped: Vec<Wrapped>,
    ) -> Result<Arc<TenantKeys>, OpenError> {
        let name = (tenant.to_owned(), wrapped);
        if let Some(keys) = self.opened().get(&name) {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(masters.open(tenant, &name.1)?);
        let mut opened = self.opened();
        if opened.len() >= KEPT {
            opened.clear();
        }
        opened.insert(name, Arc::clone(&keys));
        Ok(keys)
    }

    /// Forgets all keys that were opened.
    pub(crate) fn forget(&self) {
        self.opened().clear();
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
        let keys = match self.keys.masters() {
            None => None,
            Some(masters) => {
                let wrapped = self.wrapped(tenant)?;
                let opened = (!wrapped.is_empty())
                    .then(|| self.keys.open(masters, tenant, wrapped))
                    .transpose();
                opened.map_err(|why| refused("key", tenant, why))?
            }
        };
        Ok(Texts {
            tenant: tenant.to_owned(),
            is_sealed: self.keys.masters().is_some(),
            keys,
        })
    }

    /// How the texts of a tenant are written: it gets a key where it has none.
    pub(crate) fn texts_to_write(&self, tenant: &str) -> Result<Texts, Failure> {
        let texts = self.texts(tenant)?;
        let (None, Some(masters)) = (&texts.keys, self.keys.masters()) else {
            return Ok(texts);
        };
        let made = masters.make(tenant, None, Clear::Refused);
        let made = made.map_err(|source| internal(source.into()))?;
        self.keep(tenant, &made)?;
        self.texts(tenant)
    }
}

fn internal(source: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    Failure::Store(StoreError::Internal { source })
}

fn refused(table: &'static str, row: impl Into<String>, why: OpenError) -> Failure {
    let row = row.into();
    Failure::Sqlite(SealedRow { table, row, why }.into())
}

/// Where a text stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    /// What names the row among the tenant's.
    pub(crate) row: &'a [&'a str],
    /// What else the row says for good.
    pub(crate) rest: &'a [&'a str],
}

impl At<'_> {
    fn place(&self, tenant: &str) -> Vec<u8> {
        let mut parts = vec![
            tenant.as_bytes(),
            self.table.as_bytes(),
            self.column.as_bytes(),
        ];
        // How many follow tells names and the rest apart.
        let names = [u8::try_from(self.row.len()).unwrap_or(u8::MAX)];
        parts.push(&names);
        parts.extend(self.row.iter().map(|name| name.as_bytes()));
        parts.extend(self.rest.iter().map(|rest| rest.as_bytes()));
        place(ROW, &parts)
    }

    fn refused(&self, why: OpenError) -> Error {
        SealedRow {
            table: self.table,
            row: self.row.join("/"),
            why,
        }
        .into()
    }
}

/// The texts of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    tenant: String,
    is_sealed: bool,
    keys: Option<Arc<TenantKeys>>,
}

impl Texts {
    pub(crate) fn keys(&self) -> Option<&Arc<TenantKeys>> {
        self.keys.as_ref()
    }

    /// Whether texts that were never sealed are believed.
    fn may_be_clear(&self) -> bool {
        match &self.keys {
            Some(keys) => keys.clear() == Clear::Accepted,
            None => !self.is_sealed,
        }
    }

    /// The texts sealed; `None` where they are kept in the clear.
    pub(crate) fn seal(&self, at: At<'_>, texts: &[&str]) -> Result<Option<Vec<u8>>, Failure> {
        let Some(keys) = &self.keys else {
            return Ok(None);
        };
        let sealed = keys.seal_texts(&at.place(&self.tenant), texts);
        sealed.map(Some).map_err(|source| internal(source.into()))
    }

    /// The texts of a row that has these columns.
    pub(crate) fn open<const N: usize>(
        &self,
        at: At<'_>,
        sealed: Option<Vec<u8>>,
        clear: [String; N],
    ) -> rusqlite::Result<[String; N]> {
        let opened = match (sealed, &self.keys) {
            (None, _) if self.may_be_clear() => Ok(clear),
            (None, _) => Err(OpenError::Form),
            (Some(bytes), Some(keys)) => keys.open_texts(&at.place(&self.tenant), &bytes),
            (Some(bytes), None) => Err(unknown(&bytes)),
        };
        opened.map_err(|why| at.refused(why))
    }

    /// The bytes sealed, or as they are where nothing is.
    pub(crate) fn seal_bytes(&self, at: At<'_>, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let Some(keys) = &self.keys else {
            return Ok(bytes);
        };
        let sealed = keys.seal(&at.place(&self.tenant), &bytes);
        sealed.map_err(|source| internal(source.into()))
    }

    /// The bytes of a column that holds `clear` of them, or these sealed.
    pub(crate) fn open_bytes(
        &self,
        at: At<'_>,
        bytes: &[u8],
        clear: usize,
    ) -> rusqlite::Result<Vec<u8>> {
        let opened = match &self.keys {
            _ if bytes.len() == clear && self.may_be_clear() => Ok(bytes.to_vec()),
            Some(keys) => keys.open(&at.place(&self.tenant), bytes),
            None if bytes.len() == clear + OVERHEAD => Err(unknown(bytes)),
            // It is of another shape, which its reader says.
            None => Ok(bytes.to_vec()),
        };
        opened.map_err(|why| at.refused(why))
    }

    /// How the words of an owner are written whose row says this version.
    pub(crate) fn words(&self, owner: i64, version: u32) -> Result<Words, Failure> {
        let keys = match version {
            0 if self.may_be_clear() => None,
            0 => return Err(refused("owner", owner.to_string(), OpenError::Form)),
            id => {
                let keys = self.keys.as_ref();
                let known = keys.filter(|keys| keys.term(id, owner, "").is_some());
                let unknown = || refused("owner", owner.to_string(), OpenError::UnknownKey { id });
                Some(Arc::clone(known.ok_or_else(unknown)?))
            }
        };
        Ok(Words {
            keys,
            owner,
            version,
        })
    }
}

fn unknown(bytes: &[u8]) -> OpenError {
    match KeyRing::sealed_by(bytes) {
        Ok(id) => OpenError::UnknownKey { id },
        Err(form) => form,
    }
}

/// The words of one owner, as the index writes them.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    keys: Option<Arc<TenantKeys>>,
    owner: i64,
    version: u32,
}

impl Words {
    pub(crate) fn term(&self, word: String) -> String {
        let blind = |keys: &Arc<TenantKeys>| keys.term(self.version, self.owner, &word);
        // The version was there when these words were made.
        self.keys.as_ref().and_then(blind).unwrap_or(word)
    }

    pub(crate) fn document(&self, texts: &[&str]) -> Document {
        let document = Document::new(texts);
        if self.keys.is_none() {
            return document;
        }
        let terms = document.terms.into_iter();
        Document {
            terms: terms
                .map(|(word, count)| (self.term(word), count))
                .collect(),
            length: document.length,
        }
    }
}

/// A row whose sealed content does not open.
#[derive(Debug, Clone)]
pub(crate) struct SealedRow {
    pub(crate) table: &'static str,
    pub(crate) row: String,
    pub(crate) why: OpenError,
}

impl fmt::Display for SealedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open {} {}", self.table, self.row)
    }
}

impl std::error::Error for SealedRow {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

/// The engine's own error for a value that cannot be read carries it through a query.
impl From<SealedRow> for Error {
    fn from(row: SealedRow) -> Self {
        Self::FromSqlConversionFailure(0, Type::Blob, Box::new(row))
    }
}

/// The row that an error of the engine carries.
pub(crate) fn sealed_row(error: &Error) -> Option<&SealedRow> {
    match error {
        Error::FromSqlConversionFailure(_, _, source) => source.downcast_ref(),
        _ => None,
    }
}
