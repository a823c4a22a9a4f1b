//! The store's endpoints: JSON items under paths of names.
//!
//! Invariant: an item that has expired is not found. Deliberately absent: search by meaning;
//! a query finds items that hold its words.

use std::time::Duration;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use jiff::Timestamp;
use lyceum_core::{Expect, RecordWrite};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    due::later,
    expiry::{item_entry, no_item_entry},
    platform::put_write,
    refusal::{Answer, Refusal},
    request::{Asked, has_matching},
    resources::{ITEM, now, stamp},
    shelf::{Item, item_id},
};

fn path(asked: &Asked, name: &str) -> Vec<String> {
    match asked.value(name) {
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        }
        Some(Value::String(names)) if !names.is_empty() => {
            names.split('.').map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn name(asked: &Asked) -> Answer<(Vec<String>, String, String)> {
    let namespace = path(asked, "namespace");
    let key = asked.text("key").unwrap_or_default().to_owned();
    let id = item_id(&namespace, &key)?;
    Ok((namespace, key, id))
}

/// When an item ends that lives so long from here on, as it is written in it and as its entry says.
fn end(minutes: f64) -> (String, Timestamp) {
    let lasts = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX);
    let at = later(Timestamp::now(), lasts);
    let written = OffsetDateTime::from_unix_timestamp_nanos(at.as_nanosecond());
    (written.map(stamp).unwrap_or_default(), at)
}

pub(crate) async fn put(asked: Asked) -> Answer {
    let (namespace, key, id) = name(&asked)?;
    let old = asked.platform.get::<Item>(asked.owner(), ITEM, &id).await?;
    let minutes = |ttl: &Value| {
        let minutes = ttl.as_f64().filter(|minutes| *minutes >= 0.0);
        minutes.ok_or_else(|| Refusal::invalid("ttl must be a number of minutes from 0 on"))
    };
    let ttl = asked.value("ttl").map(minutes).transpose()?;
    let value = asked.value("value").cloned().unwrap_or_default();
    if !value.is_object() {
        return Err(Refusal::invalid("value must be an object"));
    }
    let end = ttl.map(end);
    let item = Item {
        created_at: old.map_or_else(now, |old| old.created_at),
        updated_at: now(),
        value,
        namespace,
        key,
        expires_at: end.as_ref().map(|(written, _)| written.clone()),
        ttl,
    };
    let mut writes = vec![put_write(ITEM, &id, "", &item, Expect::Anything)];
    let expiries = &asked.platform.0.expiries;
    if let Some((_, due)) = &end {
        expiries.add(asked.owner())?;
        writes.push(item_entry(&id, *due));
    }
    asked.platform.put(asked.owner(), writes).await?;
    if let Some((_, due)) = &end {
        expiries.written(*due);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn get(asked: Asked) -> Answer<Response> {
    let (_, _, id) = name(&asked)?;
    let (platform, owner) = (&asked.platform, asked.owner());
    let record = platform.0.records.read(owner, ITEM, &id).await?;
    let revision = record.as_ref().map(|record| record.revision);
    let found = record.and_then(|record| serde_json::from_str::<Item>(&record.body).ok());
    let mut found = found.filter(Item::is_alive);
    if let (Some(item), Some(revision)) = (&mut found, revision)
        && let Some(ttl) = item.ttl
        && asked.value("refresh_ttl") != Some(&Value::Bool(false))
    {
        // Reading keeps it alive, unless it was written or removed meanwhile.
        let (written, due) = end(ttl);
        item.expires_at = Some(written);
        let writes = vec![
            put_write(ITEM, &id, "", item, Expect::Revision(revision)),
            item_entry(&id, due),
        ];
        platform.put(owner, writes).await?;
    }
    // Clients take nothing for an item that does not exist.
    Ok(Json(found.map(|item| item.shown())).into_response())
}

pub(crate) async fn delete(asked: Asked) -> Answer {
    let (_, _, id) = name(&asked)?;
    let entry = no_item_entry(&id);
    let item = RecordWrite::Delete { kind: ITEM, id };
    asked.platform.put(asked.owner(), vec![item, entry]).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn alive(asked: &Asked) -> Answer<Vec<Item>> {
    let mut all: Vec<Item> = asked.platform.all(asked.owner(), ITEM, None).await?;
    all.retain(Item::is_alive);
    Ok(all)
}

pub(crate) async fn search(asked: Asked) -> Answer<Json<Value>> {
    let prefix = path(&asked, "namespace_prefix");
    let filter = asked.object("filter");
    let query = asked.text("query").map(str::to_lowercase);
    let found = alive(&asked).await?.into_iter().filter(|item| {
        let text = || item.value.to_string().to_lowercase();
        item.namespace.starts_with(&prefix)
            && has_matching(&item.value, &filter)
            && query.as_ref().is_none_or(|query| {
                let text = text();
                query.split_whitespace().any(|word| text.contains(word))
            })
    });
    let found: Vec<_> = found.map(|item| item.shown()).collect();
    Ok(Json(json!({ "items": asked.page(found)? })))
}

pub(crate) async fn namespaces(asked: Asked) -> Answer<Json<Value>> {
    let (prefix, suffix) = (path(&asked, "prefix"), path(&asked, "suffix"));
    let depth = asked.number("max_depth").unwrap_or(usize::MAX);
    let mut found: Vec<_> = alive(&asked)
        .await?
        .into_iter()
        .map(|item| item.namespace)
        .filter(|path| path.starts_with(&prefix) && path.ends_with(&suffix))
        .map(|mut path| {
            path.truncate(depth);
            path
        })
        .collect();
    found.sort();
    found.dedup();
    Ok(Json(json!({ "namespaces": asked.page(found)? })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_and_its_entry_say_the_same_moment() {
        for minutes in [0.0, 0.1, 60.0, 1e15, f64::MAX] {
            let (written, due) = end(minutes);
            let read = written.parse::<Timestamp>().unwrap();
            assert_eq!(read.as_microsecond(), due.as_microsecond(), "{minutes}");
        }
    }
}
