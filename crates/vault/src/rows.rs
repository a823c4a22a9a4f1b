//! Texts as the rows of a store keep them: clear, or sealed under their tenant's key where they
//! stand.
//!
//! The associated data of a sealed text is its tenant, table, row, column and what else the row
//! says of it for good, so that none of these can be changed or exchanged unnoticed.
//! Invariant: with keys no text is written in the clear, and none is read that was, unless the
//! tenant's own key says that its rows are being sealed.
//! Deliberately absent: where keys and rows are kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Clear, KeyRing, Masters, OpenError, SealError, TenantKeys, Wrapped, place};

/// The kind of the place of a row's texts.
const ROW: u8 = b't';

/// Tenants whose opened keys are kept.
const KEPT: usize = 4_096;

/// Keys that were opened, by their tenant and what they were wrapped as.
type Opened = HashMap<(String, Vec<Wrapped>), Arc<TenantKeys>>;

/// With what the texts of a store are sealed.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// The master keys, which are not in the store.
    pub masters: Masters,
    /// Whether a store that is not sealed wholly is opened: to seal it, or to erase what is in it.
    pub unsealed: Unsealed,
}

/// What becomes of a store that is not sealed wholly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsealed {
    /// It is refused as it is.
    Refuse,
    /// It is opened, to be sealed or erased.
    Open,
}

/// The master keys, where there are any, and the keys that were opened with them.
#[derive(Debug, Default)]
pub struct OpenedKeys {
    masters: Option<Masters>,
    opened: Mutex<Opened>,
}

impl OpenedKeys {
    /// Without master keys nothing is sealed.
    #[must_use]
    pub fn new(masters: Option<Masters>) -> Self {
        Self {
            masters,
            opened: Mutex::default(),
        }
    }

    /// The master keys.
    #[must_use]
    pub fn masters(&self) -> Option<&Masters> {
        self.masters.as_ref()
    }

    /// How the texts of a tenant are read that has these wrapped keys: the same bytes are the same
    /// keys, whatever becomes of the transaction that read them.
    ///
    /// # Errors
    ///
    /// [`SealedRow`] where a key does not open.
    pub fn texts(&self, tenant: &str, wrapped: Vec<Wrapped>) -> Result<Texts, SealedRow> {
        let keys = match &self.masters {
            Some(masters) if !wrapped.is_empty() => Some(self.open(masters, tenant, wrapped)),
            _ => None,
        };
        let refused = |why| SealedRow {
            table: "key",
            row: tenant.to_owned(),
            why,
        };
        Ok(Texts {
            tenant: tenant.to_owned(),
            is_sealed: self.masters.is_some(),
            keys: keys.transpose().map_err(refused)?,
        })
    }

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
    pub fn forget(&self) {
        self.opened().clear();
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a text stands.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// What names the row among the tenant's.
    pub row: &'a [&'a str],
    /// What else the row says for good.
    pub rest: &'a [&'a str],
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

    fn refused(&self, why: OpenError) -> SealedRow {
        SealedRow {
            table: self.table,
            row: self.row.join("/"),
            why,
        }
    }
}

/// A row whose sealed content does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("open {table} {row}")]
pub struct SealedRow {
    /// The table.
    pub table: &'static str,
    /// The row's name in it.
    pub row: String,
    /// Why it does not open.
    #[source]
    pub why: OpenError,
}

/// The texts of one tenant.
#[derive(Debug, Clone)]
pub struct Texts {
    tenant: String,
    is_sealed: bool,
    keys: Option<Arc<TenantKeys>>,
}

impl Texts {
    /// Whose they are.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// With what they are sealed.
    #[must_use]
    pub fn keys(&self) -> Option<&Arc<TenantKeys>> {
        self.keys.as_ref()
    }

    /// Whether nothing can be written: the store seals, and the tenant has no key yet.
    #[must_use]
    pub fn lack_a_key(&self) -> bool {
        self.is_sealed && self.keys.is_none()
    }

    /// Whether texts that were never sealed are believed.
    #[must_use]
    pub fn may_be_clear(&self) -> bool {
        match &self.keys {
            Some(keys) => keys.clear() == Clear::Accepted,
            None => !self.is_sealed,
        }
    }

