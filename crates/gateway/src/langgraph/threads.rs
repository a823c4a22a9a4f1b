//! The threads' endpoints.
//!
//! Invariant: a thread that runs is not written from outside. Deliberately absent: states of
//! subgraphs.

use std::time::Duration;

use axum::{
    Json,
    extract::Path,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use lyceum_core::{Expect, RecordWrite};
use lyceum_graph::{Batch, CheckpointId, Claim, ThreadId};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    lanes::Stop,
    platform::put_write,
    refusal::{Answer, Refusal},
    request::{Asked, has, uuid},
    resources::{self, RUN, Run, THREAD, Thread, now, parse_checkpoint},
    served::View,
    worker::clear,
};

/// Checkpoints copied at once.
const PAGE: usize = 64;
const LEASE: Duration = Duration::from_secs(30);

pub(crate) async fn create(asked: Asked) -> Answer<Json<Value>> {
    let id = match asked.text("thread_id") {
        Some(id) => uuid(id)?,
        None => Uuid::now_v7().to_string(),
    };
    let thread = Thread::new(id.clone(), asked.object("metadata"));
    let write = put_write(THREAD, &id, "", &thread, Expect::Absent);
    if asked.platform.put(asked.owner(), vec![write]).await? {
        return Ok(Json(thread.shown()));
    }
    match asked.text("if_exists") {
        Some("do_nothing") => one(&asked, &id).await.map(|thread| Json(thread.shown())),
        _ => Err(Refusal::conflict("Thread already exists")),
    }
}

async fn one(asked: &Asked, id: &str) -> Answer<Thread> {
    asked.platform.thread(asked.owner(), &uuid(id)?).await
}

pub(crate) async fn get(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    Ok(Json(one(&asked, &id).await?.shown()))
}

pub(crate) async fn update(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let changed = asked
        .platform
        .change::<Thread>(asked.owner(), THREAD, &id, |thread| {
            thread.metadata.extend(asked.object("metadata"));
            thread.updated_at = now();
        })
        .await?;
    let changed = changed.ok_or_else(|| Refusal::not_found("Thread"))?;
    Ok(Json(changed.shown()))
}

/// Removes a thread with everything it has.
async fn remove(asked: &Asked, id: &str) -> Answer<()> {
    let owner = asked.owner();
    let runs = asked.platform.all::<Run>(owner, RUN, Some(id)).await?;
    for run in &runs {
        if let Some(live) = asked.platform.live(owner, &run.run_id) {
            live.stop(Stop::Interrupt);
            live.log.ended().await;
        }
    }
    clear(&asked.platform, owner, id).await?;
    let runs = runs.into_iter().map(|run| (RUN, run.run_id));
    let all = runs.chain([(THREAD, id.to_owned())]);
    let writes = all.map(|(kind, id)| RecordWrite::Delete { kind, id });
    asked.platform.put(owner, writes.collect()).await?;
    Ok(())
}

pub(crate) async fn delete(Path(id): Path<String>, asked: Asked) -> Answer {
    one(&asked, &id).await?;
    remove(&asked, &id).await?;
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
            let key = super::Platform::key(asked.owner(), &id)?;
            let saver = &asked.platform.0.saver;
            let lease = saver.acquire(&key, LEASE, Claim::IfFree).await?;
            saver.prune(&lease, lyceum_graph::Keep::Last(1)).await?;
            saver.release(&lease).await?;
        } else {
            remove(&asked, &id).await?;
        }
        pruned += 1;
    }
    Ok(Json(json!({ "pruned_count": pruned })))
}

