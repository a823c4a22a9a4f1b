//! The execution of one run, from its turn to its stored end.
//!
//! Invariant: a run ends in one write that sets its status and takes it from the queue.
//! Deliberately absent: retries of a failed run; nodes have their own.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use lyceum_core::{Expect, RecordWrite, Scope, TenantId};
use lyceum_graph::{Claim, Interrupt, Keep, Namespace, RunError, Status};
use serde_json::{Map, Value, json};
use tracing::field::Empty;

use super::{
    begin::{begin, durability},
    erased::{Call, What, shown},
    lanes::{Live, Stop},
    platform::{Platform, put_write},
    refusal::Refusal,
    resources::{QUEUE, RUN, Run, THREAD, Thread, now},
    served::Raised,
    states::{OFFSET, Reader},
    teller::Teller,
    wire::Wire,
};

/// Steps after which a cycle is taken for endless, unless the client says otherwise.
const STEP_LIMIT: u64 = 100;
/// How long a thread of a dead process stays taken.
const LEASE: Duration = Duration::from_secs(30);

/// How a run ended.
struct End {
    status: &'static str,
    values: Option<Value>,
    interrupts: Vec<Interrupt>,
    /// Whether something is left to do on the thread.
    is_open: bool,
    error: Option<Value>,
}

impl End {
    fn stopped() -> Self {
        Self {
            status: "interrupted",
            values: None,
            interrupts: Vec::new(),
            is_open: false,
            error: None,
        }
    }

    fn failed(error: &str, message: &str) -> Self {
        Self {
            status: "error",
            error: Some(json!({ "error": error, "message": message })),
            ..Self::stopped()
        }
    }
}

/// The span of a run, by OpenTelemetry's conventions for generative AI.
pub(crate) fn span(run: &Run) -> tracing::Span {
    tracing::info_span!(
        parent: None,
        "run",
        otel.name = "invoke_workflow",
        otel.status_code = Empty,
        gen_ai.operation.name = "invoke_workflow",
        gen_ai.workflow.name = Empty,
        gen_ai.conversation.id = run.thread_id,
        run = run.run_id,
        status = Empty,
    )
}

