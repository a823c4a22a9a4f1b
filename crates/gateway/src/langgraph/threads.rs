//! The threads' endpoints.
//!
//! Invariant: a thread that runs is not written from outside. Deliberately absent: how a
//! state is shown.

use axum::{
    Json,
    extract::Path,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use lyceum_core::{Expect, RecordWrite};
use lyceum_graph::{CheckpointId, Namespace, NodeName};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    erased::known,
    expiry::Ttl,
    extract::extract,
    platform::put_write,
    refusal::{Answer, Refusal},
    removal::{keep_latest, remove},
    request::{Asked, has, uuid},
    resources::{ASSISTANT, ITEM, THREAD, Thread, Versions, now},
    shelf::{Item, item_id},
    states::{self, Reader},
};
use crate::error::ApiError;

pub(crate) async fn create(asked: Asked) -> Answer<Json<Value>> {
    let id = match asked.text("thread_id") {
        Some(id) => uuid(id)?,
        None => Uuid::now_v7().to_string(),
    };
    let mut metadata = asked.object("metadata");
    if let Some(graph) = asked.text("graph_id") {
        metadata.insert("graph_id".to_owned(), graph.into());
    }
    let mut thread = Thread::new(id.clone(), metadata);
    thread.ttl = Ttl::read(asked.value("ttl"))?;
    let expiries = &asked.platform.0.expiries;
    if thread.ttl.is_some() {
        expiries.add(asked.owner())?;
    }
    let mut writes = vec![put_write(THREAD, &id, "", &thread, Expect::Absent)];
    writes.extend(thread.ttl.as_ref().map(|ttl| ttl.entry(&id)));
    if asked.platform.put(asked.owner(), writes).await? {
        thread
            .ttl
            .iter()
            .for_each(|ttl| expiries.written(ttl.due()));
        if asked.value("supersteps").is_some() {
            relive(&asked, &thread).await?;
            return one(&asked, &id).await.map(|thread| Json(thread.shown()));
        }
        return Ok(Json(thread.shown()));
    }
    match asked.text("if_exists") {
        Some("do_nothing") => one(&asked, &id).await.map(|thread| Json(thread.shown())),
        _ => Err(Refusal::conflict("Thread already exists")),
    }
}

pub(crate) async fn one(asked: &Asked, id: &str) -> Answer<Thread> {
    asked.platform.thread(asked.owner(), &uuid(id)?).await
}

pub(crate) async fn get(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let thread = one(&asked, &id).await?;
    let mut shown = thread.shown();
    let included = asked.text("include").unwrap_or_default();
    if included.split(',').any(|part| part.trim() == "ttl") {
        shown["ttl"] = json!(thread.ttl);
    }
    Ok(Json(shown))
}

pub(crate) async fn update(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let ttl = Ttl::read(asked.value("ttl"))?;
    let expiries = &asked.platform.0.expiries;
    if ttl.is_some() {
        expiries.add(asked.owner())?;
    }
    let entry: Vec<_> = ttl.iter().map(|ttl| ttl.entry(&id)).collect();
    let changed = asked
        .platform
        .change_with::<Thread>(asked.owner(), (THREAD, &id), &entry, |thread| {
            thread.metadata.extend(asked.object("metadata"));
            thread.updated_at = now();
            if ttl.is_some() {
                thread.ttl.clone_from(&ttl);
            }
        })
        .await?;
    let changed = changed.ok_or_else(|| Refusal::not_found("Thread"))?;
    ttl.iter().for_each(|ttl| expiries.written(ttl.due()));
    Ok(Json(changed.shown()))
}

