//! OpenAI's API: `/v1/chat/completions` and `/v1/models`.

use axum::{
    extract::{Extension, Path, Query, Request, State, rejection::QueryRejection},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::student::{Who, json};
use crate::{
    auth::Caller,
    body,
    catalog::{Lent, Served},
    compat::{
        self, Hints,
        openai::{ChatIn, Chunks, completion},
        stream,
    },
    dto::StreamEvent,
    error::ApiError,
    gateway::Shared,
    streams::Asker,
};

/// Ask a model, or an agent, as OpenAI's clients do.
///
/// `model` is one of `/v1/models`. The body and the answers are those of OpenAI's chat
/// completions; fields that are not known here go to the provider as they are. For the agent
/// `feynman` the last message is the explanation, `metadata.topic` its topic, and the answer
/// has a field `lesson`; for `panel` the last message is discussed, what the agents say is the
/// reasoning, and the answer is the report, with a field `discussion`. The conversation is named by the header `x-session-id`, by
/// `metadata.session_id` or, for agents, by `user`. While a call waits its stream carries
/// comments such as `: queued position=3 wait_s=1.5`, and with the header `x-queue-events`
/// events such as `{"queue":{"status":"queued","position":3}}`.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "openai",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = ref("#/components/schemas/ChatCompletionRequest"), example = json!({
        "model": "feynman",
        "messages": [{ "role": "user", "content": "Plants turn light into sugar." }]
    })),
    responses(
        (status = 200, description = "A chat completion, or chunks of one where `stream` is true", content(
            (ref("#/components/schemas/ChatCompletion") = "application/json"),
            (StreamEvent = "text/event-stream"),
        )),
        (status = "4XX", description = "The request cannot be answered as it is, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
        (status = "5XX", description = "The server or the provider failed, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
    )
)]
pub(crate) async fn chat_completions(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let hints = Hints::read(request.headers());
    let asker = Asker::of_sdk(&request);
    let input: ChatIn = body::object(request, &app.limits).await?;
    let (asked, options) = input.check(&app.limits)?;
    let opened = compat::open(&app, who, &hints, asked, options.stream)?;
    if options.stream {
        let chunks = Chunks::new(opened.request, &opened.name, options, hints.queue_events);
        return stream::respond(&app, opened.events, chunks, asker).await;
    }
    opened.whole(completion).await
}

/// The models and agents that can be asked.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "openai",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(ModelsPart),
    responses(
        (status = 400, description = "A parameter is wrong, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
        (status = 200, description = "The list, in the forms of both vendors", body = ref("#/components/schemas/ModelList")),
        (status = 401, description = "The key is missing or not known, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
    )
)]
pub(crate) async fn models(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ModelsPart>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(part) = query.map_err(|error| compat::invalid("query", &error.body_text()))?;
    let models = app.catalog.all().iter();
    let models = models.filter(|served| caller.may_ask(&served.name));
    let embedders = app.catalog.embedders().iter();
    let embedders = embedders.filter(|lent| caller.may_ask(lent.embedder.model()));
    let mut data: Vec<Value> = models.map(model_entry).collect();
    data.extend(embedders.map(embedder_entry));
    // Clients of both vendors read this list; OpenAI's ask for no part of it.
    let has_more = part.take(&mut data)?;
    json(&listed(&data, has_more))
}

/// Which models. OpenAI's clients want all of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ModelsPart {
    /// At most so many, 1 to 1000; default all.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
    /// Those behind this one.
    #[param(nullable = false)]
    after_id: Option<String>,
    /// Those before this one.
    #[param(nullable = false)]
    before_id: Option<String>,
}

impl ModelsPart {
    /// Leaves the part; whether there are more in its direction. A name that is not in the list
    /// bounds nothing.
    fn take(&self, data: &mut Vec<Value>) -> Result<bool, ApiError> {
        let limit = self.limit.unwrap_or(1_000);
        if !(1..=1_000).contains(&limit) {
            return Err(compat::invalid("limit", "it must be 1 to 1000"));
        }
        let place = |id: &Option<String>| {
            let id = id.as_deref()?;
            data.iter().position(|entry| entry["id"] == id)
        };
        let (after, before) = (place(&self.after_id), place(&self.before_id));
        data.truncate(before.unwrap_or(data.len()));
        data.drain(..after.map_or(0, |at| at + 1).min(data.len()));
        let has_more = data.len() > limit;
        match before {
            Some(_) => drop(data.drain(..data.len().saturating_sub(limit))),
            None => data.truncate(limit),
        }
        Ok(has_more)
    }
}

/// A list, in the forms of both vendors.
pub(super) fn listed(data: &[Value], has_more: bool) -> Value {
    let id_of = |entry: Option<&Value>| entry.map(|entry| entry["id"].clone());
    json!({
        "object": "list", "data": data, "has_more": has_more,
        "first_id": id_of(data.first()), "last_id": id_of(data.last()),
    })
}

/// One of the models.
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "openai",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("model" = String, Path, description = "The model's name")),
    responses(
        (status = 200, description = "The model, in the forms of both vendors", body = ref("#/components/schemas/Model")),
        (status = 401, description = "The key is missing or not known, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
        (status = 404, description = "There is no such model, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
    )
)]
pub(crate) async fn model(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let embedder = app.catalog.embedder(&name);
    if let Some(lent) = embedder.filter(|_| caller.may_ask(&name)) {
        return json(&embedder_entry(lent));
    }
    json(&model_entry(compat::find(&app, Some(&caller), &name)?))
}

fn model_entry(served: &Served) -> Value {
    entry(&served.name, &served.owner)
}

fn embedder_entry(lent: &Lent) -> Value {
    entry(lent.embedder.model(), &lent.owner)
}

fn entry(name: &str, owner: &str) -> Value {
    json!({
        "id": name, "object": "model", "created": 0, "owned_by": owner,
        "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z",
    })
}
