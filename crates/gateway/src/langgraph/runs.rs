//! The runs' endpoints.
//!
//! Invariant: the answer's headers are sent at once; a client that waits hears a line break
//! every second. Deliberately absent: what a run may be asked, and who else hears of its end.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    body::Body,
    extract::Path,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use lyceum_core::{Expect, RecordWrite, Scope, TenantId};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    board::{Live, Stop},
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    request::{Asked, uuid},
    resources::{RUN, Run, THREAD, Thread, WEBHOOK, WEBHOOK_BODY, now},
    tape,
};
use crate::streams::{OpenStream, RETRY};

/// How often a waiting client hears that the server is there.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// In whose name a run is made, and with what.
pub(crate) struct Who<'a> {
    pub(crate) platform: &'a Platform,
    pub(crate) owner: &'a TenantId,
    pub(crate) scope: &'a Scope,
    pub(crate) headers: &'a Map<String, Value>,
    /// The id of the run, where it was given before.
    pub(crate) run_id: Option<String>,
    /// What is to be written with the run, or neither.
    pub(crate) also: Vec<RecordWrite>,
}

/// Stores and starts a run of the request.
async fn submit_asked(asked: &Asked, thread: Option<&str>) -> Answer<(Run, Arc<Live>)> {
    submit_body(asked, thread, Value::Object(asked.body.clone())).await
}

pub(crate) async fn submit_body(
    asked: &Asked,
    thread: Option<&str>,
    body: Value,
) -> Answer<(Run, Arc<Live>)> {
    let who = Who {
        platform: &asked.platform,
        owner: asked.owner(),
        scope: asked.scope(),
        headers: &asked.headers,
        run_id: None,
        also: Vec::new(),
    };
    submit(&who, thread, body).await
}

/// Stores and starts a run; without a thread, on one of its own.
pub(crate) async fn submit(
    who: &Who<'_>,
    thread: Option<&str>,
    body: Value,
) -> Answer<(Run, Arc<Live>)> {
    let (platform, owner) = (who.platform, who.owner);
    platform.check_run(&body)?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let wanted = text("assistant_id").unwrap_or_default();
    let assistant = platform.assistant(owner, wanted).await.map_err(|refusal| match refusal {
        Refusal::Say(StatusCode::NOT_FOUND, _) => Refusal::Say(
            StatusCode::NOT_FOUND,
            format!("No assistant found for {wanted:?}. Make sure the assistant ID is for a valid assistant or a valid graph ID."),
        ),
        other => other,
    })?;
    let current = assistant.current();
    let current = current.ok_or_else(|| Refusal::not_found("Assistant"))?;
    let strategy = text("multitask_strategy").unwrap_or("enqueue").to_owned();
    let mut is_temporary = false;
    let mut new = None;
    let thread_id = match thread {
        Some(id) => {
            let id = uuid(id)?;
            match platform.thread(owner, &id).await {
                Ok(_) => {}
                Err(Refusal::Say(StatusCode::NOT_FOUND, _))
                    if text("if_not_exists") == Some("create") =>
                {
                    make_thread(who, &id).await?;
                }
                Err(refusal) => return Err(refusal),
            }
            id
        }
        None => {
            is_temporary = text("on_completion") != Some("keep");
            let id = Uuid::now_v7().to_string();
            new = Some(Thread::new(id.clone(), serde_json::Map::new()));
            id
        }
    };
    let created_at = now();
    let metadata = body.get("metadata").and_then(Value::as_object);
    let run = Run {
        run_id: who
            .run_id
            .clone()
            .unwrap_or_else(|| Uuid::now_v7().to_string()),
        thread_id,
        assistant_id: current.assistant_id.clone(),
        updated_at: created_at.clone(),
        created_at,
        status: "pending".to_owned(),
        metadata: metadata.cloned().unwrap_or_default(),
        multitask_strategy: strategy,
        asked: body,
        tenant: who.scope.tenant.to_string(),
        user: who.scope.user.to_string(),
        headers: who.headers.clone(),
        temporary: is_temporary,
    };
    let live = platform
        .submit(owner, run.clone(), new, who.also.clone())
        .await?;
    Ok((run, live))
}

async fn make_thread(who: &Who<'_>, id: &str) -> Answer<()> {
    let thread = Thread::new(id.to_owned(), serde_json::Map::new());
    let write = put_write(THREAD, id, "", &thread, Expect::Absent);
    who.platform.put(who.owner, vec![write]).await?;
    Ok(())
}

fn located(mut response: Response, run: &Run, thread: Option<&str>) -> Response {
    let id = &run.run_id;
    let place = match thread {
        Some(thread) => format!("/threads/{thread}/runs/{id}"),
        None => format!("/runs/{id}"),
    };
    let stream = format!("/threads/{}/runs/{id}/stream", run.thread_id);
    for (name, place) in [
        (header::CONTENT_LOCATION, place),
        (header::LOCATION, stream),
    ] {
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(name, place);
        }
    }
    response
}

