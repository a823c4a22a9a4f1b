//! Whether the server keeps vectors: the extension `vector` (<https://github.com/pgvector/pgvector>).
//!
//! Invariant: a server without it serves everything else. Deliberately absent: installing it.

use std::fmt;

use crate::{
    connection::Session,
    error::{Failure, said},
    migrate,
};

/// The oldest version with the index that large owners are searched by.
const GRAPHS_SINCE: [u32; 2] = [0, 5];

/// Whether vectors are kept in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VectorSupport {
    /// They are, by this version of the extension `vector`.
    Here {
        /// The version, e.g. `0.8.0`.
        version: String,
    },
    /// They are not.
    Absent {
        /// Why, in words for the operator.
        why: String,
    },
}

impl VectorSupport {
    /// Whether vectors are kept.
    #[must_use]
    pub fn is_here(&self) -> bool {
        matches!(self, Self::Here { .. })
    }

    /// Whether an index can be built for an owner who has many.
    pub(super) fn has_graphs(&self) -> bool {
        let Self::Here { version } = self else {
            return false;
        };
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        [parts.next().unwrap_or(0), parts.next().unwrap_or(0)] >= GRAPHS_SINCE
    }
}

impl fmt::Display for VectorSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here { version } => write!(f, "pgvector {version}"),
            Self::Absent { why } => f.write_str(why),
        }
    }
}

const LOOK: &str = "\
    SELECT to_regtype('vector')::text, \
        (SELECT extversion::text FROM pg_extension WHERE extname = 'vector'), \
        EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector'), \
        to_regclass('lyceum.embedding') IS NOT NULL";

const TABLES: &str = include_str!("tables.sql");

/// Looks for the extension, makes it where that is allowed, and makes the tables.
pub(crate) async fn enable(session: &Session, seals: bool) -> Result<VectorSupport, Failure> {
    let absent = |why: &str| {
        Ok(VectorSupport::Absent {
            why: why.to_owned(),
        })
    };
    if seals {
        return absent("an encrypted database keeps no vectors");
    }
    let mut look = looked(session).await?;
    if look.version.is_none() && look.is_available {
        let create = "CREATE EXTENSION IF NOT EXISTS vector";
        if let Err(error) = session.batch(create).await {
            let why = said(&error);
            return absent(&format!(
                "the extension vector is not in the database ({why}): let a superuser run CREATE \
                 EXTENSION vector"
            ));
        }
        look = looked(session).await?;
    }
    let Some(version) = look.version else {
        return absent("the server has no extension vector (pgvector): install it");
    };
    if !look.is_visible {
        return absent(
            "the extension vector is in a schema that is not on the user's search_path: put it \
             into the schema public",
        );
    }
    if !look.has_tables {
        let made = async {
            let lock = "SELECT pg_advisory_xact_lock($1)";
            session.query(lock, &[&migrate::LOCK]).await?;
            // Another process may have made them while this one waited for the lock.
            if !looked(session).await?.has_tables {
                session.batch(TABLES).await?;
            }
            Ok::<_, Failure>(())
        };
        session.transaction(made).await?;
    }
    Ok(VectorSupport::Here { version })
}

/// What the database says of the extension.
struct Look {
    is_visible: bool,
    version: Option<String>,
    is_available: bool,
    has_tables: bool,
}

async fn looked(session: &Session) -> Result<Look, Failure> {
    let row = session.query_opt(LOOK, &[]).await?;
    let row = row.ok_or_else(|| Failure::corrupt("no row of what is there"))?;
    Ok(Look {
        is_visible: row.try_get::<_, Option<&str>>(0)?.is_some(),
        version: row.try_get(1)?,
        is_available: row.try_get(2)?,
        has_tables: row.try_get(3)?,
    })
}
