//! The stored end of a run.
//!
//! Invariant: a run ends in one write that sets its status, gives up its place in the thread's
//! lane and takes it from the queue, and only where this process still holds it.
//! Deliberately absent: how it came to its end.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use lyceum_core::{Expect, RecordWrite, TenantId};
use lyceum_graph::{Claim, Interrupt, Keep, Namespace};
use serde_json::{Map, Value, json};

use super::{
    adoption::remains,
    board::{Live, Stop},
    erased::shown,
    lanes::topic,
    platform::{Platform, put_write},
    refusal::Refusal,
    resources::{QUEUE, RUN, Run, STOP, THREAD, Thread, now},
    states::Reader,
    tape::{self, Hold, Tape},
    webhooks,
};

/// How long a thread of a dead process stays taken.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// The pause before records that could not be used are used again, which doubles to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a run ended.
pub(crate) struct End {
    pub(crate) status: &'static str,
    pub(crate) values: Option<Value>,
    pub(crate) interrupts: Vec<Interrupt>,
    /// Whether something is left to do on the thread.
    pub(crate) is_open: bool,
    pub(crate) error: Option<Value>,
}

impl End {
    pub(crate) fn stopped() -> Self {
        Self {
            status: "interrupted",
            values: None,
            interrupts: Vec::new(),
            is_open: false,
            error: None,
        }
    }

    pub(crate) fn failed(error: &str, message: &str) -> Self {
        Self {
            status: "error",
            error: Some(json!({ "error": error, "message": message })),
            ..Self::stopped()
        }
    }
}

/// A run that this process executes.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) platform: &'a Platform,
    pub(crate) owner: &'a TenantId,
    pub(crate) live: &'a Arc<Live>,
}

/// The questions that are open, by task, as clients see them.
async fn asked_by_task(
    platform: &Platform,
    owner: &TenantId,
    run: &Run,
) -> Result<Map<String, Value>, Refusal> {
    let thread = platform.thread(owner, &run.thread_id).await?;
    let Some(reader) = Reader::open(platform, owner, &thread)? else {
        return Ok(Map::new());
    };
    let found = reader.snapshot(&Namespace::default(), None).await?;
    let tasks = found.into_iter().flat_map(|found| found.tasks);
    let asking = tasks.filter(|task| !task.interrupts.is_empty());
    let asking = asking.map(|task| {
        let id = task.id.to_string();
        let asked = shown(&task.interrupts, Some(&id));
        (id, asked)
    });
    Ok(asking.collect())
}