/// Cancels a run when its reader leaves, if that was asked for.
struct Leash(Option<Arc<Live>>);

impl Leash {
    fn new(live: &Arc<Live>, is_tied: bool) -> Self {
        Self(is_tied.then(|| live.clone()))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(live) = &self.0 {
            live.stop(Stop::Interrupt);
        }
    }
}

/// The events of a run from one on, until its end.
fn events(
    asked: &Asked,
    open: OpenStream,
    live: Arc<Live>,
    mut from: u64,
    is_tied: bool,
) -> Response {
    let (beat, closing) = (asked.app.heartbeat(), asked.app.closing.clone());
    let stream = async_stream::stream! {
        let mut leash = Leash::new(&live, is_tied);
        let mut beat_at = Instant::now() + beat;
        loop {
            let entry = tokio::select! {
                biased;
                () = closing.cancelled() => {
                    yield Bytes::from_static(RETRY);
                    break;
                }
                entry = live.log.at(from) => entry,
                () = sleep_until(beat_at) => {
                    beat_at += beat;
                    yield Bytes::from_static(b": heartbeat\n\n");
                    continue;
                }
            };
            let Some(entry) = entry else { break };
            from = entry.id + 1;
            beat_at = Instant::now() + beat;
            let (id, event, data) = (entry.id, entry.event, entry.data);
            yield Bytes::from(format!("id: {id}\nevent: {event}\ndata: {data}\n\n"));
        }
        leash.0 = None;
    };
    crate::streams::answer(open, stream)
}

