//! OpenAI's API: `/v1/responses`.

use std::sync::{Arc, atomic::AtomicBool};

use axum::{
    extract::{Extension, Path, Query, Request, State, rejection::QueryRejection},
    response::Response,
};
use futures_util::StreamExt;
use lyceum_core::{ChatEvent, Message, RequestId, TeachError};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{
    openai::listed,
    student::{Who, json as answer},
};
use crate::{
    auth::Caller,
    body,
    compat::{
        self, Hints,
        openai::{
            check_messages,
            responses::{Events, Keeper, Kept, Plan, Reply, ResponseIn, keeping, messages},
        },
        stream,
    },
    dto::StreamEvent,
    error::ApiError,
    gateway::{App, Shared},
    streams::Asker,
};

/// Ask a model, or an agent, in items.
///
/// `model` is one of `/v1/models`. Text, images, functions and JSON schemas are understood;
/// OpenAI's own tools, files, background work, conversations and prompts are refused.
/// `previous_response_id` goes on from a response that was stored, which is the default
/// where the server has a store. Agents and conversations are as at `/v1/chat/completions`.
#[utoipa::path(
    post,
    path = "/v1/responses",
    tag = "openai",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = ref("#/components/schemas/ResponseRequest"), example = json!({
        "model": "feynman",
        "input": "Plants turn light into sugar."
    })),
    responses(
        (status = 200, description = "A response, or its events where `stream` is true", content(
            (ref("#/components/schemas/Response") = "application/json"),
            (StreamEvent = "text/event-stream"),
        )),
        (status = "4XX", description = "The request cannot be answered as it is, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
        (status = "5XX", description = "The server or the provider failed, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
    )
)]
pub(crate) async fn respond(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let mut hints = Hints::read(request.headers());
    let asker = Asker::of_sdk(&request);
    let input: ResponseIn = body::object(request, &app.limits).await?;
    let (mut asked, plan) = input.check()?;
    let keeper = keeper(&app, &who.0.0);
    asked.request.messages = said(&app, &plan, keeper.as_ref(), &mut hints).await?;
    let stored = Arc::new(AtomicBool::new(plan.store && keeper.is_some()));
    let id = format!("resp_{}", RequestId::random());
    let opened = compat::open(&app, who, &hints, asked, plan.stream)?;
    let reply = || Reply::new(&id, &opened.name, plan.echo.clone(), Arc::clone(&stored));
    let (told, mirrored) = (reply(), reply());
    let events = match keeper {
        Some(keeper) if plan.store => {
            let kept = Kept {
                response: Value::Null,
                input: plan.input,
                previous: plan.previous,
                session: Some(opened.session),
            };
            keeping(opened.events, keeper, id, kept, mirrored, stored)
        }
        _ => opened.events,
    };
    if plan.stream {
        return stream::respond(&app, events, Events::new(told, hints.queue_events), asker).await;
    }
    whole(events, told).await
}

async fn whole(
    mut events: lyceum_core::ChatStream,
    mut reply: Reply,
) -> Result<Response, ApiError> {
    let mut origin = None;
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| ApiError::Student(TeachError::Model(error)))?;
        reply.push(&event, &mut |_, _| {});
        match event {
            ChatEvent::Origin(from) => origin = Some(from),
            ChatEvent::Finished(_) => {
                let body = reply.response(None).to_string();
                return Ok(compat::json_from(body.into(), origin));
            }
            _ => {}
        }
    }
    Err(ApiError::Cut)
}

/// Everything that was said, and the conversation that it belongs to.
async fn said(
    app: &App,
    plan: &Plan,
    keeper: Option<&Keeper>,
    hints: &mut Hints,
) -> Result<Vec<Message>, ApiError> {
    let most = app.limits.messages;
    let mut all = Vec::new();
    all.extend(plan.instructions.as_deref().map(Message::system));
    if let Some(previous) = &plan.previous {
        let Some(keeper) = keeper else {
            let detail = "responses are not kept here: send the whole conversation as input";
            return Err(compat::invalid("previous_response_id", detail));
        };
        let (items, session) = keeper.history(previous, most).await?;
        all.extend(messages("previous_response_id", &items)?);
        hints.continues(session);
    }
    if plan.input.len() > most {
        let detail = format!(
            "it has {} items: at most {most} are allowed",
            plan.input.len()
        );
        return Err(compat::invalid("input", &detail));
    }
    if plan.input.is_empty() {
        return Err(compat::invalid("input", "it is empty: say something"));
    }
    all.extend(messages("input", &plan.input)?);
    check_messages(all.len(), &app.limits)?;
    Ok(all)
}