    /// Whether the tenant's newest key sealed these bytes.
    #[must_use]
    pub fn is_newest(&self, sealed: Option<&[u8]>) -> bool {
        let newest = self.keys.as_ref().map(|keys| keys.newest());
        sealed.map(KeyRing::sealed_by).and_then(Result::ok) == newest
    }

    /// The texts sealed; `None` where they are kept in the clear.
    ///
    /// # Errors
    ///
    /// [`SealError`], where the system fails.
    pub fn seal(&self, at: At<'_>, texts: &[&str]) -> Result<Option<Vec<u8>>, SealError> {
        let seal = |keys: &Arc<TenantKeys>| keys.seal_texts(&at.place(&self.tenant), texts);
        self.keys.as_ref().map(seal).transpose()
    }

    /// The texts of a row that has these columns.
    ///
    /// # Errors
    ///
    /// [`SealedRow`] where they do not open, or are clear and must not be.
    pub fn open<const N: usize>(
        &self,
        at: At<'_>,
        sealed: Option<Vec<u8>>,
        clear: [String; N],
    ) -> Result<[String; N], SealedRow> {
        let opened = match (sealed, &self.keys) {
            (None, _) if self.may_be_clear() => Ok(clear),
            (None, _) => Err(OpenError::Form),
            (Some(bytes), Some(keys)) => keys.open_texts(&at.place(&self.tenant), &bytes),
            (Some(bytes), None) => Err(KeyRing::unknown(&bytes)),
        };
        opened.map_err(|why| at.refused(why))
    }

    /// The bytes sealed, or as they are where nothing is.
    ///
    /// # Errors
    ///
    /// [`SealError`], where the system fails.
    pub fn seal_bytes(&self, at: At<'_>, bytes: Vec<u8>) -> Result<Vec<u8>, SealError> {
        match &self.keys {
            Some(keys) => keys.seal(&at.place(&self.tenant), &bytes),
            None => Ok(bytes),
        }
    }

    /// The bytes of a column that holds `clear` of them, or these sealed.
    ///
    /// # Errors
    ///
    /// [`SealedRow`] where they do not open, or are clear and must not be.
    pub fn open_bytes(&self, at: At<'_>, bytes: &[u8], clear: usize) -> Result<Vec<u8>, SealedRow> {
        let opened = match &self.keys {
            _ if bytes.len() == clear && self.may_be_clear() => Ok(bytes.to_vec()),
            Some(keys) => keys.open(&at.place(&self.tenant), bytes),
            None if bytes.len() == clear + KeyRing::OVERHEAD => Err(KeyRing::unknown(bytes)),
            // It is of another shape, which its reader says.
            None => Ok(bytes.to_vec()),
        };
        opened.map_err(|why| at.refused(why))
    }

    /// How the words of an owner are written in an index whose row says this version; `part` is
    /// the owner's part of it.
    ///
    /// # Errors
    ///
    /// [`SealedRow`] where the version's key is not here, or is none and must not be.
    pub fn words(&self, part: i64, version: u32) -> Result<Words, SealedRow> {
        let refused = |why| SealedRow {
            table: "owner",
            row: part.to_string(),
            why,
        };
        let keys = match version {
            0 if self.may_be_clear() => None,
            0 => return Err(refused(OpenError::Form)),
            id => {
                let keys = self.keys.as_ref();
                let known = keys.filter(|keys| keys.term(id, part, "").is_some());
                Some(Arc::clone(
                    known.ok_or_else(|| refused(OpenError::UnknownKey { id }))?,
                ))
            }
        };
        Ok(Words {
            keys,
            part,
            version,
        })
    }
}

/// The words of one owner, as an index writes them.
#[derive(Debug, Clone)]
pub struct Words {
    keys: Option<Arc<TenantKeys>>,
    part: i64,
    version: u32,
}

impl Words {
    /// What stands for the word.
    #[must_use]
    pub fn term(&self, word: String) -> String {
        let blind = |keys: &Arc<TenantKeys>| keys.term(self.version, self.part, &word);
        // The version was there when these words were made.
        self.keys.as_ref().and_then(blind).unwrap_or(word)
    }
}
