//! Copies of threads.
//!
//! Invariant: a copy has all checkpoints of the thread, subgraphs' included, under the same ids, and
//! one that fails leaves nothing, no lease either.
//! Deliberately absent: its runs, and how long it is kept.

use axum::{Json, extract::Path};
use http::StatusCode;
use lyceum_core::Expect;
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
    copy_checkpoints(&asked, &from, &to, &places(&asked, &thread)?).await?;
    let write = put_write(THREAD, &new.thread_id, "", &new, Expect::Absent);
    asked.platform.put(owner, vec![write]).await?;
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

async fn copy_checkpoints(
    asked: &Asked,
    from: &ThreadId,
    to: &ThreadId,
    places: &[String],
) -> Answer<()> {
    let saver = &asked.platform.0.saver;
    let mut ids = Vec::new();
    for place in places {
        let mut before = None;
        loop {
            let page = saver.history(from, place, before, PAGE).await?;
            before = page.last().map(|head| head.id);
            ids.extend(page.iter().map(|head| (head.id, place)));
            if page.len() < PAGE {
                break;
            }
        }
    }
    // Oldest first, of all graphs.
    ids.sort_unstable_by_key(|(id, _)| *id);
    let lease = saver.acquire(to, LEASE, Claim::IfFree).await?;
    let copied = commit_all(saver.as_ref(), from, &lease, ids).await;
    if copied.is_err()
        && let Err(error) = saver.prune(&lease, Keep::Nothing).await
    {
        tracing::warn!(%error, thread = %to, "a part of a copy that failed is left");
    }
    let released = saver.release(&lease).await;
    copied?;
    released?;
    Ok(())
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
