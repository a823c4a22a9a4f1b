//! Texts as rows keep them, see [`lyceum_vault::Texts`]; and the keys of tenants as the database
//! keeps them.
//!
//! Invariant: a key is in the database before anything is sealed with it, and whoever seals holds
//! the lock of the tenant's keys shared, so nothing is sealed with a key that is being destroyed.
//! What a read opens and the keys that it opens it with are of one moment.
//! Deliberately absent: changing keys, see `rotate`.

use std::{borrow::Cow, collections::BTreeSet};

use lyceum_memory::lexical::Document;
use lyceum_vault::{
    At, Clear, Encryption, KeyRing, OpenError as Why, OpenedKeys, SealedRow, Texts, Unsealed,
    Wrapped,
};
use tokio_postgres::{Client, Error, Row, Transaction};

use crate::{
    OpenError, PostgresStore,
    connection::{Begun, KEYS, Param, Session, Whose, wrapped},
    error::{Failure, connecting},
    pool::Held,
    text::{original, stored},
};

const KEEP: &str = "\
    INSERT INTO lyceum.tenant_key (tenant, version, wrapped) VALUES ($1, $2, $3) \
    ON CONFLICT (tenant, version) DO UPDATE SET wrapped = excluded.wrapped";

/// How the texts of a tenant are written, inside the transaction that begins so.
///
/// # Errors
///
/// [`Failure::NoKey`] where it has none yet: the call is repeated once one was made.
pub(crate) fn to_write(keys: &OpenedKeys, tenant: &str, begun: Begun) -> Result<Texts, Failure> {
    let texts = to_change(keys, tenant, begun)?;
    match texts.lack_a_key() {
        true => Err(Failure::NoKey {
            tenant: tenant.to_owned(),
        }),
        false => Ok(texts),
    }
}

/// The same where nothing is sealed that was not before: it makes no key.
pub(crate) fn to_change(keys: &OpenedKeys, tenant: &str, begun: Begun) -> Result<Texts, Failure> {
    match (keys.masters(), begun.wrapped.last()) {
        // Somebody encrypted the database under this process.
        (None, Some(key)) => Err(Failure::Sealed(without_masters(tenant, key))),
        _ => Ok(keys.texts(tenant, begun.wrapped)?),
    }
}

/// Why a key does not open where there is no master key.
fn without_masters(tenant: &str, key: &Wrapped) -> SealedRow {
    SealedRow {
        table: "key",
        row: tenant.to_owned(),
        why: KeyRing::unknown(&key.bytes),
    }
}

/// The texts of a tenant, inside a transaction of the operator's that writes.
pub(crate) async fn texts_of(
    session: &Session,
    keys: &OpenedKeys,
    tenant: &str,
) -> Result<Texts, Failure> {
    let share = "SELECT lyceum.share_keys($1)";
    session.query(share, &[&tenant]).await?;
    texts_seen(session, keys, tenant).await
}

/// The texts of a tenant, inside a transaction that sees one state.
pub(crate) async fn texts_seen(
    session: &Session,
    keys: &OpenedKeys,
    tenant: &str,
) -> Result<Texts, Failure> {
    let rows = session.query(KEYS, &[&tenant]).await?;
    Ok(keys.texts(tenant, wrapped(&rows)?)?)
}

/// Keeps a key in the place of what it was wrapped as before.
pub(crate) async fn keep(session: &Session, tenant: &str, key: &Wrapped) -> Result<(), Failure> {
    let version = i64::from(key.version);
    session
        .execute(KEEP, &[&tenant, &version, &key.bytes])
        .await?;
    Ok(())
}

impl PostgresStore {
    /// Reads rows of a tenant in one round trip, and how their texts are read.
    pub(crate) async fn rows(
        &self,
        session: &Session,
        tenant: &str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<(Texts, Vec<Row>), Failure> {
        let (wrapped, rows) = match self.keys().masters() {
            None => {
                let rows = session.ask(Whose::Tenant(tenant), sql, params).await?;
                (Vec::new(), rows)
            }
            Some(_) => session.ask_with_keys(tenant, sql, params).await?,
        };
        Ok((self.keys().texts(tenant, wrapped)?, rows))
    }

    /// Makes the first key of a tenant, where nobody else has made one meanwhile.
    pub(crate) async fn make_key(&self, session: Held, tenant: &str) -> Result<(), Failure> {
        let Some(masters) = self.keys().masters() else {
            return Ok(());
        };
        let made = async {
            if session.query(KEYS, &[&tenant]).await?.is_empty() {
                let key = masters.make(tenant, None, Clear::Refused)?;
                keep(&session, tenant, &key).await?;
            }
            Ok(())
        };
        session.change_keys(Whose::Tenant(tenant), made).await
    }
}

/// A text for its clear column, and sealed for the other.
pub(crate) fn kept<'a>(
    texts: &Texts,
    at: At<'_>,
    text: &'a str,
) -> Result<(Cow<'a, str>, Option<Vec<u8>>), Failure> {
    Ok(match texts.seal(at, &[text])? {
        None => (stored(text), None),
        sealed => (Cow::Borrowed(""), sealed),
    })
}

/// The text of a row that has these columns: the clear one, the sealed one.
pub(crate) fn opened(
    texts: &Texts,
    at: At<'_>,
    (clear, sealed): (String, Option<Vec<u8>>),
) -> Result<String, SealedRow> {
    let [text] = texts.open(at, sealed, [original(clear)])?;
    Ok(text)
}

