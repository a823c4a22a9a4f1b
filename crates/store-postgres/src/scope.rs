//! From a scope to rows: what every statement is bound to.
//!
//! Invariant: no statement touches a row except through its owner, so an id from elsewhere
//! finds nothing; the server's row-level security holds even where that is forgotten.

use lyceum_core::{Scope, SessionId};
use lyceum_memory::StoreError;
use lyceum_vault::{Texts, places};
use tokio_postgres::Row;

use crate::{
    connection::{Session, Whose},
    error::Failure,
};

/// The owner's row, where anything was ever stored for it.
pub(crate) const FIND: &str =
    "SELECT id FROM lyceum.owner WHERE tenant = $1 AND user_id = $2 AND agent = $3";

const MAKE: &str = "\
    INSERT INTO lyceum.owner (tenant, user_id, agent, words_key) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (tenant, user_id, agent) DO NOTHING";

/// The tenant, user and agent that rows belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) user: &'a str,
    pub(crate) agent: &'a str,
}

impl<'a> Owner<'a> {
    pub(crate) fn new(scope: &'a Scope) -> Self {
        Self {
            tenant: scope.tenant.as_str(),
            user: scope.user.as_str(),
            agent: scope.agent.as_str(),
        }
    }

    /// The rights of the owner's tenant.
    pub(crate) fn whose(self) -> Whose<'a> {
        Whose::Tenant(self.tenant)
    }

    /// The owner's row, made where it is absent, and how its texts are written; inside a
    /// transaction.
    pub(crate) async fn ensure<'b>(
        self,
        session: &Session,
        texts: &'b Texts,
    ) -> Result<Home<'b>, Failure>
    where
        'a: 'b,
    {
        let key = i64::from(texts.keys().map_or(0, |keys| keys.newest()));
        loop {
            let found = session
                .query_opt(FIND, &[&self.tenant, &self.user, &self.agent])
                .await?;
            if let Some(row) = found {
                let id = row.try_get(0)?;
                let owner = self;
                return Ok(Home { id, owner, texts });
            }
            // Another transaction may make it at the same time; this one then waits for it, and
            // sees its row with the next statement.
            session
                .execute(MAKE, &[&self.tenant, &self.user, &self.agent, &key])
                .await?;
        }
    }
}

/// An owner's row, and how its texts are read and written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) id: i64,
    pub(crate) owner: Owner<'a>,
    pub(crate) texts: &'a Texts,
}

/// An owner from a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerRow {
    pub(crate) tenant: String,
    pub(crate) user: String,
    pub(crate) agent: String,
}

impl OwnerRow {
    /// Reads three columns that begin at `at`.
    pub(crate) fn read(row: &Row, at: usize) -> Result<Self, Failure> {
        Ok(Self {
            tenant: row.try_get(at)?,
            user: row.try_get(at + 1)?,
            agent: row.try_get(at + 2)?,
        })
    }

    pub(crate) fn owner(&self) -> Owner<'_> {
        Owner {
            tenant: &self.tenant,
            user: &self.user,
            agent: &self.agent,
        }
    }
}

/// A session of an owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionKey<'a> {
    pub(crate) owner: Owner<'a>,
    pub(crate) name: &'a str,
}

impl<'a> SessionKey<'a> {
    /// Where its texts stand.
    pub(crate) fn place(self) -> places::Session<'a> {
        places::Session {
            user: self.owner.user,
            agent: self.owner.agent,
            name: self.name,
        }
    }

    pub(crate) fn new(scope: &'a Scope) -> Result<Self, StoreError> {
        let session = scope.session.as_ref().ok_or(StoreError::SessionRequired)?;
        Ok(Self {
            owner: Owner::new(scope),
            name: SessionId::as_str(session),
        })
    }
}