pub(crate) async fn delete(Path(id): Path<String>, asked: Asked) -> Answer {
    one(&asked, &id).await?;
    remove(&asked.platform, asked.owner(), &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn prune(asked: Asked) -> Answer<Json<Value>> {
    let ids = asked.value("thread_ids").and_then(Value::as_array);
    let ids: Vec<String> = ids
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect();
    asked.at_most(ids.len())?;
    let mut pruned = 0;
    for id in ids {
        if one(&asked, &id).await.is_err() {
            continue;
        }
        if asked.text("strategy") == Some("keep_latest") {
            keep_latest(&asked.platform, asked.owner(), &id).await?;
        } else {
            remove(&asked.platform, asked.owner(), &id).await?;
        }
        pruned += 1;
    }
    Ok(Json(json!({ "pruned_count": pruned })))
}

/// Removes the kinds of things that the body names, where the server lets clients do so.
pub(crate) async fn truncate(asked: Asked) -> Answer {
    if !asked.platform.0.truncates {
        return Err(ApiError::NotFound.into());
    }
    let owner = asked.owner();
    if asked.is("threads") {
        for thread in asked.platform.all::<Thread>(owner, THREAD, None).await? {
            remove(&asked.platform, owner, &thread.thread_id).await?;
        }
    }
    let mut writes = Vec::new();
    if asked.is("assistants") {
        let all = asked
            .platform
            .all::<Versions>(owner, ASSISTANT, None)
            .await?;
        let ids = all
            .into_iter()
            .filter_map(|one| Some(one.all.first()?.assistant_id.clone()));
        writes.extend(ids.map(|id| RecordWrite::Delete {
            kind: ASSISTANT,
            id,
        }));
    }
    if asked.is("store") {
        for item in asked.platform.all::<Item>(owner, ITEM, None).await? {
            let id = item_id(&item.namespace, &item.key)?;
            writes.push(RecordWrite::Delete { kind: ITEM, id });
        }
    }
    if !writes.is_empty() {
        asked.platform.put(owner, writes).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Removes the threads whose last run was an assistant's.
pub(crate) async fn remove_of(asked: &Asked, assistant: &str) -> Answer<()> {
    let all = asked
        .platform
        .all::<Thread>(asked.owner(), THREAD, None)
        .await?;
    let is_its = |thread: &&Thread| {
        let of = thread.metadata.get("assistant_id");
        of.and_then(Value::as_str) == Some(assistant)
    };
    for thread in all.iter().filter(is_its) {
        remove(&asked.platform, asked.owner(), &thread.thread_id).await?;
    }
    Ok(())
}

async fn found(asked: &Asked) -> Answer<Vec<Value>> {
    if let Some(status) = asked.text("status")
        && !["idle", "busy", "interrupted", "error"].contains(&status)
    {
        return Err(Refusal::invalid(
            "status must be one of idle, busy, interrupted, error",
        ));
    }
    let all = asked
        .platform
        .all::<Thread>(asked.owner(), THREAD, None)
        .await?;
    let (metadata, values) = (asked.object("metadata"), asked.object("values"));
    let ids = asked.value("ids").and_then(Value::as_array);
    let kept = all.iter().filter(|thread| {
        asked
            .text("status")
            .is_none_or(|status| status == thread.status)
            && has(&json!(thread.metadata), &metadata)
            && has(&thread.values, &values)
            && ids.is_none_or(|ids| ids.contains(&thread.thread_id.as_str().into()))
    });
    Ok(kept.map(Thread::shown).collect())
}

pub(crate) async fn search(asked: Asked) -> Answer {
    let all = found(&asked).await?;
    asked.listed(all, |page| extract(asked.value("extract"), page))
}

pub(crate) async fn count(asked: Asked) -> Answer<Json<usize>> {
    Ok(Json(found(&asked).await?.len()))
}

fn empty(thread: &Thread) -> Value {
    json!({
        "values": {}, "next": [], "tasks": [], "metadata": {}, "created_at": null,
        "checkpoint": { "thread_id": thread.thread_id, "checkpoint_ns": "",
            "checkpoint_id": null, "checkpoint_map": null },
        "parent_checkpoint": null, "interrupts": [], "checkpoint_id": null,
    })
}

async fn shown(
    asked: &Asked,
    id: &str,
    at: Option<&str>,
    namespace: &Namespace,
) -> Answer<Json<Value>> {
    let thread = one(asked, id).await?;
    let at = match at {
        Some(text) => {
            let at = states::parse(text);
            Some(at.ok_or_else(|| Refusal::not_found("Checkpoint"))?)
        }
        None => None,
    };
    let found = match Reader::open(&asked.platform, asked.owner(), &thread)? {
        Some(reader) => {
            let subgraphs = asked.is("subgraphs");
            reader.state(namespace, at, subgraphs).await?
        }
        None => None,
    };
    let state = match found {
        Some(state) => state,
        None if at.is_some() => return Err(Refusal::not_found("Checkpoint")),
        None => empty(&thread),
    };
    let mut selected = asked.select(vec![state]);
    Ok(Json(selected.pop().unwrap_or_default()))
}

pub(crate) async fn state(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    shown(&asked, &id, None, &place(&asked)?).await
}

pub(crate) async fn state_at(
    Path((id, at)): Path<(String, String)>,
    asked: Asked,
) -> Answer<Json<Value>> {
    shown(&asked, &id, Some(&at), &place(&asked)?).await
}

/// The checkpoint that a body names, in any of the ways that clients have.
fn named(asked: &Asked) -> Option<&str> {
    let place = asked.value("checkpoint");
    let place = place.and_then(|place| place.get("checkpoint_id"));
    place
        .and_then(Value::as_str)
        .or(asked.text("checkpoint_id"))
}

pub(crate) async fn state_of(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    shown(&asked, &id, named(&asked), &place(&asked)?).await
}

pub(crate) async fn update_state(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let owner = asked.owner();
    let thread = one(&asked, &id).await?;
    if !thread.lane.is_empty() {
        return Err(Refusal::conflict(
            "Thread is busy: wait for its run or cancel it",
        ));
    }
    let reader = Reader::open(&asked.platform, owner, &thread)?;
    let reader = reader.ok_or_else(|| {
        Refusal::Say(
            StatusCode::BAD_REQUEST,
            format!("Thread {id} has no associated graph"),
        )
    })?;
    let place = place(&asked)?;
    let values = asked.value("values").cloned().unwrap_or_default();
    let at = named(&asked).and_then(states::parse);
    let new = write(
        &asked,
        &reader,
        &thread,
        &place,
        at,
        (values, asked.text("as_node")),
    )
    .await?;
    settle(&asked, &reader, &id).await?;
    let place = json!({
        "thread_id": id, "checkpoint_ns": asked_namespace(&asked), "checkpoint_map": null,
        "checkpoint_id": states::checkpoint_id(new),
    });
    Ok(Json(json!({
        "checkpoint": place, "configurable": place,
        "checkpoint_id": states::checkpoint_id(new),
    })))
}

/// One update of a thread's state, or of a subgraph's.
async fn write(
    asked: &Asked,
    reader: &Reader,
    thread: &Thread,
    place: &Namespace,
    at: Option<states::At>,
    (values, as_node): (Value, Option<&str>),
) -> Answer<CheckpointId> {
    let owner = asked.owner();
    let head = reader.snapshot(place, at).await?;
    let head = head.as_ref().map(|head| &head.checkpoint);
    if at.is_some() && head.is_none() {
        return Err(Refusal::not_found("Checkpoint"));
    }
    let mut metadata = Map::new();
    let ahead = match as_node {
        Some("__start__") => 2,
        _ => 1,
    };
    let ahead = head.map_or(0, |head| states::offset(head) + ahead);
    metadata.insert(states::OFFSET.to_owned(), ahead.into());
    for (name, value) in [
        ("graph_id", thread.graph()),
        ("thread_id", Some(thread.thread_id.as_str())),
    ] {
        metadata.insert(name.to_owned(), value.into());
    }
    metadata.extend(asked.object("metadata"));
    let mut at = at.map(|at| at.id);
    if at.is_none() {
        at = if place.is_root() {
            let head = asked.platform.head(owner, thread).await?;
            head.and_then(|(id, is_newest)| (!is_newest).then_some(id))
        } else {
            head.map(|head| head.id)
        };
    }
    let graph = reader.inside(place)?;
    let values = known(&*graph, values);
    let as_node = as_node.map(NodeName::from);
    let part = reader.part(place.clone())?;
    Ok(graph.write(part, at, values, as_node, metadata).await?)
}

/// Lets the thread's record say what its newest checkpoint does.
async fn settle(asked: &Asked, reader: &Reader, id: &str) -> Answer<()> {
    let Some(found) = reader.snapshot(&Namespace::default(), None).await? else {
        return Ok(());
    };
    let values = states::values(&found);
    asked
        .platform
        .change::<Thread>(asked.owner(), THREAD, id, |thread| {
            thread.values = values.clone();
            thread.updated_at = now();
            thread.status = match (thread.lane.is_empty(), found.tasks.is_empty()) {
                // A run came meanwhile.
                (false, _) => "busy",
                (true, false) => "interrupted",
                (true, true) => "idle",
            }
            .to_owned();
        })
        .await?;
    Ok(())
}

pub(crate) async fn history(Path(id): Path<String>, asked: Asked) -> Answer<Response> {
    let thread = one(&asked, &id).await?;
    let Some(reader) = Reader::open(&asked.platform, asked.owner(), &thread)? else {
        return Ok(Json(json!([])).into_response());
    };
    let limit = asked.limit()?;
    let before = asked.value("before");
    let before = before.and_then(|before| {
        let place = before.get("configurable").unwrap_or(before);
        before
            .as_str()
            .or_else(|| place.get("checkpoint_id")?.as_str())
    });
    let before = before.and_then(states::parse);
    let (place, metadata) = (place(&asked)?, asked.object("metadata"));
    let found = reader.history(&place, before, limit, &metadata).await?;
    Ok(Json(asked.select(found)).into_response())
}

fn asked_namespace(asked: &Asked) -> &str {
    let place = asked.value("checkpoint");
    let place = place.and_then(|place| place.get("checkpoint_ns")?.as_str());
    place.or(asked.text("checkpoint_ns")).unwrap_or_default()
}

/// The subgraph that a body names.
fn place(asked: &Asked) -> Answer<Namespace> {
    states::namespace(asked_namespace(asked))
}

/// What a new thread is to have gone through.
async fn relive(asked: &Asked, thread: &Thread) -> Answer<()> {
    let steps = asked.value("supersteps").and_then(Value::as_array);
    let steps = steps.cloned().unwrap_or_default();
    asked.at_most(steps.len())?;
    let Some(reader) = Reader::open(&asked.platform, asked.owner(), thread)? else {
        return Err(Refusal::invalid("supersteps need a graph_id in metadata"));
    };
    for step in &steps {
        let updates = step.get("updates").and_then(Value::as_array);
        for update in updates.into_iter().flatten() {
            let values = update.get("values").cloned().unwrap_or_default();
            let as_node = update.get("as_node").and_then(Value::as_str);
            // The input itself is shown from what it made.
            if as_node != Some("__input__") {
                let root = Namespace::default();
                write(asked, &reader, thread, &root, None, (values, as_node)).await?;
            }
        }
    }
    settle(asked, &reader, &thread.thread_id).await
}
