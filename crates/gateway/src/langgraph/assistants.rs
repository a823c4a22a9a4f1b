//! The assistants' endpoints.
//!
//! Invariant: a version never changes; an update makes a new one. Deliberately absent:
//! changes to the assistants that every graph has, and what their graphs look like.

use axum::{Json, extract::Path, response::IntoResponse};
use http::StatusCode;
use lyceum_core::{Expect, RecordWrite};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    platform::put_write,
    refusal::{Answer, Refusal},
    request::{Asked, has, uuid},
    resources::{ASSISTANT, Assistant, Versions, now},
    threads,
};

pub(crate) async fn create(asked: Asked) -> Answer<Json<Assistant>> {
    let graph = asked.text("graph_id");
    let graph = graph.ok_or_else(|| Refusal::invalid("graph_id is missing"))?;
    asked.platform.graph(graph)?;
    let id = match asked.text("assistant_id") {
        Some(id) => uuid(id)?,
        None => Uuid::now_v7().to_string(),
    };
    let assistant = Assistant {
        assistant_id: id.clone(),
        graph_id: graph.to_owned(),
        config: asked.object("config").into(),
        context: asked.object("context").into(),
        created_at: now(),
        updated_at: now(),
        metadata: asked.object("metadata").into(),
        version: 1,
        name: asked.text("name").unwrap_or(graph).to_owned(),
        description: asked.text("description").map(str::to_owned),
    };
    let versions = Versions {
        latest: 1,
        all: vec![assistant.clone()],
    };
    let write = put_write(ASSISTANT, &id, graph, &versions, Expect::Absent);
    if asked.platform.put(asked.owner(), vec![write]).await? {
        return Ok(Json(assistant));
    }
    match asked.text("if_exists") {
        Some("do_nothing") => get_one(&asked, &id).await.map(Json),
        _ => Err(Refusal::conflict("Assistant already exists")),
    }
}

pub(crate) async fn get_one(asked: &Asked, id: &str) -> Answer<Assistant> {
    let found = asked.platform.assistant(asked.owner(), id).await?;
    let current = found.current().cloned();
    current.ok_or_else(|| Refusal::not_found("Assistant"))
}

pub(crate) async fn get(Path(id): Path<String>, asked: Asked) -> Answer<Json<Assistant>> {
    get_one(&asked, &id).await.map(Json)
}

pub(crate) async fn update(Path(id): Path<String>, asked: Asked) -> Answer<Json<Assistant>> {
    if let Some(graph) = asked.text("graph_id") {
        asked.platform.graph(graph)?;
    }
    let changed = asked
        .platform
        .change::<Versions>(asked.owner(), ASSISTANT, &id, |versions| {
            let Some(mut next) = versions.current().cloned() else {
                return;
            };
            let newest = versions.all.iter().map(|one| one.version).max();
            next.version = newest.unwrap_or_default() + 1;
            next.updated_at = now();
            if let Some(graph) = asked.text("graph_id") {
                next.graph_id = graph.to_owned();
            }
            for (name, field) in [("config", &mut next.config), ("context", &mut next.context)] {
                if let Some(value) = asked.value(name) {
                    *field = value.clone();
                }
            }
            if let Some(fields) = next.metadata.as_object_mut() {
                fields.extend(asked.object("metadata"));
            }
            if let Some(name) = asked.text("name") {
                next.name = name.to_owned();
            }
            if let Some(text) = asked.text("description") {
                next.description = Some(text.to_owned());
            }
            versions.latest = next.version;
            versions.all.push(next);
        })
        .await?;
    let changed = changed.ok_or_else(|| Refusal::not_found("Assistant"))?;
    let current = changed.current().cloned();
    current
        .map(Json)
        .ok_or_else(|| Refusal::not_found("Assistant"))
}

pub(crate) async fn delete(Path(id): Path<String>, asked: Asked) -> Answer {
    let owner = asked.owner();
    let found = asked
        .platform
        .get::<Versions>(owner, ASSISTANT, &id)
        .await?;
    found.ok_or_else(|| Refusal::not_found("Assistant"))?;
    let assistant = id.clone();
    let delete = RecordWrite::Delete {
        kind: ASSISTANT,
        id,
    };
    asked.platform.put(owner, vec![delete]).await?;
    if asked.is("delete_threads") {
        threads::remove_of(&asked, &assistant).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn found(asked: &Asked) -> Answer<Vec<Value>> {
    let owner = asked.owner();
    let mut all = asked
        .platform
        .all::<Versions>(owner, ASSISTANT, None)
        .await?;
    all.extend(asked.platform.built_ins());
    let metadata = asked.object("metadata");
    let current = all.iter().filter_map(Versions::current).filter(|one| {
        let name = asked.text("name").map(str::to_lowercase);
        asked.text("graph_id").is_none_or(|id| id == one.graph_id)
            && name.is_none_or(|name| one.name.to_lowercase().contains(&name))
            && has(&one.metadata, &metadata)
    });
    Ok(current.map(|one| json!(one)).collect())
}

pub(crate) async fn search(asked: Asked) -> Answer {
    asked.listed(found(&asked).await?, |_| Ok(()))
}

pub(crate) async fn count(asked: Asked) -> Answer<Json<usize>> {
    Ok(Json(found(&asked).await?.len()))
}

pub(crate) async fn versions(Path(id): Path<String>, asked: Asked) -> Answer<Json<Vec<Assistant>>> {
    let all = asked.platform.assistant(asked.owner(), &id).await?.all;
    let metadata = asked.object("metadata");
    let found = all
        .into_iter()
        .rev()
        .filter(|one| has(&one.metadata, &metadata));
    Ok(Json(asked.page(found)?))
}

pub(crate) async fn latest(Path(id): Path<String>, asked: Asked) -> Answer<Json<Assistant>> {
    let wanted = asked.number("version").unwrap_or_default() as u64;
    let changed = asked
        .platform
        .change::<Versions>(asked.owner(), ASSISTANT, &id, |versions| {
            if versions.all.iter().any(|one| one.version == wanted) {
                versions.latest = wanted;
            }
        })
        .await?;
    let current = changed.as_ref().and_then(Versions::current).cloned();
    let current = current.filter(|one| one.version == wanted);
    current
        .map(Json)
        .ok_or_else(|| Refusal::not_found("Assistant version"))
}
