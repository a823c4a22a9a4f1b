//! From a scope to rows: what every statement is bound to.
//!
//! Invariant: no statement touches a row except through its owner, so an id from elsewhere
//! finds nothing.

use lyceum_core::{Scope, SessionId};
use lyceum_memory::StoreError;
use rusqlite::{Connection, OptionalExtension, params};

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

    /// The owner's row, where anything was ever stored for it.
    pub(crate) fn find(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        connection
            .prepare_cached("SELECT id FROM owner WHERE tenant = ?1 AND user = ?2 AND agent = ?3")?
            .query_row(params![self.tenant, self.user, self.agent], |row| {
                row.get(0)
            })
            .optional()
    }

    /// The owner's row, made where it is absent.
    pub(crate) fn ensure(&self, connection: &Connection) -> rusqlite::Result<i64> {
        if let Some(id) = self.find(connection)? {
            return Ok(id);
        }
        connection
            .prepare_cached("INSERT INTO owner (tenant, user, agent) VALUES (?1, ?2, ?3)")?
            .execute(params![self.tenant, self.user, self.agent])?;
        Ok(connection.last_insert_rowid())
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