async fn found(asked: &Asked) -> Answer<Vec<Value>> {
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

pub(crate) async fn search(asked: Asked) -> Answer<Json<Vec<Value>>> {
    let mut all = found(&asked).await?;
    asked.sort(&mut all);
    Ok(Json(asked.page(all)))
}

pub(crate) async fn count(asked: Asked) -> Answer<Json<usize>> {
    Ok(Json(found(&asked).await?.len()))
}

pub(crate) async fn copy(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let owner = asked.owner();
    let thread = one(&asked, &id).await?;
    let mut new = thread.clone();
    new.thread_id = Uuid::now_v7().to_string();
    new.created_at = now();
    new.updated_at = now();
    if new.status == "busy" {
        new.status = "idle".to_owned();
    }
    let from = super::Platform::key(owner, &id)?;
    let to = super::Platform::key(owner, &new.thread_id)?;
    copy_checkpoints(&asked, &from, &to).await?;
    let write = put_write(THREAD, &new.thread_id, "", &new, Expect::Absent);
    asked.platform.put(owner, vec![write]).await?;
    Ok(Json(new.shown()))
}

async fn copy_checkpoints(asked: &Asked, from: &ThreadId, to: &ThreadId) -> Answer<()> {
    let saver = &asked.platform.0.saver;
    let (mut ids, mut before) = (Vec::new(), None);
    loop {
        let page = saver.history(from, "", before, PAGE).await?;
        before = page.last().map(|head| head.id);
        ids.extend(page.iter().map(|head| head.id));
        if page.len() < PAGE {
            break;
        }
    }
    let lease = saver.acquire(to, LEASE, Claim::IfFree).await?;
    let mut known = std::collections::BTreeSet::new();
    for id in ids.into_iter().rev() {
        let Some(saved) = saver.load(from, "", Some(id)).await? else {
            continue;
        };
        let mut values = saved.values;
        values.retain(|value| known.insert(value.key.clone()));
        let batch = Batch {
            checkpoints: vec![saved.checkpoint],
            values,
            records: saved.records,
        };
        saver.commit(&lease, &batch).await?;
    }
    saver.release(&lease).await?;
    Ok(())
}

/// The state of a thread at its newest checkpoint, or at one of them.
async fn view(asked: &Asked, thread: &Thread, at: Option<CheckpointId>) -> Answer<Option<View>> {
    let Some(graph) = thread.graph() else {
        return Ok(None);
    };
    let at = match at {
        Some(at) => Some(at),
        None => match asked.platform.head(asked.owner(), thread).await? {
            Some((head, _)) => Some(head),
            None => return Ok(None),
        },
    };
    let served = asked.platform.graph(graph)?;
    let key = super::Platform::key(asked.owner(), &thread.thread_id)?;
    let saver = asked.platform.0.saver.clone();
    Ok(served.graph.view(saver, key, at).await?)
}

fn empty(thread: &Thread) -> Value {
    json!({
        "values": {}, "next": [], "tasks": [], "metadata": {}, "created_at": null,
        "checkpoint": { "thread_id": thread.thread_id, "checkpoint_ns": "",
            "checkpoint_id": null, "checkpoint_map": null },
        "parent_checkpoint": null, "interrupts": [], "checkpoint_id": null,
    })
}

async fn shown(asked: &Asked, id: &str, at: Option<&str>) -> Answer<Json<Value>> {
    let thread = one(asked, id).await?;
    let at = match at {
        Some(text) => {
            let at = parse_checkpoint(text);
            Some(at.ok_or_else(|| Refusal::not_found("Checkpoint"))?)
        }
        None => None,
    };
    match view(asked, &thread, at).await? {
        Some(view) => Ok(Json(resources::state(&thread.thread_id, &view))),
        None if at.is_some() => Err(Refusal::not_found("Checkpoint")),
        None => Ok(Json(empty(&thread))),
    }
}

pub(crate) async fn state(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    shown(&asked, &id, None).await
}

pub(crate) async fn state_at(
    Path((id, at)): Path<(String, String)>,
    asked: Asked,
) -> Answer<Json<Value>> {
    shown(&asked, &id, Some(&at)).await
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
    shown(&asked, &id, named(&asked)).await
}

pub(crate) async fn update_state(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let owner = asked.owner();
    let thread = one(&asked, &id).await?;
    if asked.platform.is_busy(owner, &id) {
        return Err(Refusal::conflict(
            "Thread is busy: wait for its run or cancel it",
        ));
    }
    let graph = thread.graph().map(str::to_owned);
    let graph = graph.ok_or_else(|| {
        Refusal::Say(
            StatusCode::BAD_REQUEST,
            format!("Thread {id} has no associated graph"),
        )
    })?;
    let served = asked.platform.graph(&graph)?;
    let head = asked.platform.head(owner, &thread).await?;
    let at = named(&asked).and_then(parse_checkpoint);
    let at = at.or(head.and_then(|(id, is_newest)| (!is_newest).then_some(id)));
    let key = super::Platform::key(owner, &id)?;
    let saver = asked.platform.0.saver.clone();
    let mut metadata = Map::new();
    metadata.insert("graph_id".to_owned(), graph.into());
    let values = asked.value("values").cloned().unwrap_or_default();
    let as_node = asked.text("as_node").map(str::to_owned);
    let new = served
        .graph
        .update(saver.clone(), key.clone(), at, values, as_node, metadata)
        .await?;
    let view = served.graph.view(saver, key, Some(new)).await?;
    if let Some(view) = view {
        asked
            .platform
            .change::<Thread>(owner, THREAD, &id, |thread| {
                thread.values = view.values.clone();
                thread.updated_at = now();
                let is_open = !view.next.is_empty();
                thread.status = if is_open { "interrupted" } else { "idle" }.to_owned();
            })
            .await?;
    }
    let place = json!({
        "thread_id": id, "checkpoint_ns": "", "checkpoint_map": null,
        "checkpoint_id": resources::checkpoint_id(new),
    });
    Ok(Json(json!({
        "checkpoint": place, "configurable": place,
        "checkpoint_id": resources::checkpoint_id(new),
    })))
}

pub(crate) async fn history(Path(id): Path<String>, asked: Asked) -> Answer<Response> {
    let thread = one(&asked, &id).await?;
    let key = super::Platform::key(asked.owner(), &id)?;
    let limit = asked.number("limit").unwrap_or(10).min(1_000);
    let metadata = asked.object("metadata");
    let before = asked.value("before");
    let before = before.and_then(|before| {
        let place = before.get("configurable").unwrap_or(before);
        before
            .as_str()
            .or_else(|| place.get("checkpoint_id")?.as_str())
    });
    let mut before = before.and_then(parse_checkpoint);
    let mut found = Vec::new();
    'pages: loop {
        let page = asked
            .platform
            .0
            .saver
            .history(&key, "", before, PAGE)
            .await?;
        before = page.last().map(|head| head.id);
        for head in &page {
            if found.len() == limit {
                break 'pages;
            }
            let run = head.metadata.get("run_id").and_then(Value::as_str);
            let is_undone = run.is_some_and(|run| thread.undone.iter().any(|id| id == run));
            if is_undone || !has(&json!(head.metadata), &metadata) {
                continue;
            }
            if let Some(view) = view(&asked, &thread, Some(head.id)).await? {
                found.push(resources::state(&id, &view));
            }
        }
        if page.len() < PAGE {
            break;
        }
    }
    Ok(Json(found).into_response())
}
