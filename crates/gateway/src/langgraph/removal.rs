//! Threads that are removed, or all that they were.
//!
//! Invariant: a thread is removed in one write, with its runs, what they tell and what they owe, and
//! only as it was read; the entry of its time to live goes last. Deliberately absent: when its time
//! has come.

use lyceum_core::{Record, RecordWrite, TenantId};
use lyceum_graph::Claim;

use super::{
    board::Stop,
    ending::{LEASE, clear},
    expiry::no_thread_entry,
    platform::Platform,
    refusal::{Answer, Refusal},
    resources::{RUN, THREAD, Thread, WEBHOOK, WEBHOOK_BODY},
    tape,
};
use crate::fenced::remove_at;

/// How often a thread that is to be removed is looked at while runs come to it.
const LOOKS: u32 = 8;

/// Removes a thread with everything it has.
pub(crate) async fn remove(platform: &Platform, owner: &TenantId, id: &str) -> Answer<()> {
    for _ in 0..LOOKS {
        let Some(record) = platform.0.records.read(owner, THREAD, id).await? else {
            return Ok(());
        };
        let thread = serde_json::from_str::<Thread>(&record.body).ok();
        let lane = thread.map(|thread| thread.lane).unwrap_or_default();
        if !lane.is_empty() {
            let mut stopped = Vec::new();
            for one in &lane {
                stopped.extend(platform.find(owner, Some(id), &one.run).await?);
            }
            stopped.iter().for_each(|live| live.stop(Stop::Interrupt));
            for live in stopped {
                live.log.ended().await;
            }
            continue;
        }
        clear(platform, owner, id).await?;
        let mut writes = removal(platform, owner, record).await?;
        writes.push(no_thread_entry(id));
        if platform.put(owner, writes).await? {
            platform.0.chronicles.forget(owner, id);
            return Ok(());
        }
    }
    Err(Refusal::conflict("Thread is busy: wait for its runs"))
}

/// Removes a thread that has no runs as it was read; `false` where it was written since, and then
/// it is as it was. The entry of its time to live stays: while there is one, checkpoints that are
/// left over are looked for.
pub(crate) async fn remove_unchanged(
    platform: &Platform,
    owner: &TenantId,
    record: Record,
) -> Answer<bool> {
    let id = record.id.clone();
    let writes = removal(platform, owner, record).await?;
    if !platform.put(owner, writes).await? {
        return Ok(false);
    }
    platform.0.chronicles.forget(owner, &id);
    clear(platform, owner, &id).await?;
    Ok(true)
}

/// What removes the records of a thread, where it was not written since it was read.
async fn removal(
    platform: &Platform,
    owner: &TenantId,
    record: Record,
) -> Answer<Vec<RecordWrite>> {
    let Record { id, revision, .. } = record;
    let runs = platform.records_of(owner, RUN, Some(&id)).await?;
    let runs = runs
        .into_iter()
        .flat_map(|run| [RUN, WEBHOOK, WEBHOOK_BODY].map(|kind| (kind, run.id.clone())));
    let tapes = tape::removals(platform, owner, &id).await?;
    // At its revision, so that no run that comes meanwhile is left without it.
    let mut writes = remove_at(THREAD, id, revision).to_vec();
    writes.extend(runs.map(|(kind, id)| RecordWrite::Delete { kind, id }));
    writes.extend(tapes);
    Ok(writes)
}

/// Removes all checkpoints of a thread but the newest.
pub(crate) async fn keep_latest(platform: &Platform, owner: &TenantId, id: &str) -> Answer<()> {
    let key = Platform::key(owner, id)?;
    let saver = &platform.0.saver;
    let lease = saver.acquire(&key, LEASE, Claim::IfFree).await?;
    let pruned = saver.prune(&lease, lyceum_graph::Keep::Last(1)).await;
    saver.release(&lease).await?;
    pruned?;
    Ok(())
}
