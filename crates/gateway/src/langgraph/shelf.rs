//! The items of one user, as nodes of graphs reach them.
//!
//! Invariant: a shelf holds one user's items, the same that `/store` shows to that user.
//! Deliberately absent: search; a node that needs one asks the memory.

use std::fmt;

use lyceum_core::{Expect, RecordWrite, TenantId};
use lyceum_graph::NodeError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    resources::{ITEM, now},
};

/// Between the names of a path, inside a record's id.
const BETWEEN: &str = "\u{1f}";
/// The longest name in a path, and the longest key, in bytes.
const NAME_BYTES: usize = 1_024;
/// The most names in a path.
const NAMES: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) namespace: Vec<String>,
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
    /// How long it lives after it was written, or read with a refresh, in minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<f64>,
}

impl Item {
    pub(crate) fn is_alive(&self) -> bool {
        let at = self.expires_at.as_deref();
        let at = at.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
        at.is_none_or(|at| at > OffsetDateTime::now_utc())
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "namespace": self.namespace, "key": self.key, "value": self.value,
            "created_at": self.created_at, "updated_at": self.updated_at,
        })
    }
}

/// The record's id of an item.
///
/// # Errors
///
/// A refusal when a name is empty, too long or holds control characters.
pub(crate) fn item_id(namespace: &[String], key: &str) -> Answer<String> {
    let is_wrong =
        |name: &str| name.is_empty() || name.len() > NAME_BYTES || name.contains(char::is_control);
    let names = namespace.iter().map(String::as_str);
    if namespace.is_empty() || namespace.len() > NAMES || names.chain([key]).any(is_wrong) {
        return Err(Refusal::invalid(format!(
            "namespace and key must be names of 1 to {NAME_BYTES} bytes without control \
             characters, the namespace of 1 to {NAMES} of them"
        )));
    }
    Ok(format!(
        "{}{BETWEEN}{BETWEEN}{key}",
        namespace.join(BETWEEN)
    ))
}

/// The items of the user in whose name a run is executed.
#[derive(Clone)]
pub struct Shelf {
    platform: Platform,
    owner: TenantId,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

impl Shelf {
    pub(crate) fn new(platform: Platform, owner: TenantId) -> Self {
        Self { platform, owner }
    }

    /// The value of an item; `None` when there is none, or none any more.
    ///
    /// # Errors
    ///
    /// A permanent [`NodeError`] for a name that cannot be one, a transient one when the
    /// records cannot be read.
    pub async fn get(&self, namespace: &[&str], key: &str) -> Result<Option<Value>, NodeError> {
        let (_, id) = named(namespace, key)?;
        let item = self.platform.get::<Item>(&self.owner, ITEM, &id).await;
        let item = item.map_err(failed)?.filter(Item::is_alive);
        Ok(item.map(|item| item.value))
    }

    /// Creates or replaces an item.
    ///
    /// # Errors
    ///
    /// As [`Shelf::get`].
    pub async fn put(&self, namespace: &[&str], key: &str, value: Value) -> Result<(), NodeError> {
        let (namespace, id) = named(namespace, key)?;
        let old = self.platform.get::<Item>(&self.owner, ITEM, &id).await;
        let item = Item {
            created_at: old.map_err(failed)?.map_or_else(now, |old| old.created_at),
            updated_at: now(),
            value,
            namespace,
            key: key.to_owned(),
            expires_at: None,
            ttl: None,
        };
        let write = put_write(ITEM, &id, "", &item, Expect::Anything);
        self.write(write).await
    }

    /// Removes an item; one that does not exist is left alone.
    ///
    /// # Errors
    ///
    /// As [`Shelf::get`].
    pub async fn delete(&self, namespace: &[&str], key: &str) -> Result<(), NodeError> {
        let (_, id) = named(namespace, key)?;
        self.write(RecordWrite::Delete { kind: ITEM, id }).await
    }

    async fn write(&self, write: RecordWrite) -> Result<(), NodeError> {
        let written = self.platform.put(&self.owner, vec![write]).await;
        written.map(|_| ()).map_err(NodeError::transient)
    }
}

fn named(namespace: &[&str], key: &str) -> Result<(Vec<String>, String), NodeError> {
    let namespace: Vec<_> = namespace.iter().map(|name| (*name).to_owned()).collect();
    let id = item_id(&namespace, key);
    let id = id.map_err(|_| NodeError::permanent("an item's names are not what names may be"))?;
    Ok((namespace, id))
}

fn failed(_: Refusal) -> NodeError {
    NodeError::transient("the items cannot be read")
}
