//! The execution of one run, from its turn to its stored end.
//!
//! Invariant: a run ends in one write that sets its status and takes it from the queue.
//! Deliberately absent: retries of a failed run; nodes have their own.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use lyceum_core::{Expect, RecordWrite, Scope, TenantId};
use lyceum_graph::{Answers, Claim, Interrupt, Keep, RunError, Status};
use serde_json::{Map, Value, json};

use super::{
    lanes::{Live, Stop},
    platform::{Platform, put_write},
    refusal::Refusal,
    resources::{QUEUE, RUN, Run, THREAD, Thread, now, parse_checkpoint},
    served::{Call, Failed, Invocation, Start, What, shown},
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
            let running = drive(platform, owner, scope, &run, live, again);
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
    if stopped != Some(Stop::Shutdown)
        && let Err(refusal) = finish(platform, owner, &run, end, stopped, live).await
    {
        // The queue's record is still there: the run is taken up after the next start.
        tracing::error!(?refusal, "the end of a run cannot be stored");
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

/// Fields of a configuration, the assistant's below the run's.
fn merged(of: &[&Value], name: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for config in of {
        if let Some(Value::Object(fields)) = config.get(name) {
            all.extend(fields.clone());
        }
    }
    all
}

async fn drive(
    platform: &Platform,
    owner: &TenantId,
    scope: &Scope,
    run: &Run,
    live: &Arc<Live>,
    again: bool,
) -> Result<End, Refusal> {
    let asked = &run.asked;
    let assistant = platform.assistant(owner, &run.assistant_id).await?;
    let assistant = assistant
        .current()
        .cloned()
        .ok_or_else(|| Refusal::not_found("Assistant"))?;
    let served = platform.graph(&assistant.graph_id)?;
    let thread = platform.thread(owner, &run.thread_id).await?;
    let key = Platform::key(owner, &run.thread_id)?;
    let saver = platform.0.saver.clone();
    let null = Value::Null;
    let config = asked.get("config").unwrap_or(&null);
    let mut configurable = merged(&[&assistant.config, config], "configurable");
    for context in [&assistant.context, asked.get("context").unwrap_or(&null)] {
        configurable.extend(context.as_object().cloned().unwrap_or_default());
    }
    let mut metadata = run.metadata.clone();
    for (name, value) in [
        ("run_id", &run.run_id),
        ("thread_id", &run.thread_id),
        ("assistant_id", &run.assistant_id),
        ("graph_id", &assistant.graph_id),
    ] {
        metadata.insert(name.to_owned(), value.as_str().into());
    }
    let head = platform.head(owner, &thread).await?;
    let mut at = head.and_then(|(id, is_newest)| (!is_newest).then_some(id));
    let from = asked
        .get("checkpoint_id")
        .or_else(|| asked.get("checkpoint")?.get("checkpoint_id"))
        .or_else(|| config.get("configurable")?.get("checkpoint_id"));
    if let Some(from) = from.and_then(Value::as_str).and_then(parse_checkpoint) {
        at = Some(from);
    }
    let command = asked.get("command").filter(|command| !command.is_null());
    let newest = platform.0.saver.history(&key, "", None, 1).await?;
    let is_mine = |run_id: &Value| run_id.as_str() == Some(run.run_id.as_str());
    let was_begun = newest
        .first()
        .is_some_and(|head| head.metadata.get("run_id").is_some_and(is_mine));
    let start = if again && was_begun {
        Start::Resume(Answers::None)
    } else if let Some(command) = command {
        if let Some(update) = command.get("update").filter(|update| !update.is_null()) {
            let graph = &served.graph;
            let (saver, key) = (saver.clone(), key.clone());
            graph
                .update(saver, key, at, update.clone(), None, metadata.clone())
                .await?;
            at = None;
        }
        let view = served.graph.view(saver.clone(), key.clone(), at).await?;
        let pending = view.map(|view| view.interrupts).unwrap_or_default();
        Start::Resume(answers(command.get("resume"), &pending))
    } else {
        match asked.get("input") {
            None | Some(Value::Null) if !newest.is_empty() => Start::Resume(Answers::None),
            None | Some(Value::Null) => Start::Input(json!({})),
            Some(input) => Start::Input(input.clone()),
        }
    };
    let limit = config.get("recursion_limit").and_then(Value::as_u64);
    let mut about = metadata.clone();
    about.extend(configurable.clone());
    let mut wire = Wire::new(asked, Value::Object(about));
    let mut said = served.graph.run(Call {
        saver,
        thread: key,
        at,
        start,
        before: texts(asked.get("interrupt_before")),
        after: texts(asked.get("interrupt_after")),
        step_limit: limit.unwrap_or(STEP_LIMIT),
        metadata,
        cancel: live.cancel.clone(),
        invocation: Invocation {
            scope: scope.clone(),
            thread_id: run.thread_id.clone(),
            configurable: Value::Object(configurable),
        },
    });
    let mut last = None;
    while let Some(event) = said.next().await {
        match event {
            Ok(event) => match event.what {
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
                        values: Some(values),
                        interrupts,
                        is_open: matches!(status, Status::Paused | Status::Interrupted),
                        error: None,
                    });
                }
                what => {
                    if let What::Values(values) = &what
                        && event.namespace.is_empty()
                    {
                        last = Some(values.clone());
                    }
                    let event = super::served::Said { what, ..event };
                    wire.tell(&live.log, event);
                }
            },
            Err(failed) => {
                let name = match &failed {
                    Failed::Run(RunError::StepLimit { .. }) => "GraphRecursionError",
                    Failed::Input(_) => "InvalidUpdateError",
                    Failed::Run(_) => "Error",
                };
                return Ok(End {
                    values: last,
                    ..End::failed(name, &failed.to_string())
                });
            }
        }
    }
    Ok(End::failed("Error", "the run ended without a result"))
}

fn answers(resume: Option<&Value>, pending: &[Interrupt]) -> Answers {
    let Some(resume) = resume.filter(|_| !pending.is_empty()) else {
        return Answers::None;
    };
    let by_id = resume.as_object().filter(|answers| {
        !answers.is_empty()
            && answers
                .keys()
                .all(|id| pending.iter().any(|one| one.id == *id))
    });
    match by_id {
        Some(answers) => Answers::ById(answers.clone().into_iter().collect::<BTreeMap<_, _>>()),
        None => Answers::Only(resume.clone()),
    }
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
    *live.result.lock().unwrap_or_else(PoisonError::into_inner) = match (&end.error, &end.values) {
        (Some(error), _) => json!({ "__error__": error }),
        (None, Some(Value::Object(values))) => {
            let mut values = values.clone();
            if !end.interrupts.is_empty() {
                values.insert("__interrupt__".to_owned(), shown(&end.interrupts));
            }
            Value::Object(values)
        }
        (None, _) => Value::Null,
    };
    let is_undone = stopped == Some(Stop::Rollback) && end.status != "success";
    let mut interrupts: BTreeMap<String, Vec<Interrupt>> = BTreeMap::new();
    for one in &end.interrupts {
        let task = one.id.split(':').next().unwrap_or_default().to_owned();
        interrupts.entry(task).or_default().push(one.clone());
    }
    let interrupts: Map<String, Value> = interrupts
        .into_iter()
        .map(|(task, asked)| (task, shown(&asked)))
        .collect();
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