/// A document whose words are written as the index of an owner writes them, whose row says this
/// version of a key.
pub(crate) fn blinded(
    texts: &Texts,
    (owner, version): (i64, i64),
    document: Document,
) -> Result<Document, Failure> {
    let version = u32::try_from(version).unwrap_or(u32::MAX);
    if version == 0 && texts.may_be_clear() {
        return Ok(document);
    }
    let words = texts.words(owner, version)?;
    let terms = document.terms.into_iter();
    Ok(Document {
        terms: terms
            .map(|(word, count)| (words.term(word), count))
            .collect(),
        length: document.length,
    })
}

/// All that may stand for a word in the index of an owner, whatever key it is written with.
pub(crate) fn terms(texts: &Texts, owner: i64, words: Vec<String>) -> Result<Vec<String>, Failure> {
    let Some(keys) = texts.keys() else {
        return Ok(words);
    };
    let mut terms = Vec::new();
    for version in keys.versions() {
        let blind = texts.words(owner, version)?;
        terms.extend(words.iter().map(|word| blind.term(word.clone())));
    }
    if texts.may_be_clear() {
        terms.extend(words);
    }
    Ok(terms)
}

const IS_THERE: &str = "SELECT to_regclass($1) IS NOT NULL";

const ALL_KEYS: &str =
    "SELECT version, wrapped, tenant FROM lyceum.tenant_key ORDER BY tenant, version";

/// The tenants that a table has rows of, by steps in its index.
macro_rules! tenants {
    ($table:literal) => {
        concat!(
            "WITH RECURSIVE found (tenant) AS ( \
                (SELECT tenant FROM lyceum.",
            $table,
            " ORDER BY tenant LIMIT 1) \
                UNION ALL \
                SELECT (SELECT o.tenant FROM lyceum.",
            $table,
            " o WHERE o.tenant > found.tenant ORDER BY o.tenant LIMIT 1) \
                FROM found WHERE found.tenant IS NOT NULL \
            ) SELECT tenant FROM found WHERE tenant IS NOT NULL"
        )
    };
}

/// The tables whose rows may hold texts, and their tenants.
const WITH_TEXTS: [(&str, &str); 2] = [
    ("lyceum.owner", tenants!("owner")),
    ("lyceum.record", tenants!("record")),
];

/// The tenants that have rows, inside a transaction.
pub(crate) async fn with_rows(session: &Session) -> Result<BTreeSet<String>, Failure> {
    let mut all = BTreeSet::new();
    for (_, sql) in WITH_TEXTS {
        for row in session.query(sql, &[]).await? {
            all.insert(row.try_get(0)?);
        }
    }
    Ok(all)
}

/// The tenants that have keys, with these, inside a transaction.
pub(crate) async fn all_keys(session: &Session) -> Result<Vec<(String, Vec<Wrapped>)>, Failure> {
    grouped(&session.query(ALL_KEYS, &[]).await?).map_err(Failure::from)
}

fn grouped(rows: &[Row]) -> Result<Vec<(String, Vec<Wrapped>)>, Error> {
    let same = |a: &Row, b: &Row| a.get::<_, &str>(2) == b.get::<_, &str>(2);
    let tenant = |rows: &[Row]| Ok((rows[0].try_get(2)?, wrapped(rows)?));
    rows.chunk_by(same).map(tenant).collect()
}

/// Refuses a database whose texts these keys do not open, before anything is written to it.
pub(crate) async fn check(
    client: &mut Client,
    host: String,
    encryption: Option<&Encryption>,
) -> Result<(), OpenError> {
    match looked(client, encryption).await {
        Ok(Found::Fits) => Ok(()),
        Ok(Found::KeyNeeded) => Err(OpenError::KeyNeeded { host }),
        Ok(Found::WrongKey { tenant, source }) => Err(OpenError::WrongKey {
            host,
            tenant,
            source,
        }),
        Ok(Found::NotSealed { tenants }) => Err(OpenError::NotSealed { host, tenants }),
        Err(error) => Err(connecting(host, error)),
    }
}

/// What a look at a database comes to.
enum Found {
    Fits,
    KeyNeeded,
    WrongKey { tenant: String, source: Why },
    NotSealed { tenants: u64 },
}

async fn looked(client: &mut Client, encryption: Option<&Encryption>) -> Result<Found, Error> {
    let transaction = client.transaction().await?;
    let rights = "SELECT set_config('lyceum.operator', 'on', true)";
    transaction.query(rights, &[]).await?;
    let mut sealed = BTreeSet::new();
    if is_there(&transaction, "lyceum.tenant_key").await? {
        for (tenant, wrapped) in grouped(&transaction.query(ALL_KEYS, &[]).await?)? {
            let Some(encryption) = encryption else {
                return Ok(Found::KeyNeeded);
            };
            match encryption.masters.open(&tenant, &wrapped) {
                Ok(opened) if opened.clear() == Clear::Refused => drop(sealed.insert(tenant)),
                Ok(_) => {}
                Err(source) => return Ok(Found::WrongKey { tenant, source }),
            }
        }
    }
    if encryption.is_none_or(|encryption| encryption.unsealed == Unsealed::Open) {
        return Ok(Found::Fits);
    }
    let mut clear = BTreeSet::new();
    for (table, sql) in WITH_TEXTS {
        if is_there(&transaction, table).await? {
            for row in transaction.query(sql, &[]).await? {
                clear.insert(row.try_get::<_, String>(0)?);
            }
        }
    }
    Ok(match clear.difference(&sealed).count() as u64 {
        0 => Found::Fits,
        tenants => Found::NotSealed { tenants },
    })
}

async fn is_there(transaction: &Transaction<'_>, table: &str) -> Result<bool, Error> {
    transaction.query_one(IS_THERE, &[&table]).await?.try_get(0)
}
