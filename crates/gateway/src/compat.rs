//! The APIs of other vendors, spoken so that their SDKs work unchanged.
//!
//! A request becomes a [`ChatRequest`], goes to a model of the [`Catalog`](crate::Catalog),
//! and its events are written as the dialect writes them. Invariant: agents are models
//! here ([`agent::StudentModel`]), so every dialect reaches them the same way; errors get
//! their dialect's shape in one place ([`problem`]).

pub(crate) mod agent;
pub(crate) mod anthropic;
pub(crate) mod openai;
pub(crate) mod problem;
pub(crate) mod stream;

use std::{sync::Arc, time::Instant};

use axum::{body::Body, extract::Extension, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use lyceum_core::{
    CallContext, ChatAnswer, ChatRequest, ChatStream, Origin, RequestId, SessionId, TeachError,
};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Span;

use crate::{
    auth::Caller,
    catalog::{Served, ServedKind},
    error::ApiError,
    gateway::App,
};

/// The header that names the conversation a request belongs to.
const SESSION_HEADER: &str = "x-session-id";

/// The header that asks for events about the place in the queue; see [`stream`].
const QUEUE_EVENTS_HEADER: &str = "x-queue-events";

/// What a dialect made of a request's body.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The model's name as the client wrote it.
    pub(crate) model: String,
    /// What is asked of it.
    pub(crate) request: ChatRequest,
    /// How many answers are wanted.
    pub(crate) choices: u32,
    /// The end user, where the client named one.
    pub(crate) user: Option<String>,
}

/// What the headers of a request say beside its body.
#[derive(Debug)]
pub(crate) struct Hints {
    session: Option<String>,
    /// Whether the client understands events about the queue.
    pub(crate) queue_events: bool,
}

impl Hints {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let text = |name| {
            let value = headers.get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Self {
            session: text(SESSION_HEADER),
            queue_events: headers.contains_key(QUEUE_EVENTS_HEADER),
        }
    }

    /// Goes on with a conversation, unless the client named one.
    pub(crate) fn continues(&mut self, session: Option<SessionId>) {
        let named = self.session.take();
        self.session = named.or_else(|| session.map(|id| id.as_str().to_owned()));
    }
}

/// A call that is about to be made. Nothing happens before its events are polled.
pub(crate) struct Opened {
    pub(crate) name: Arc<str>,
    pub(crate) request: RequestId,
    /// The conversation that it belongs to.
    pub(crate) session: SessionId,
    pub(crate) events: ChatStream,
}

impl Opened {
    /// Reads the whole answer and has it written.
    pub(crate) async fn whole(
        self,
        write: impl FnOnce(&RequestId, &str, &ChatAnswer) -> Bytes,
    ) -> Result<Response, ApiError> {
        let answer = collect(self.events).await?;
        let body = write(&self.request, &self.name, &answer);
        Ok(json_from(body, answer.origin))
    }
}

/// Finds the model and hands it the request.
pub(crate) fn open(
    app: &App,
    (Extension(caller), Extension(request)): (Extension<Caller>, Extension<RequestId>),
    hints: &Hints,
    asked: Asked,
    streamed: bool,
) -> Result<Opened, ApiError> {
    let within = match streamed {
        true => app.limits.stream,
        false => app.limits.request,
    };
    let served = find(app, Some(&caller), &asked.model)?;
    if served.kind == ServedKind::Agent {
        agent::check(&asked, &app.limits)?;
    }
    let mut scope = caller.scope;
    let session = session(served.kind, hints, &asked)?;
    Span::current().record("session", session.as_str());
    scope.session = Some(session.clone());
    let call = CallContext {
        request: request.clone(),
        deadline: Instant::now().checked_add(within),
        ..CallContext::new(scope)
    };
    Ok(Opened {
        name: Arc::clone(&served.name),
        request,
        session,
        events: served.model.stream(call, Arc::new(asked.request)),
    })
}

/// Finds a model by its name. One that the caller's key may not ask is not there for it.
pub(crate) fn find<'a>(
    app: &'a App,
    caller: Option<&Caller>,
    name: &str,
) -> Result<&'a Served, ApiError> {
    let found = app.catalog.get(name).filter(|_| may_ask(caller, name));
    found.ok_or_else(|| ApiError::NoModel {
        name: name.chars().take(100).collect(),
    })
}

/// Whether the caller's key may ask the model of this name.
pub(crate) fn may_ask(caller: Option<&Caller>, model: &str) -> bool {
    caller.is_none_or(|caller| caller.may_ask(model))
}

/// The conversation: what the header says, else `metadata.session_id`, else, for an agent,
/// the user the client named. A call of none is a conversation of its own.
fn session(kind: ServedKind, hints: &Hints, asked: &Asked) -> Result<SessionId, ApiError> {
    let metadata = asked.request.extra.get("metadata");
    let metadata = metadata.and_then(|metadata| metadata.get("session_id"));
    if let Some(id) = &hints.session {
        return SessionId::new(id).map_err(|error| invalid(SESSION_HEADER, &error.to_string()));
    }
    if let Some(id) = metadata.and_then(Value::as_str) {
        return SessionId::new(id)
            .map_err(|error| invalid("metadata.session_id", &error.to_string()));
    }
    match (&asked.user, kind) {
        // Names of users follow no rule: one that is no id opens a new conversation.
        (Some(user), ServedKind::Agent) => {
            Ok(SessionId::new(user).unwrap_or_else(|_| SessionId::random()))
        }
        _ => Ok(SessionId::random()),
    }
}

/// Reads a whole answer.
pub(crate) async fn collect(events: ChatStream) -> Result<ChatAnswer, ApiError> {
    ChatAnswer::collect(events)
        .await
        .map_err(|error| ApiError::Student(TeachError::Model(error)))
}

/// An answer with a body of JSON. `x-lyceum-origin` says where it comes from when no model
/// was asked for it.
pub(crate) fn json_from(body: Bytes, origin: Option<Origin>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Some(origin) = origin {
        headers.insert("x-lyceum-origin", HeaderValue::from_static(origin.label()));
    }
    response
}

/// A field that is wrong.
pub(crate) fn invalid(path: &str, detail: &str) -> ApiError {
    ApiError::Invalid {
        path: path.to_owned(),
        detail: detail.to_owned(),
    }
}

/// Writes a value. Values made of strings, numbers and maps by strings always serialise.
pub(crate) fn put(out: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    let _always = serde_json::to_writer(out.writer(), value);
}

/// Writes the fields of a map behind others, except those `skip` names.
pub(crate) fn put_fields(
    out: &mut BytesMut,
    fields: &Map<String, Value>,
    skip: impl Fn(&str) -> bool,
) {
    for (name, value) in fields.iter().filter(|(name, _)| !skip(name)) {
        out.put_u8(b',');
        put(out, name);
        out.put_u8(b':');
        put(out, value);
    }
}
