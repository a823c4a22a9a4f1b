//! One request: routed, checked, read and handed on; and the forms of all responses.
//!
//! The order is the vendors': an unknown path, a wrong key, a wrong request and an
//! unknown model cost no quota.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::{Recorded, Shared, exchange::Exchange};
use crate::{
    body::SimBody,
    call::ResetFlag,
    random::{self, Purpose},
    stats::add,
    wire::{Dialect, Identity, Problem, anthropic, embeddings, limits, openai, to_json},
};

/// The largest body that is read; Anthropic states 32 MB for messages.
const MAX_BODY_BYTES: usize = 32 << 20;

pub(super) type Reply = Response<SimBody>;

#[derive(Clone, Copy)]
enum Route {
    Chat,
    Messages,
    CountTokens,
    Embeddings,
}

/// Answers a request.
pub(super) async fn respond(
    shared: Arc<Shared>,
    reset: ResetFlag,
    request: Request<Incoming>,
) -> Reply {
    let (parts, body) = request.into_parts();
    let dialect = dialect_of(parts.uri.path(), &parts.headers);
    let route = match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/sim/stats") => {
            return reply(
                StatusCode::OK,
                JSON,
                to_json(&shared.counters.snapshot()).into(),
            );
        }
        (&Method::GET, "/v1/models") => return models(&shared, dialect),
        (&Method::POST, "/v1/chat/completions") => Route::Chat,
        (&Method::POST, "/v1/messages") => Route::Messages,
        (&Method::POST, "/v1/messages/count_tokens") => Route::CountTokens,
        (&Method::POST, "/v1/embeddings") => Route::Embeddings,
        (method, path) => {
            let problem = Problem::UnknownPath(format!("{method} {path}"));
            return refusal(dialect, &identity(&shared, 0), &problem);
        }
    };
    add(&shared.counters.requests, 1);
    let answered = match check(&shared, dialect, &parts.headers) {
        Ok(()) => match read(body).await {
            Ok(body) => answer(&shared, reset, route, dialect, parts, body).await,
            Err(problem) => Err(problem),
        },
        Err(problem) => Err(problem),
    };
    answered.unwrap_or_else(|problem| {
        add(&shared.counters.invalid, 1);
        shared.changed.notify_waiters();
        refusal(dialect, &identity(&shared, 0), &problem)
    })
}

async fn answer(
    shared: &Arc<Shared>,
    reset: ResetFlag,
    route: Route,
    dialect: Dialect,
    parts: http::request::Parts,
    body: Bytes,
) -> Result<Reply, Problem> {
    shared.record(|| Recorded {
        path: parts.uri.path().to_owned(),
        headers: parts.headers.clone(),
        body: body.clone(),
    });
    let exchange = |model: &str| {
        known_model(shared, model)?;
        let meter = meter_key(dialect, &parts.headers, model);
        Ok(Exchange::new(Arc::clone(shared), reset, dialect, meter))
    };
    match route {
        Route::Chat => {
            let ask = openai::read(&body)?;
            Ok(exchange(&ask.model)?.chat(&ask).await)
        }
        Route::Messages => {
            let ask = anthropic::read(&body)?;
            Ok(exchange(&ask.model)?.chat(&ask).await)
        }
        Route::CountTokens => {
            let ask = anthropic::read_for_count(&body)?;
            known_model(shared, &ask.model)?;
            add(&shared.counters.answered, 1);
            Ok(reply(
                StatusCode::OK,
                JSON,
                anthropic::token_count(&ask).into(),
            ))
        }
        Route::Embeddings => {
            let texts = embeddings::read(&body, shared.config.embedding_dimensions)?;
            Ok(exchange(&texts.model)?.embed(&texts))
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, Problem> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::TooLarge),
        Err(_) => Err(Problem::invalid("the body could not be read")),
    }
}

/// The key and, for Anthropic, the version header, which it demands.
fn check(shared: &Shared, dialect: Dialect, headers: &HeaderMap) -> Result<(), Problem> {
    let keys = &shared.config.api_keys;
    let key = credential(dialect, headers);
    if !keys.is_empty() && !keys.iter().any(|known| known.as_bytes() == key) {
        return Err(Problem::WrongKey);
    }
    if dialect == Dialect::Anthropic && !headers.contains_key(ANTHROPIC_VERSION) {
        return Err(Problem::about("anthropic-version", "header is required"));
    }
    Ok(())
}

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The path decides; where both vendors have it, Anthropic's mandatory header does.
fn dialect_of(path: &str, headers: &HeaderMap) -> Dialect {
    match path {
        "/v1/chat/completions" | "/v1/embeddings" => Dialect::OpenAi,
        "/v1/messages" | "/v1/messages/count_tokens" => Dialect::Anthropic,
        _ if headers.contains_key(ANTHROPIC_VERSION) => Dialect::Anthropic,
        _ => Dialect::OpenAi,
    }
}

fn credential(dialect: Dialect, headers: &HeaderMap) -> &[u8] {
    let bearer = || {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        value.strip_prefix(b"Bearer ")
    };
    let key = match dialect {
        Dialect::OpenAi => bearer(),
        Dialect::Anthropic => headers
            .get(X_API_KEY)
            .map(HeaderValue::as_bytes)
            .or_else(bearer),
    };
    key.unwrap_or_default()
}

fn meter_key(dialect: Dialect, headers: &HeaderMap, model: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    credential(dialect, headers).hash(&mut hasher);
    model.hash(&mut hasher);
    hasher.finish()
}

fn known_model(shared: &Shared, model: &str) -> Result<(), Problem> {
    let models = &shared.config.models;
    if models.is_empty() || models.iter().any(|known| known == model) {
        Ok(())
    } else {
        Err(Problem::UnknownModel(model.to_owned()))
    }
}

fn models(shared: &Shared, dialect: Dialect) -> Reply {
    let any = ["sim".to_owned()];
    let names = match shared.config.models.as_slice() {
        [] => &any,
        models => models,
    };
    let body = match dialect {
        Dialect::OpenAi => openai::models(names),
        Dialect::Anthropic => anthropic::models(names),
    };
    reply(StatusCode::OK, JSON, body.into())
}

/// What identifies the answer to the request of this number; 0 for one without a number.
pub(super) fn identity(shared: &Shared, number: u64) -> Identity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Identity {
        bits: random::bits(shared.config.seed, number, Purpose::Identity),
        created: now.map_or(0, |since| since.as_secs()),
    }
}

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const EVENT_STREAM: HeaderValue =
    HeaderValue::from_static("text/event-stream; charset=utf-8");

pub(super) fn reply(status: StatusCode, content_type: HeaderValue, body: SimBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    reply
}

/// A response that is an error, with the vendor's headers.
pub(super) fn refusal(dialect: Dialect, identity: &Identity, problem: &Problem) -> Reply {
    let (status, body) = dialect.problem(identity, problem);
    let mut refusal = reply(status, JSON, body.into());
    if let Problem::RateLimited {
        retry_after: Some(wait),
        ..
    } = problem
    {
        limits::add_retry_after(refusal.headers_mut(), *wait);
    }
    identify(&mut refusal, dialect, identity);
    refusal
}

/// Adds the id under which a vendor's support would find the request.
pub(super) fn identify(reply: &mut Reply, dialect: Dialect, identity: &Identity) {
    let name = match dialect {
        Dialect::OpenAi => HeaderName::from_static("x-request-id"),
        Dialect::Anthropic => HeaderName::from_static("request-id"),
    };
    if let Ok(id) = HeaderValue::try_from(anthropic::request_id(identity)) {
        reply.headers_mut().insert(name, id);
    }
}
