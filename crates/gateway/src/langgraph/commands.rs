//! Version 3 of the API: one thread, its commands and its stream of events.
//!
//! Invariant: a command answers with its id, also when it is refused. Deliberately absent:
//! injecting a message into a run that goes on.

use std::sync::atomic::Ordering;

use axum::{Json, extract::Path, response::IntoResponse};
use bytes::Bytes;
use http::StatusCode;
use lyceum_graph::Namespace;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    chronicle::{CHANNELS, Filter},
    refusal::{Answer, Refusal},
    request::{Asked, uuid},
    runs::submit_body,
    states::Reader,
};
use crate::{error::ApiError, streams::RETRY};

/// The most channels or namespaces that one subscription names.
const NAMED: usize = 64;

/// Why a command is refused: a code, and words for a person.
#[derive(Debug)]
pub(crate) struct No(&'static str, String);

impl No {
    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self("invalid_argument", text.into())
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Say(StatusCode::NOT_FOUND, text) => Self("no_such_run", text),
            Refusal::Say(_, text) => Self("invalid_argument", text),
            Refusal::Api(error) => Self("unknown_error", error.to_string()),
        }
    }
}

/// What is answered to a command.
pub(crate) fn answered(id: &Value, result: Result<(Value, Option<u64>), No>) -> Value {
    match result {
        Ok((result, through)) => {
            let mut answer = json!({ "type": "success", "id": id, "result": result });
            if let Some(through) = through {
                answer["meta"] = json!({ "applied_through_seq": through });
            }
            answer
        }
        Err(No(code, message)) => {
            json!({ "type": "error", "id": id, "error": code, "message": message })
        }
    }
}

pub(crate) async fn commands(Path(thread): Path<String>, asked: Asked) -> Answer {
    let thread = uuid(&thread)?;
    let id = asked.value("id").cloned().unwrap_or_default();
    let method = asked.text("method").unwrap_or_default().to_owned();
    let params = asked.object("params");
    let result = command(&asked, &thread, &method, &params).await;
    let answer = answered(&id, result);
    Ok(Json(answer).into_response())
}

/// Does what a command says.
pub(crate) async fn command(
    asked: &Asked,
    thread: &str,
    method: &str,
    params: &Map<String, Value>,
) -> Result<(Value, Option<u64>), No> {
    let begins = matches!(method, "run.start" | "input.respond" | "state.fork");
    if begins && asked.app.maintenance.load(Ordering::Relaxed) {
        return Err(No("unavailable", ApiError::Maintenance.to_string()));
    }
    match method {
        "run.start" => start(asked, thread, params).await,
        "input.respond" => respond(asked, thread, params).await,
        "state.get" => state(asked, thread, params).await,
        "state.listCheckpoints" => checkpoints(asked, thread, params).await,
        "state.fork" => fork(asked, thread, params).await,
        "agent.getTree" => tree(asked, thread).await,
        "input.inject"
        | "subscription.reconnect"
        | "subscription.subscribe"
        | "subscription.unsubscribe" => {
            let text = format!("{method} is not supported here");
            Err(No("not_supported", text))
        }
        method => Err(No("unknown_command", format!("no command {method:?}"))),
    }
}

fn text<'a>(params: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    params.get(name)?.as_str()
}

/// Starts a run with what the parameters say beside.
async fn run(
    asked: &Asked,
    thread: &str,
    params: &Map<String, Value>,
    more: Value,
) -> Result<(Value, Option<u64>), No> {
    let owner = asked.owner();
    let kept = asked.platform.thread(owner, thread).await.ok();
    let known = kept
        .as_ref()
        .and_then(|kept| kept.metadata.get("assistant_id"));
    let assistant = text(params, "assistant_id").or(known.and_then(Value::as_str));
    let assistant = assistant.ok_or_else(|| No::argument("assistant_id is missing"))?;
    let mut body = json!({ "assistant_id": assistant, "if_not_exists": "create" });
    for name in [
        "config",
        "context",
        "metadata",
        "multitask_strategy",
        "interrupt_before",
        "interrupt_after",
        "durability",
        "webhook",
    ] {
        if let Some(value) = params.get(name) {
            body[name] = value.clone();
        }
    }
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    // Nobody reads the run's own stream.
    body["stream_mode"] = json!([]);
    let chronicle = asked.platform.chronicle(owner, thread);
    let through = chronicle.run_begins();
    let (run, _live) = submit_body(asked, Some(thread), body).await?;
    // Numbers of this process mean nothing to a reader at another one.
    let through = (!asked.platform.0.bell.is_shared()).then_some(through);
    Ok((json!({ "run_id": run.run_id }), through))
}

