//! From a scope to rows: what every statement is bound to.
//!
//! Invariant: no statement touches a row except through its owner, so an id from elsewhere
//! finds nothing.

use lyceum_core::{Scope, SessionId};
use lyceum_memory::StoreError;
use lyceum_vault::places;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    error::Failure,
    sealed::{Db, Texts, Words},
};

/// The tenant, user and agent that rows belong to.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) tenant: String,
    pub(crate) user: String,
    pub(crate) agent: String,
}

impl Owner {
    pub(crate) fn new(scope: &Scope) -> Self {
        Self {
            tenant: scope.tenant.to_string(),
            user: scope.user.to_string(),
            agent: scope.agent.to_string(),
        }
    }

    /// Where the texts of a session stand.
    pub(crate) fn session<'a>(&'a self, name: &'a str) -> places::Session<'a> {
        places::Session {
            user: &self.user,
            agent: &self.agent,
            name,
        }
    }

    /// The owner's row, where anything was ever stored for it.
    pub(crate) fn find(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection
            .prepare_cached("SELECT id FROM owner WHERE tenant = ?1 AND user = ?2 AND agent = ?3")?
            .query_row(params![self.tenant, self.user, self.agent], |row| {
                row.get(0)
            })
            .optional()
    }

    /// The owner's row and how its texts are read, where anything was ever stored for it.
    pub(crate) fn home(&self, db: &Db<'_>) -> Result<Option<Home>, Failure> {
        let Some(id) = self.find(db)? else {
            return Ok(None);
        };
        let owner = self.clone();
        let texts = db.texts(&self.tenant)?;
        Ok(Some(Home { id, owner, texts }))
    }

    /// The same to write to, made where it is absent.
    pub(crate) fn ensure(&self, db: &Db<'_>) -> Result<Home, Failure> {
        let texts = db.texts_to_write(&self.tenant)?;
        let id = match self.find(db)? {
            Some(id) => id,
            None => {
                let key = texts.keys().map_or(0, |keys| keys.newest());
                db.prepare_cached(
                    "INSERT INTO owner (tenant, user, agent, words_key) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![self.tenant, self.user, self.agent, key])?;
                db.last_insert_rowid()
            }
        };
        let owner = self.clone();
        Ok(Home { id, owner, texts })
    }
}

/// An owner's row, and how its texts are read and written.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) id: i64,
    pub(crate) owner: Owner,
    pub(crate) texts: Texts,
}

impl Home {
    /// How the owner's words are written in the index.
    pub(crate) fn words(&self, db: &Db<'_>) -> Result<Words, Failure> {
        let version = db
            .prepare_cached("SELECT words_key FROM owner WHERE id = ?1")?
            .query_row([self.id], |row| row.get(0))?;
        self.texts.words(self.id, version)
    }
}

/// A session of an owner.
#[derive(Debug, Clone)]
pub(crate) struct SessionKey {
    pub(crate) owner: Owner,
    pub(crate) name: String,
}

impl SessionKey {
    pub(crate) fn new(scope: &Scope) -> Result<Self, StoreError> {
        let session = scope.session.as_ref().ok_or(StoreError::SessionRequired)?;
        Ok(Self {
            owner: Owner::new(scope),
            name: SessionId::to_string(session),
        })
    }

    /// Where its texts stand.
    pub(crate) fn place(&self) -> places::Session<'_> {
        self.owner.session(&self.name)
    }

    /// The rows of the owner and the session, where both exist.
    pub(crate) fn find(&self, connection: &Connection) -> rusqlite::Result<Option<(i64, i64)>> {
        let Some(owner) = self.owner.find(connection)? else {
            return Ok(None);
        };
        connection
            .prepare_cached("SELECT owner, id FROM session WHERE owner = ?1 AND name = ?2")?
            .query_row(params![owner, self.name], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()
    }
}