/// The result of a run, once there is one.
fn result(live: Arc<Live>, is_tied: bool) -> Response {
    let stream = async_stream::stream! {
        let mut leash = Leash::new(&live, is_tied);
        let ended = live.log.ended();
        tokio::pin!(ended);
        while tokio::time::timeout(KEEP_ALIVE, &mut ended).await.is_err() {
            yield Ok::<_, std::convert::Infallible>(Bytes::from_static(b"\n"));
        }
        leash.0 = None;
        let text = {
            let value = live.result.lock().unwrap_or_else(PoisonError::into_inner);
            value.to_string()
        };
        yield Ok(Bytes::from(text));
    };
    let mut response = Response::new(Body::from_stream(stream));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn is_tied(asked: &Asked, otherwise: bool) -> bool {
    asked
        .text("on_disconnect")
        .map_or(otherwise, |what| what == "cancel")
}

pub(crate) async fn create(Path(id): Path<String>, asked: Asked) -> Answer {
    let (run, _live) = submit_asked(&asked, Some(&id)).await?;
    Ok(located(Json(run.shown()).into_response(), &run, Some(&id)))
}

pub(crate) async fn stream(Path(id): Path<String>, asked: Asked) -> Answer {
    let open = asked.app.streams.open(asked.asker)?;
    let (run, live) = submit_asked(&asked, Some(&id)).await?;
    let response = events(&asked, open, live, 0, is_tied(&asked, false));
    Ok(located(response, &run, Some(&id)))
}

pub(crate) async fn wait(Path(id): Path<String>, asked: Asked) -> Answer {
    let (run, live) = submit_asked(&asked, Some(&id)).await?;
    let response = result(live, is_tied(&asked, false));
    Ok(located(response, &run, Some(&id)))
}

pub(crate) async fn create_alone(asked: Asked) -> Answer {
    let (run, _live) = submit_asked(&asked, None).await?;
    Ok(located(Json(run.shown()).into_response(), &run, None))
}

pub(crate) async fn stream_alone(asked: Asked) -> Answer {
    let open = asked.app.streams.open(asked.asker)?;
    let (run, live) = submit_asked(&asked, None).await?;
    let response = events(&asked, open, live, 0, is_tied(&asked, false));
    Ok(located(response, &run, None))
}

pub(crate) async fn wait_alone(asked: Asked) -> Answer {
    let (run, live) = submit_asked(&asked, None).await?;
    Ok(located(result(live, is_tied(&asked, false)), &run, None))
}

pub(crate) async fn batch(asked: Asked) -> Answer<Json<Vec<Value>>> {
    asked.at_most(asked.list.len())?;
    let mut runs = Vec::new();
    for body in &asked.list {
        let (run, _live) = submit_body(&asked, None, body.clone()).await?;
        runs.push(run.shown());
    }
    Ok(Json(runs))
}

pub(crate) async fn list(Path(id): Path<String>, asked: Asked) -> Answer<Json<Vec<Value>>> {
    asked.platform.thread(asked.owner(), &id).await?;
    let runs = asked
        .platform
        .all::<Run>(asked.owner(), RUN, Some(&id))
        .await?;
    let status = asked.text("status");
    let runs = runs
        .iter()
        .filter(|run| status.is_none_or(|status| status == run.status));
    Ok(Json(asked.select(asked.page(runs.map(Run::shown))?)))
}

pub(crate) async fn get(
    Path((id, run)): Path<(String, String)>,
    asked: Asked,
) -> Answer<Json<Value>> {
    let run = asked.platform.run(asked.owner(), &id, &run).await?;
    Ok(Json(run.shown()))
}

pub(crate) async fn delete(Path((id, run)): Path<(String, String)>, asked: Asked) -> Answer {
    let run = asked.platform.run(asked.owner(), &id, &run).await?;
    if !run.is_over() {
        return Err(Refusal::conflict("Run is not over: cancel it first"));
    }
    let owner = asked.owner();
    let mut writes = tape::removal(&asked.platform, owner, &run.run_id).await?;
    writes.extend(
        [RUN, WEBHOOK, WEBHOOK_BODY].map(|kind| RecordWrite::Delete {
            kind,
            id: run.run_id.clone(),
        }),
    );
    asked.platform.put(owner, writes).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn join(Path((id, run)): Path<(String, String)>, asked: Asked) -> Answer {
    let owner = asked.owner();
    if let Some(live) = live_of(&asked, &id, &run).await? {
        return Ok(result(live, is_tied(&asked, false)));
    }
    let thread = asked.platform.thread(owner, &id).await?;
    let run = asked.platform.run(owner, &id, &run).await?;
    let failed = thread.error.filter(|_| run.status == "error");
    Ok(match failed {
        Some(error) => Json(json!({ "__error__": error })).into_response(),
        None => Json(thread.values).into_response(),
    })
}

/// A run of this owner's thread that waits, is executed, or ended a while ago.
async fn live_of(asked: &Asked, thread: &str, run: &str) -> Answer<Option<Arc<Live>>> {
    let (platform, owner) = (&asked.platform, asked.owner());
    let live = platform.find(owner, Some(thread), run).await?;
    match platform.run(owner, thread, run).await {
        Ok(_) => Ok(live),
        // A run on a thread of its own leaves no record, but its events for a while.
        Err(_) if live.is_some() => Ok(live),
        Err(refusal) => Err(refusal),
    }
}

pub(crate) async fn join_stream(Path((id, run)): Path<(String, String)>, asked: Asked) -> Answer {
    let live = live_of(&asked, &id, &run).await?;
    follow_on(&asked, live)
}

/// The same of a run on a thread of its own.
pub(crate) async fn join_stream_alone(Path(run): Path<String>, asked: Asked) -> Answer {
    let live = asked.platform.find(asked.owner(), None, &run).await?;
    let live = live.ok_or_else(|| Refusal::not_found("Run"))?;
    follow_on(&asked, Some(live))
}

fn follow_on(asked: &Asked, live: Option<Arc<Live>>) -> Answer {
    let open = asked.app.streams.open(asked.asker)?;
    let Some(live) = live else {
        return Ok(crate::streams::answer(open, futures_util::stream::empty()));
    };
    let last = asked
        .last_event
        .as_deref()
        .and_then(|id| id.parse::<i64>().ok());
    let from = match last {
        Some(last) => u64::try_from(last.saturating_add(1)).unwrap_or(0),
        // Who names no event follows from now on.
        None if live.cancel.is_cancelled() => live.log.next_id(),
        None => 0,
    };
    let is_tied = asked.is("cancel_on_disconnect");
    Ok(events(asked, open, live, from, is_tied))
}

async fn stop(asked: &Asked, run: &Run, how: Stop, waits: bool) -> Answer<()> {
    let (platform, thread) = (&asked.platform, Some(run.thread_id.as_str()));
    let Some(live) = platform.find(asked.owner(), thread, &run.run_id).await? else {
        return Ok(());
    };
    live.stop(how);
    // What has not begun ends at once, so that the next look at it sees that.
    if waits || run.status == "pending" {
        live.log.ended().await;
    }
    Ok(())
}

fn how(asked: &Asked) -> Stop {
    match asked.text("action") {
        Some("rollback") => Stop::Rollback,
        _ => Stop::Interrupt,
    }
}

pub(crate) async fn cancel(Path((id, run)): Path<(String, String)>, asked: Asked) -> Answer {
    let run = asked.platform.run(asked.owner(), &id, &run).await?;
    let waits = asked.is("wait");
    stop(&asked, &run, how(&asked), waits).await?;
    Ok(if waits {
        StatusCode::NO_CONTENT.into_response()
    } else {
        (StatusCode::ACCEPTED, Json(run.shown())).into_response()
    })
}

pub(crate) async fn cancel_many(asked: Asked) -> Answer {
    let ids = asked.value("run_ids").and_then(Value::as_array);
    let status = asked.text("status");
    let runs = asked
        .platform
        .all::<Run>(asked.owner(), RUN, asked.text("thread_id"))
        .await?;
    for run in runs.iter().filter(|run| !run.is_over()) {
        let is_named = ids.is_some_and(|ids| ids.contains(&run.run_id.as_str().into()));
        if is_named || status.is_some_and(|status| status == "all" || status == run.status) {
            stop(&asked, run, how(&asked), false).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