/// Whether the thread waits for an answer, and for which.
async fn pending(asked: &Asked, thread: &str) -> Result<Vec<String>, No> {
    let owner = asked.owner();
    let Ok(kept) = asked.platform.thread(owner, thread).await else {
        return Ok(Vec::new());
    };
    let Some(reader) = Reader::open(&asked.platform, owner, &kept)? else {
        return Ok(Vec::new());
    };
    let found = reader.snapshot(&Namespace::default(), None).await?;
    let pending = found.map(|found| found.interrupts).unwrap_or_default();
    Ok(pending.into_iter().map(|one| one.id).collect())
}

async fn start(
    asked: &Asked,
    thread: &str,
    params: &Map<String, Value>,
) -> Result<(Value, Option<u64>), No> {
    let input = params.get("input").cloned().unwrap_or_default();
    let kept = asked.platform.thread(asked.owner(), thread).await;
    let is_busy = kept.is_ok_and(|kept| !kept.lane.is_empty());
    let is_asking = !is_busy && !input.is_null() && pending(asked, thread).await?.len() == 1;
    let more = if is_asking {
        // What is said to a thread that asks is the answer.
        json!({ "command": { "resume": input } })
    } else {
        json!({ "input": input })
    };
    run(asked, thread, params, more).await
}

async fn respond(
    asked: &Asked,
    thread: &str,
    params: &Map<String, Value>,
) -> Result<(Value, Option<u64>), No> {
    let pending = pending(asked, thread).await?;
    let one = Value::Object(params.clone());
    let many = params.get("responses").and_then(Value::as_array);
    let responses = many.map_or_else(|| vec![one], Clone::clone);
    let mut resume = Map::new();
    for response in &responses {
        let id = response.get("interrupt_id").and_then(Value::as_str);
        let id = id.ok_or_else(|| No::argument("interrupt_id is missing"))?;
        if !pending.iter().any(|pending| pending == id) {
            let text = format!("no question {id:?} is open");
            return Err(No("no_such_interrupt", text));
        }
        let answer = response.get("response").cloned().unwrap_or_default();
        resume.insert(id.to_owned(), answer);
    }
    let mut command = json!({ "resume": resume });
    for name in ["update", "goto"] {
        if let Some(value) = params.get(name) {
            command[name] = value.clone();
        }
    }
    run(asked, thread, params, json!({ "command": command })).await
}

async fn reader(asked: &Asked, thread: &str) -> Result<Reader, No> {
    let kept = asked.platform.thread(asked.owner(), thread).await?;
    let reader = Reader::open(&asked.platform, asked.owner(), &kept)?;
    reader.ok_or_else(|| No("no_such_run", "nothing has run on the thread".to_owned()))
}

fn namespace(params: &Map<String, Value>) -> Result<Namespace, No> {
    let scopes = params.get("namespace").and_then(Value::as_array);
    let scopes = scopes.into_iter().flatten().filter_map(Value::as_str);
    let path = scopes.collect::<Vec<_>>().join("|");
    super::states::namespace(&path)
        .map_err(|_| No("no_such_namespace", format!("no subgraph {path:?}")))
}

async fn state(
    asked: &Asked,
    thread: &str,
    params: &Map<String, Value>,
) -> Result<(Value, Option<u64>), No> {
    let reader = reader(asked, thread).await?;
    let found = reader.state(&namespace(params)?, None, false).await?;
    let found = found.ok_or_else(|| No("no_such_namespace", "nothing is there".to_owned()))?;
    let mut values = found["values"].clone();
    if let (Some(keys), Some(fields)) = (
        params.get("keys").and_then(Value::as_array),
        values.as_object_mut(),
    ) {
        fields.retain(|name, _| keys.iter().any(|key| key == name));
    }
    let id = found["checkpoint"]["checkpoint_id"].clone();
    Ok((
        json!({ "values": values, "checkpoint": { "id": id } }),
        None,
    ))
}

async fn checkpoints(
    asked: &Asked,
    thread: &str,
    params: &Map<String, Value>,
) -> Result<(Value, Option<u64>), No> {
    let reader = reader(asked, thread).await?;
    let limit = params.get("limit").and_then(Value::as_u64).unwrap_or(10);
    let limit = usize::try_from(limit).unwrap_or(NAMED).min(1_000);
    let before = text(params, "before").and_then(super::states::parse);
    let found = reader
        .history(&namespace(params)?, before, limit, &Map::new())
        .await?;
    let shown = found.iter().map(|state| {
        json!({
            "id": state["checkpoint"]["checkpoint_id"], "timestamp": state["created_at"],
            "step": state["metadata"]["step"], "metadata": state["metadata"],
        })
    });
    Ok((json!({ "checkpoints": shown.collect::<Value>() }), None))
}