/// Waits for the run's turn, runs it and stores its end.
pub(crate) async fn execute(
    platform: &Platform,
    owner: &TenantId,
    scope: &Scope,
    mut run: Run,
    live: &Arc<Live>,
    before: Vec<Arc<Live>>,
    again: bool,
) {
    let attempt = if again { 2 } else { 1 };
    let told = json!({ "run_id": run.run_id, "attempt": attempt });
    live.log.push("metadata".to_owned(), &told);
    let mut teller = Teller::new(platform, owner, &run);
    let turn = async {
        for other in before {
            other.log.ended().await;
        }
        let after = run.asked.get("after_seconds").and_then(Value::as_f64);
        if let Some(after) = after.and_then(|after| Duration::try_from_secs_f64(after).ok())
            && !again
        {
            tokio::time::sleep(after).await;
        }
        platform.0.slots.acquire().await
    };
    let turn = live.cancel.run_until_cancelled(turn).await;
    let end = match turn {
        None | Some(Err(_)) => End::stopped(),
        Some(Ok(_slot)) => {
            run.status = "running".to_owned();
            run.updated_at = now();
            let _stored = platform
                .change::<Run>(owner, RUN, &run.run_id, |stored| {
                    stored.status = "running".to_owned();
                })
                .await;
            let running = drive(platform, owner, scope, &run, live, (again, &mut teller));
            match AssertUnwindSafe(running).catch_unwind().await {
                Ok(Ok(end)) => end,
                Ok(Err(refusal)) => {
                    tracing::error!(?refusal, "a run failed inside");
                    End::failed("InternalError", "the server failed")
                }
                Err(_panic) => End::failed("InternalError", "the run panicked"),
            }
        }
    };
    let stopped = live.cancel.is_cancelled().then(|| live.how());
    if stopped == Some(Stop::Shutdown) {
        return;
    }
    let (status, is_open) = (end.status, end.is_open && stopped.is_none());
    let span = tracing::Span::current();
    span.record("status", status);
    if status == "error" {
        span.record("otel.status_code", "ERROR");
    }
    let error = end
        .error
        .as_ref()
        .and_then(|error| error.get("message")?.as_str());
    let error = error.map(str::to_owned);
    match finish(platform, owner, &run, end, stopped, live).await {
        Ok(()) => teller.end(status, is_open, error.as_deref()),
        // The queue's record is still there: the run is taken up after the next start.
        Err(refusal) => tracing::error!(?refusal, "the end of a run cannot be stored"),
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => {
            let many = many.iter().filter_map(Value::as_str);
            many.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// The name and the words under which clients see a failure.
fn failure(error: &RunError) -> Value {
    let (name, message) = match error {
        RunError::Node { source, .. } => {
            if let Some(raised) = source.get_ref().downcast_ref::<Raised>() {
                return raised.shown();
            }
            match source.get_ref().downcast_ref::<RunError>() {
                Some(inner) => return failure(inner),
                None => ("Error", source.to_string()),
            }
        }
        RunError::StepLimit { .. } => ("GraphRecursionError", error.to_string()),
        RunError::Refused { .. } | RunError::Conflict { .. } => {
            ("InvalidUpdateError", error.to_string())
        }
        error => ("Error", error.to_string()),
    };
    json!({ "error": name, "message": message })
}

async fn drive(
    platform: &Platform,
    owner: &TenantId,
    scope: &Scope,
    run: &Run,
    live: &Arc<Live>,
    (again, teller): (bool, &mut Teller),
) -> Result<End, Refusal> {
    let begun = begin(platform, owner, scope, run, again).await?;
    let asked = &run.asked;
    let config = asked.get("config");
    let limit = config.and_then(|config| config.get("recursion_limit")?.as_u64());
    let mut about = begun.metadata.clone();
    about.remove(OFFSET);
    about.extend(begun.configurable.clone());
    let mut wire = Wire::new(asked, &run.thread_id, Value::Object(about));
    let null = Value::Null;
    let input = asked.get("input").unwrap_or(&null);
    let name = begun.thread.graph().unwrap_or_default();
    let span = tracing::Span::current();
    span.record("gen_ai.workflow.name", name);
    span.record("otel.name", format!("invoke_workflow {name}"));
    teller.begin(begun.thread.graph().unwrap_or_default(), &begun.fields);
    wire.begin(&live.log, begun.before.clone(), &begun.fields, input);
    let _stored = platform
        .change::<Thread>(owner, THREAD, &run.thread_id, |thread| {
            thread.config.clone_from(&begun.thread.config);
        })
        .await?;
    let mut said = begun.graph.run(Call {
        saver: platform.0.saver.clone(),
        thread: Platform::key(owner, &run.thread_id)?,
        at: begun.at,
        start: begun.start,
        before: texts(asked.get("interrupt_before")),
        after: texts(asked.get("interrupt_after")),
        step_limit: limit.unwrap_or(STEP_LIMIT),
        durability: durability(asked),
        metadata: begun.metadata,
        cancel: live.cancel.clone(),
        invocation: begun.invocation,
    });
    let mut last = None;
    while let Some(event) = said.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                return Ok(End {
                    values: last,
                    status: "error",
                    error: Some(failure(&error)),
                    ..End::stopped()
                });
            }
        };
        wire.tell(&live.log, &event);
        teller.say(&event);
        match event.what {
            What::Finished {
                status,
                values,
                interrupts,
            } => {
                if status == Status::Paused {
                    wire.paused(&live.log);
                }
                return Ok(End {
                    status: if status == Status::Done {
                        "success"
                    } else {
                        "interrupted"
                    },
                    values: Some(wire.shown(values)),
                    interrupts,
                    is_open: matches!(status, Status::Paused | Status::Interrupted),
                    error: None,
                });
            }
            What::Values(values) if event.namespace.is_empty() => {
                last = Some(wire.shown(values));
            }
            _ => {}
        }
    }
    Ok(End::failed("Error", "the run ended without a result"))
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

async fn finish(
    platform: &Platform,
    owner: &TenantId,
    run: &Run,
    mut end: End,
    stopped: Option<Stop>,
    live: &Arc<Live>,
) -> Result<(), Refusal> {
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
    let interrupts = if end.interrupts.is_empty() {
        Map::new()
    } else {
        asked_by_task(platform, owner, run).await?
    };
    let all_asked = || {
        let lists = interrupts.values().filter_map(Value::as_array);
        lists.flatten().cloned().collect::<Value>()
    };
    *live.result.lock().unwrap_or_else(PoisonError::into_inner) = match (&end.error, &end.values) {
        (Some(error), _) => json!({ "__error__": error }),
        (None, Some(Value::Object(values))) => {
            let mut values = values.clone();
            if !end.interrupts.is_empty() {
                values.insert("__interrupt__".to_owned(), all_asked());
            }
            Value::Object(values)
        }
        (None, _) => Value::Null,
    };
    let is_undone = stopped == Some(Stop::Rollback) && end.status != "success";
    let thread = platform
        .change::<Thread>(owner, THREAD, &run.thread_id, |thread| {
            thread.updated_at = now();
            thread.status = match (&end.error, end.is_open) {
                _ if platform.has_more(owner, &run.thread_id) => "busy",
                (Some(_), _) => "error",
                (None, true) => "interrupted",
                (None, false) => "idle",
            }
            .to_owned();
            thread.error.clone_from(&end.error);
            if is_undone {
                thread.undone.push(run.run_id.clone());
            } else if let Some(values) = &end.values {
                thread.values = values.clone();
                thread.interrupts = Value::Object(interrupts.clone());
            }
        })
        .await?;
    if let Some(thread) = thread.filter(|_| is_undone)
        && platform.head(owner, &thread).await?.is_none()
    {
        // Nothing is left: the thread is empty again.
        clear(platform, owner, &run.thread_id).await?;
    }
    let mut stored = run.clone();
    stored.status = end.status.to_owned();
    stored.updated_at = now();
    let mut writes = vec![RecordWrite::Delete {
        kind: QUEUE,
        id: run.run_id.clone(),
    }];
    if is_undone || run.temporary {
        writes.push(RecordWrite::Delete {
            kind: RUN,
            id: run.run_id.clone(),
        });
    } else {
        let (id, group) = (&run.run_id, &run.thread_id);
        writes.push(put_write(RUN, id, group, &stored, Expect::Anything));
    }
    if run.temporary {
        clear(platform, owner, &run.thread_id).await?;
        writes.push(RecordWrite::Delete {
            kind: THREAD,
            id: run.thread_id.clone(),
        });
    }
    platform.put(owner, writes).await?;
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
    saver.prune(&lease, Keep::Nothing).await?;
    saver.release(&lease).await?;
    Ok(())
}
