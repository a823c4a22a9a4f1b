//! OpenAI's API: `/v1/embeddings`.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, header};
use tokio::time::timeout;

use super::student::{Who, call};
use crate::{
    body,
    compat::{
        self,
        openai::{self, EmbedIn},
    },
    error::ApiError,
    gateway::Shared,
};

/// Turn texts into vectors.
///
/// `model` is one of the embedding models of `/v1/models`. `input` is a text or up to 2,048
/// of them; token numbers are not understood. `dimensions` may be less than the model's
/// where the model allows it. The additional field `input_type` is `document` (default) or
/// `query`, for models that embed the two sides of a search differently.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "openai",
    security((), ("bearer" = []), ("x-api-key" = [])),
    request_body(content = ref("#/components/schemas/EmbeddingRequest"), example = json!({
        "model": "hashing-v1-512",
        "input": ["Plants turn light into sugar."]
    })),
    responses(
        (status = 200, description = "The vectors, in OpenAI's form", body = ref("#/components/schemas/EmbeddingList")),
        (status = "4XX", description = "The texts cannot be embedded as they are, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
        (status = "5XX", description = "The server or the provider failed, in OpenAI's form", body = ref("#/components/schemas/OpenAiError")),
    )
)]
pub(crate) async fn embeddings(
    State(app): State<Shared>,
    who: Who,
    request: Request,
) -> Result<Response, ApiError> {
    let input: EmbedIn = body::object(request, &app.limits).await?;
    let caller = Some(&*who.0);
    let lent = app.catalog.embedder(&input.model);
    let Some(lent) = lent.filter(|_| compat::may_ask(caller, &input.model)) else {
        // A model that chats is there, but not for this.
        compat::find(&app, caller, &input.model)?;
        return Err(compat::invalid("model", "it gives no embeddings"));
    };
    let (texts, kind, form) = input.check(lent)?;
    let within: Duration = app.limits.request;
    let call = call(who, None, within);
    let embedded = timeout(within, lent.embedder.embed(&call, kind, &texts));
    let embedded = embedded.await.map_err(|_| ApiError::StreamTimeout)?;
    let answer = embedded.map_err(ApiError::Embed)?;
    answer
        .check(texts.len(), lent.embedder.dimensions())
        .map_err(ApiError::Embed)?;
    let body = openai::embeddings(lent.embedder.model(), &answer, form);
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}