/// Stores the end of a run; where that is not possible now, again if others share the records,
/// because nobody else ends it before this process does.
pub(crate) async fn finish(
    work: Work<'_>,
    run: &Run,
    mut end: End,
    stopped: Option<Stop>,
    mut tape: Option<&mut Tape>,
) -> Result<Hold, Refusal> {
    let Work {
        platform,
        owner,
        live,
    } = work;
    if stopped.is_some() && end.status != "success" {
        end.status = "interrupted";
        end.is_open = false;
        if end.error.is_none() {
            let told = json!({ "error": "UserInterrupt", "message": "User interrupted the run" });
            live.log.push("error".to_owned(), &told);
        }
    }
    if let Some(error) = &end.error {
        live.log.push("error".to_owned(), error);
    }
    let is_undone = stopped == Some(Stop::Rollback) && end.status != "success";
    let mut pause = PAUSE;
    loop {
        let tape = tape.as_deref_mut();
        let is_shared = tape.is_some();
        match finish_once(work, run, &end, is_undone, tape).await {
            Ok(Some(hold)) => {
                platform.0.bell.tell(&tape::topic(&run.run_id)).await;
                platform.0.bell.tell(&topic(owner, &run.thread_id)).await;
                return Ok(hold);
            }
            Ok(None) => {}
            Err(refusal) => {
                if !is_shared || platform.is_closing() {
                    return Err(refusal);
                }
                tracing::warn!(?refusal, "the end of a run is stored later");
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }
}

/// One attempt; `None` when the thread was written meanwhile.
async fn finish_once(
    work: Work<'_>,
    run: &Run,
    end: &End,
    is_undone: bool,
    tape: Option<&mut Tape>,
) -> Result<Option<Hold>, Refusal> {
    let Work {
        platform,
        owner,
        live,
    } = work;
    let record = platform
        .0
        .records
        .read(owner, THREAD, &run.thread_id)
        .await?;
    let Some(record) = record else {
        // The thread was removed, and nobody else removes what is left of the run.
        let mut writes = remains(platform, owner, &run.run_id).await?;
        writes.push(delete(QUEUE, &run.run_id));
        platform.put(owner, writes).await?;
        return Ok(Some(Hold::Lost));
    };
    let mut thread: Thread = serde_json::from_str(&record.body)?;
    let place = thread.lane.iter().position(|one| one.run == run.run_id);
    let is_mine = |at: usize| {
        thread
            .lane
            .get(at)
            .is_some_and(|one| one.holder == live.holder)
    };
    let Some(place) = place.filter(|place| is_mine(*place)) else {
        return Ok(Some(Hold::Lost));
    };
    let interrupts = if end.interrupts.is_empty() {
        Map::new()
    } else {
        asked_by_task(platform, owner, run).await?
    };
    let result = result_of(end, &interrupts);
    thread.lane.remove(place);
    thread.updated_at = now();
    thread.status = match (&end.error, end.is_open) {
        _ if !thread.lane.is_empty() => "busy",
        (Some(_), _) => "error",
        (None, true) => "interrupted",
        (None, false) => "idle",
    }
    .to_owned();
    thread.error.clone_from(&end.error);
    if is_undone {
        thread.undone.push(run.run_id.clone());
        if platform.head(owner, &thread).await?.is_none() {
            // Nothing is left: the thread is empty again.
            clear(platform, owner, &run.thread_id).await?;
        }
    } else if let Some(values) = &end.values {
        thread.values = values.clone();
        thread.interrupts = Value::Object(interrupts);
    }
    let (id, thread_id) = (&run.run_id, &run.thread_id);
    let expect = Expect::Revision(record.revision);
    let mut writes = vec![
        put_write(THREAD, thread_id, &record.group, &thread, expect),
        delete(QUEUE, id),
    ];
    if is_undone || run.temporary {
        writes.push(delete(RUN, id));
    } else {
        let mut stored = run.clone();
        stored.status = end.status.to_owned();
        stored.updated_at = now();
        writes.push(put_write(RUN, id, thread_id, &stored, Expect::Anything));
    }
    if run.temporary {
        writes.push(delete(THREAD, thread_id));
    }
    if let Some(tape) = tape {
        writes.push(delete(STOP, id));
        let Some(ending) = tape.end(platform, owner, live, &result).await? else {
            return Ok(Some(Hold::Lost));
        };
        writes.extend(ending);
    }
    let owed = match is_undone || platform.0.webhooks.is_none() {
        true => Vec::new(),
        false => webhooks::owed(run, end),
    };
    let is_owed = !owed.is_empty();
    writes.extend(owed);
    *live.result.lock().unwrap_or_else(PoisonError::into_inner) = result;
    if !platform.put(owner, writes).await? {
        return Ok(None);
    }
    if is_owed {
        platform.0.webhooks_changed.notify_one();
    }
    // Not before: the checkpoints may be those of a process that has taken the run.
    if run.temporary
        && let Err(refusal) = clear(platform, owner, thread_id).await
    {
        tracing::warn!(?refusal, "the checkpoints of a run's own thread are left");
    }
    Ok(Some(Hold::Mine))
}

fn delete(kind: &'static str, id: &str) -> RecordWrite {
    let id = id.to_owned();
    RecordWrite::Delete { kind, id }
}

/// What a client that waits for the run gets.
fn result_of(end: &End, interrupts: &Map<String, Value>) -> Value {
    match (&end.error, &end.values) {
        (Some(error), _) => json!({ "__error__": error }),
        (None, Some(Value::Object(values))) => {
            let mut values = values.clone();
            if !end.interrupts.is_empty() {
                let lists = interrupts.values().filter_map(Value::as_array);
                let all_asked = lists.flatten().cloned().collect::<Value>();
                values.insert("__interrupt__".to_owned(), all_asked);
            }
            Value::Object(values)
        }
        (None, _) => Value::Null,
    }
}

/// Ends whatever lease a process that is gone has left on a thread.
pub(crate) async fn free(
    platform: &Platform,
    owner: &TenantId,
    thread: &str,
) -> Result<(), Refusal> {
    let key = Platform::key(owner, thread)?;
    let saver = &platform.0.saver;
    let lease = saver.acquire(&key, LEASE, Claim::TakeOver).await?;
    saver.release(&lease).await?;
    Ok(())
}

/// Removes the checkpoints of a thread.
pub(crate) async fn clear(
    platform: &Platform,
    owner: &TenantId,
    thread: &str,
) -> Result<(), Refusal> {
    let key = Platform::key(owner, thread)?;
    let saver = &platform.0.saver;
    let lease = saver.acquire(&key, LEASE, Claim::TakeOver).await?;
    let pruned = saver.prune(&lease, Keep::Nothing).await;
    saver.release(&lease).await?;
    pruned?;
    Ok(())
}