fn keeper(app: &App, caller: &Caller) -> Option<Keeper> {
    let records = app.responses.get()?;
    Some(Keeper {
        records: Arc::clone(records),
        scope: caller.scope.clone(),
    })
}

async fn kept(app: &App, caller: &Caller, id: &str) -> Result<Kept, ApiError> {
    let found = match keeper(app, caller) {
        Some(keeper) => keeper.find(id).await?,
        None => None,
    };
    found.ok_or(ApiError::NoResponse)
}

/// A response that was stored.
#[utoipa::path(
    get,
    path = "/v1/responses/{response_id}",
    tag = "openai",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("response_id" = String, Path, description = "The response's id"), Told),
    responses(
        (status = 200, description = "The response, in OpenAI's form", body = ref("#/components/schemas/Response")),
        (status = "4XX", description = "There is no such response of this key's, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
        (status = "5XX", description = "The server failed, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
    )
)]
pub(crate) async fn response(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Result<Query<Told>, QueryRejection>,
) -> Result<Response, ApiError> {
    // Whoever asks for events and gets none would wait for them.
    query.map_err(|_| compat::invalid("stream", "what is kept is told at once: leave it out"))?;
    answer(&kept(&app, &caller, &id).await?.response)
}

/// How a stored response is to be told.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Told {
    /// `false`: there are no events of what was stored.
    #[param(inline, required = false)]
    #[serde(default)]
    #[expect(dead_code, reason = "that it is right says all")]
    stream: AtOnce,
}

/// Not as a stream.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum AtOnce {
    #[default]
    False,
}

/// A part of the items.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ItemsPart {
    /// At most so many, 1 to 100; default 20.
    #[param(minimum = 1, maximum = 100, nullable = false)]
    limit: Option<usize>,
    /// Those behind the item of this id.
    #[param(nullable = false)]
    after: Option<String>,
    /// `desc`, the last first, which is the default, or `asc`.
    #[param(inline, required = false)]
    #[serde(default)]
    order: Order,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    #[default]
    Desc,
}

/// What was said to get a stored response, without what came before.
#[utoipa::path(
    get,
    path = "/v1/responses/{response_id}/input_items",
    tag = "openai",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("response_id" = String, Path, description = "The response's id"), ItemsPart),
    responses(
        (status = 200, description = "The items, in OpenAI's form", body = ref("#/components/schemas/ResponseItemList")),
        (status = "4XX", description = "There is no such response of this key's, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
        (status = "5XX", description = "The server failed, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
    )
)]
pub(crate) async fn input_items(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Result<Query<ItemsPart>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(part) = query.map_err(|error| compat::invalid("query", &error.body_text()))?;
    let limit = part.limit.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(compat::invalid("limit", "it must be 1 to 100"));
    }
    let kept = kept(&app, &caller, &id).await?;
    let items = kept.input.into_iter().enumerate();
    let mut items: Vec<Value> = items.map(|(at, item)| shown(&id, at, item)).collect();
    if part.order == Order::Desc {
        items.reverse();
    }
    if let Some(after) = &part.after {
        let place = items.iter().position(|item| item["id"] == **after);
        let place = place.ok_or_else(|| compat::invalid("after", "there is no such item"))?;
        items.drain(..=place);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    answer(&listed(&items, has_more))
}

/// An item with what clients of the vendor expect of it.
fn shown(response: &str, at: usize, mut item: Value) -> Value {
    if item.get("id").is_none_or(Value::is_null) {
        let of = response.strip_prefix("resp_").unwrap_or(response);
        item["id"] = format!("in_{of}_{at}").into();
    }
    if item.get("type").is_none_or(Value::is_null) {
        item["type"] = "message".into();
    }
    if let Some(text) = item.get("content").and_then(Value::as_str) {
        let kind = match item["role"].as_str() {
            Some("assistant") => "output_text",
            _ => "input_text",
        };
        item["content"] = json!([{"type": kind, "text": text}]);
    }
    item
}

/// Forget a response that was stored.
#[utoipa::path(
    delete,
    path = "/v1/responses/{response_id}",
    tag = "openai",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("response_id" = String, Path, description = "The response's id")),
    responses(
        (status = 200, description = "It is forgotten, in OpenAI's form", body = ref("#/components/schemas/ResponseDeleted")),
        (status = "4XX", description = "There is no such response of this key's, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
        (status = "5XX", description = "The server failed, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
    )
)]
pub(crate) async fn forget(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let forgotten = match keeper(&app, &caller) {
        Some(keeper) => keeper.forget(&id).await?,
        None => false,
    };
    if !forgotten {
        return Err(ApiError::NoResponse);
    }
    answer(&json!({"id": id, "object": "response", "deleted": true}))
}
