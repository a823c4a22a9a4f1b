//! Copies of threads.
//!
//! Invariant: a copy has all checkpoints of the thread, subgraphs' included, under the same ids, and
//! one that fails leaves nothing, no lease either, while the stores can be reached.
//! Deliberately absent: its runs, and how long it is kept.

use axum::{Json, extract::Path};
use http::StatusCode;
use lyceum_core::{Expect, RecordWrite};
use lyceum_graph::{Batch, CheckpointId, Claim, Keep, Lease, Saver, SaverError, ThreadId};
use serde_json::Value;
use uuid::Uuid;

use super::{
    ending::LEASE,
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    request::Asked,
    resources::{Copied, THREAD, Thread, now},
    states::Reader,
    threads::one,
};

/// The most threads that a copy's checkpoints come from; each is written in it.
const COPIES: usize = 64;
/// Checkpoints copied at once.
const PAGE: usize = 64;

pub(crate) async fn copy(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let owner = asked.owner();
    let thread = one(&asked, &id).await?;
    let mut new = thread.clone();
    new.thread_id = Uuid::now_v7().to_string();
    new.created_at = now();
    new.updated_at = now();
    new.lane.clear();
    new.ttl = None;
    let head = asked.platform.head(owner, &thread).await?;
    if let Some((head, _)) = head {
        note(&mut new.copied, &id, head)?;
    }
    if new.status == "busy" {
        new.status = "idle".to_owned();
    }
    let from = Platform::key(owner, &id)?;
    let to = Platform::key(owner, &new.thread_id)?;
    write(&asked, &from, &to, &places(&asked, &thread)?, &new).await?;
    Ok(Json(new.shown()))
}

/// Notes that the checkpoints up to one came from a thread. Where that thread has none of its own,
/// what it was copied from says all.
fn note(copied: &mut Vec<Copied>, from: &str, head: CheckpointId) -> Answer<()> {
    if copied.last().is_some_and(|last| head.0 <= last.until) {
        return Ok(());
    }
    if copied.len() >= COPIES {
        return Err(Refusal::Say(
            StatusCode::CONFLICT,
            format!("Thread is a copy of a copy, {COPIES} times over: copy one that it came from"),
        ));
    }
    copied.push(Copied {
        thread_id: from.to_owned(),
        until: head.0,
    });
    Ok(())
}

/// Where a thread's checkpoints are: the graph's own, and those of its subgraphs.
fn places(asked: &Asked, thread: &Thread) -> Answer<Vec<String>> {
    let mut places = vec![String::new()];
    if let Some(reader) = Reader::open(&asked.platform, asked.owner(), thread)? {
        let mut graphs = vec![(String::new(), reader.graph.any())];
        while let Some((place, graph)) = graphs.pop() {
            for (name, inner) in graph.subgraphs() {
                let place = format!("{place}/{name}");
                places.push(place.clone());
                graphs.push((place, inner));
            }
        }
    }
    Ok(places)
}

/// Writes a copy: the checkpoints of a thread, then its record, or nothing.
async fn write(
    asked: &Asked,
    from: &ThreadId,
    to: &ThreadId,
    places: &[String],
    new: &Thread,
) -> Answer<()> {
    let saver = asked.platform.0.saver.as_ref();
    let ids = checkpoints(saver, from, places).await?;
    let lease = saver.acquire(to, LEASE, Claim::IfFree).await?;
    let written = async {
        commit_all(saver, from, &lease, ids).await?;
        let record = put_write(THREAD, &new.thread_id, "", new, Expect::Absent);
        asked.platform.put(asked.owner(), vec![record]).await?;
        Ok(())
    }
    .await;
    if written.is_err() {
        undo(asked, &lease, new).await;
    }
    if let Err(error) = saver.release(&lease).await {
        tracing::warn!(%error, thread = %to, "the lease of a copy is left to run out");
    }
    written
}

/// Removes what was written of a copy. The record goes first: its writing may have failed in doubt.
async fn undo(asked: &Asked, lease: &Lease, new: &Thread) {
    let record = RecordWrite::Delete {
        kind: THREAD,
        id: new.thread_id.clone(),
    };
    let removed = asked.platform.put(asked.owner(), vec![record]).await;
    let thread = &new.thread_id;
    if let Err(error) = removed {
        // With its checkpoints it is at least whole.
        tracing::warn!(?error, thread, "a copy that failed may be left");
        return;
    }
    if let Err(error) = asked.platform.0.saver.prune(lease, Keep::Nothing).await {
        tracing::warn!(%error, thread, "a part of a copy that failed is left");
    }
}

/// The checkpoints of a thread at these places, the oldest first.
async fn checkpoints<'p>(
    saver: &dyn Saver,
    thread: &ThreadId,
    places: &'p [String],
) -> Result<Vec<(CheckpointId, &'p String)>, SaverError> {
    let mut ids = Vec::new();
    for place in places {
        let mut before = None;
        loop {
            let page = saver.history(thread, place, before, PAGE).await?;
            before = page.last().map(|head| head.id);
            ids.extend(page.iter().map(|head| (head.id, place)));
            if page.len() < PAGE {
                break;
            }
        }
    }
    ids.sort_unstable_by_key(|(id, _)| *id);
    Ok(ids)
}

/// Writes these checkpoints under a lease, in their order.
async fn commit_all(
    saver: &dyn Saver,
    from: &ThreadId,
    lease: &Lease,
    ids: Vec<(CheckpointId, &String)>,
) -> Result<(), SaverError> {
    let mut known = std::collections::BTreeSet::new();
    for (id, place) in ids {
        let Some(saved) = saver.load(from, place, Some(id)).await? else {
            continue;
        };
        let mut values = saved.values;
        values.retain(|value| known.insert((place, value.key.clone())));
        let batch = Batch {
            checkpoints: vec![saved.checkpoint],
            values,
            records: saved.records,
        };
        saver.commit(lease, &batch).await?;
    }
    Ok(())
}