async fn fork(
    asked: &Asked,
    thread: &str,
    params: &Map<String, Value>,
) -> Result<(Value, Option<u64>), No> {
    let id = text(params, "checkpoint_id");
    let id = id.ok_or_else(|| No::argument("checkpoint_id is missing"))?;
    let at = super::states::parse(id);
    let there = reader(asked, thread).await?;
    let found = match at {
        Some(at) => there.snapshot(&Namespace::default(), Some(at)).await?,
        None => None,
    };
    if found.is_none() {
        return Err(No("no_such_checkpoint", format!("no checkpoint {id:?}")));
    }
    let input = params.get("input").cloned().unwrap_or_default();
    let more = json!({ "checkpoint_id": id, "input": input });
    let (mut result, through) = run(asked, thread, params, more).await?;
    result["thread_id"] = thread.into();
    Ok((result, through))
}

async fn tree(asked: &Asked, thread: &str) -> Result<(Value, Option<u64>), No> {
    let kept = asked.platform.thread(asked.owner(), thread).await?;
    let status = match kept.status.as_str() {
        "busy" => "running",
        "interrupted" => "interrupted",
        "error" => "failed",
        _ => "completed",
    };
    let tree = json!({
        "namespace": [], "status": status, "graph_name": kept.graph().unwrap_or_default(),
    });
    Ok((json!({ "tree": tree }), None))
}

/// What a subscription asks for.
pub(crate) fn subscription(params: &Map<String, Value>) -> Result<(Filter, Option<u64>), No> {
    let channels = params.get("channels").and_then(Value::as_array);
    let channels: Vec<String> = channels
        .into_iter()
        .flatten()
        .filter_map(|channel| channel.as_str().map(str::to_owned))
        .collect();
    let is_known = |channel: &String| {
        CHANNELS.contains(&channel.as_str())
            || channel
                .strip_prefix("custom:")
                .is_some_and(|name| !name.is_empty())
    };
    if channels.is_empty() || channels.len() > NAMED || !channels.iter().all(is_known) {
        return Err(No::argument(format!(
            "channels must be 1 to {NAMED} of {}, or custom:NAME",
            CHANNELS.join(", ")
        )));
    }
    let namespaces = match params.get("namespaces").and_then(Value::as_array) {
        Some(all) if all.len() <= NAMED => {
            let paths = all.iter().map(|path| {
                let scopes = path.as_array().into_iter().flatten();
                let scopes = scopes.filter_map(|scope| scope.as_str().map(str::to_owned));
                scopes.collect()
            });
            Some(paths.collect())
        }
        Some(_) => return Err(No::argument(format!("at most {NAMED} namespaces"))),
        None => None,
    };
    let depth = params.get("depth").and_then(Value::as_u64);
    let filter = Filter {
        channels,
        namespaces,
        depth: depth.map(|depth| usize::try_from(depth).unwrap_or(usize::MAX)),
    };
    Ok((filter, params.get("since").and_then(Value::as_u64)))
}

/// The thread's events as server-sent events, over all its runs, until the client leaves.
pub(crate) async fn events(Path(thread): Path<String>, asked: Asked) -> Answer {
    let thread = uuid(&thread)?;
    asked.platform.thread(asked.owner(), &thread).await?;
    let (filter, since) =
        subscription(&asked.body).map_err(|No(_, text)| Refusal::invalid(text))?;
    let last = asked.last_event.as_deref();
    let since = since.or(last.and_then(|id| id.parse().ok()));
    let chronicle = asked.platform.chronicle(asked.owner(), &thread);
    let mut reading = chronicle.read(filter, since);
    let open = asked.app.streams.open(asked.asker)?;
    let (beat, closing) = (asked.app.heartbeat(), asked.app.closing.clone());
    let stream = async_stream::stream! {
        yield Bytes::from_static(b": open\n\n");
        let mut beat_at = Instant::now() + beat;
        loop {
            let told = tokio::select! {
                biased;
                () = closing.cancelled() => {
                    yield Bytes::from_static(RETRY);
                    break;
                }
                told = reading.next() => told,
                () = sleep_until(beat_at) => {
                    beat_at += beat;
                    yield Bytes::from_static(b": heartbeat\n\n");
                    continue;
                }
            };
            let Some((seq, method, text)) = told else { break };
            beat_at = Instant::now() + beat;
            yield Bytes::from(format!("id: {seq}\nevent: {method}\ndata: {text}\n\n"));
        }
    };
    Ok(crate::streams::answer(open, stream))
}
