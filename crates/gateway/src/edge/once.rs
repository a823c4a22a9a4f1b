//! `Idempotency-Key`: what costs money is done once for each key.
//!
//! Invariant: an answer is remembered before it is sent, and a run under way is known to this
//! process only or, where others share the records, claimed among all of them for as long as this
//! one lives, so a crash leaves no key that is stuck: its next request simply runs. Runs
//! with one key never overlap; those who wait for one get its answer, or become the next run
//! where it left none. Deliberately absent: streams, whose answer is not known as a whole
//! before it is sent. Source: draft-ietf-httpapi-idempotency-key-header-07.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use lyceum_core::{MemoryRecords, RecordError, RecordStore, Scope};
use metrics::counter;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    claims::{Claims, Held},
    remembered::{Found, Name, Remembered},
};
use crate::{
    auth::Caller, bell::Bell, body, catalog::unix_seconds, config::Limits, error::ApiError,
    metrics::IDEMPOTENT,
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The longest key, in bytes.
const LONGEST_KEY: usize = 255;

/// The largest answer that is remembered, in bytes.
const LARGEST: u64 = 1 << 20;

/// Routes whose requests cost money.
const ONCE: [&str; 9] = [
    "/chat",
    "/memorize",
    "/panel",
    "/sessions/{id}/teach-back",
    "/sessions/{id}/exam",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/responses",
];

/// Routes that cost money and answer with a stream.
const STREAMS: [&str; 2] = ["/chat/stream", "/panel/stream"];

/// What became of requests with a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Ran,
    Replayed,
    Conflict,
}

impl Outcome {
    pub(crate) const ALL: [Self; 3] = [Self::Ran, Self::Replayed, Self::Conflict];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Replayed => "replayed",
            Self::Conflict => "conflict",
        }
    }

    fn count(self) {
        counter!(IDEMPOTENT, "outcome" => self.label()).increment(1);
    }
}

/// The key of a request that is to be done once.
pub(super) struct Once {
    key: String,
    scope: Scope,
}

impl Once {
    /// The key of a request, where it has one and its route heeds it.
    ///
    /// # Errors
    ///
    /// [`ApiError::Malformed`] for a key that is none, and for one on a stream.
    pub(super) fn of(request: &Request, endpoint: &str) -> Result<Option<Self>, ApiError> {
        if request.method() != Method::POST {
            return Ok(None);
        }
        let mut keys = request.headers().get_all(KEY).iter();
        let (Some(key), more) = (keys.next(), keys.next()) else {
            return Ok(None);
        };
        if STREAMS.contains(&endpoint) {
            return Err(streamed());
        }
        if !ONCE.contains(&endpoint) {
            return Ok(None);
        }
        let key = key.to_str().unwrap_or_default();
        let is_key = (1..=LONGEST_KEY).contains(&key.len())
            && more.is_none()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !is_key {
            return Err(ApiError::Malformed {
                detail: format!(
                    "the Idempotency-Key must be one text of 1 to {LONGEST_KEY} visible ASCII characters"
                ),
            });
        }
        let caller = request.extensions().get::<Caller>();
        Ok(caller.map(|caller| Self {
            key: key.to_owned(),
            scope: caller.scope.clone(),
        }))
    }
}

fn streamed() -> ApiError {
    ApiError::Malformed {
        detail: "an Idempotency-Key is for answers that come as a whole: ask without a stream, \
                 or leave the header out"
            .to_owned(),
    }
}

/// Whether a body asks for a stream.
#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    stream: Option<serde_json::Value>,
}

/// Answers that were given, and runs under way.
pub(crate) struct Idempotency {
    remembered: OnceLock<Remembered>,
    running: Mutex<HashMap<Name, Running>>,
    bell: OnceLock<Bell>,
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Idempotency")
    }
}

struct Running {
    fingerprint: [u8; 32],
    ended: CancellationToken,
}

/// The one run of a key; dropping it, for whatever reason, lets the next one in.
struct Run<'a> {
    all: &'a Idempotency,
    name: &'a Name,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.all.running().remove(self.name) {
            running.ended.cancel();
        }
    }
}

enum Turn<'a> {
    Mine(Run<'a>),
    After(CancellationToken),
}

impl Idempotency {
    pub(crate) fn new() -> Self {
        Self {
            remembered: OnceLock::new(),
            running: Mutex::default(),
            bell: OnceLock::new(),
        }
    }

    /// Remembers answers there; without it, in memory. The first store stays.
    pub(crate) fn keep_in(&self, records: Arc<dyn RecordStore>) {
        self.remembered.get_or_init(|| Remembered::new(records));
    }

    /// Does requests once among all processes that share the records. Before
    /// [`Idempotency::keep_in`].
    pub(crate) fn share(&self, bell: Bell) {
        self.bell.get_or_init(|| bell);
    }

    /// The claims of runs, where other processes share the records.
    fn claims(&self) -> Option<Claims> {
        let bell = self.bell.get()?.clone();
        Some(Claims::new(self.remembered().records(), bell))
    }

    /// Removes answers whose time is over, and what processes that are gone left of runs.
    pub(crate) async fn forget_expired(&self) {
        let claims = self.claims();
        let remembered = self.remembered();
        let forgotten = remembered.forget_expired(unix_seconds(), claims.is_some());
        let forgotten = match (forgotten.await, claims) {
            (Ok(()), Some(claims)) => claims.forget_expired(unix_seconds()).await,
            (forgotten, _) => forgotten,
        };
        if let Err(error) = forgotten {
            tracing::warn!(error = %error, "remembered answers cannot be removed");
        }
    }

    fn remembered(&self) -> &Remembered {
        self.remembered
            .get_or_init(|| Remembered::new(Arc::new(MemoryRecords::new())))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Name, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the answer that the key has, or has it made by `run`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the run; nothing is remembered then.
    pub(super) async fn answer(
        &self,
        once: Once,
        request: Request,
        limits: &Limits,
        run: impl AsyncFnOnce(Request) -> Response,
    ) -> Response {
        match self.answered(once, request, limits, run).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn answered(
        &self,
        once: Once,
        request: Request,
        limits: &Limits,
        run: impl AsyncFnOnce(Request) -> Response,
    ) -> Result<Response, ApiError> {
        let (mut parts, body) = request.into_parts();
        let bytes = body::read(&mut parts.headers, body, limits).await?;
        if let Ok(Form {
            stream: Some(serde_json::Value::Bool(true)),
        }) = body::parse::<Form>(&bytes)
        {
            return Err(streamed());
        }
        let fingerprint = fingerprint(&parts.headers, parts.uri.query(), &bytes);
        let name = Name::new(&once.scope, parts.uri.path(), &once.key);
        let _run = loop {
            match self.turn(&name, fingerprint)? {
                Turn::Mine(run) => break run,
                Turn::After(ended) => ended.cancelled().await,
            }
        };
        if let Some(response) = self.known(&name, fingerprint).await? {
            return Ok(response);
        }
        let mut held = self.held(&name, fingerprint).await?;
        // Another process may have answered between the look and the claim.
        if held.is_some()
            && let Some(response) = self.known(&name, fingerprint).await?
        {
            return Ok(response);
        }
        Outcome::Ran.count();
        let response = run(Request::from_parts(parts, Body::from(bytes))).await;
        if !is_final(response.status()) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        if body.size_hint().exact().is_none_or(|size| size > LARGEST) {
            tracing::warn!("an answer is too large to be remembered for its Idempotency-Key");
            return Ok(Response::from_parts(parts, body));
        }
        let bytes = axum::body::to_bytes(body, LARGEST as usize).await;
        let bytes = bytes.map_err(|_| ApiError::Cut)?;
        let response = Response::from_parts(parts, bytes);
        let kept = self.remembered();
        let claim = match held.take() {
            Some(held) => held.into_writes().await,
            None => Vec::new(),
        };
        if let Err(error) = kept
            .keep(&name, fingerprint, &response, unix_seconds(), claim)
            .await
        {
            tracing::warn!(error = %error, "an answer cannot be remembered");
        }
        if let Some(claims) = self.claims() {
            claims.tell(&name).await;
        }
        Ok(response.map(Body::from))
    }

    /// The answer that the key has, if it has one.
    async fn known(
        &self,
        name: &Name,
        fingerprint: [u8; 32],
    ) -> Result<Option<Response>, ApiError> {
        match self.remembered().find(name, unix_seconds()).await {
            Ok(Some(Found::Answer(known, response))) if known == fingerprint => {
                Outcome::Replayed.count();
                Ok(Some(replayed(response)))
            }
            Ok(Some(_)) => Err(conflict()),
            Ok(None) => Ok(None),
            Err(error) => Err(unknown(&error)),
        }
    }

    /// The claim among all processes, where there are others; waits for theirs.
    async fn held(&self, name: &Name, fingerprint: [u8; 32]) -> Result<Option<Held>, ApiError> {
        let Some(claims) = self.claims() else {
            return Ok(None);
        };
        match claims.claim(name, fingerprint).await {
            Ok(Some(held)) => Ok(Some(held)),
            Ok(None) => Err(conflict()),
            Err(error) => Err(unknown(&error)),
        }
    }

    fn turn<'a>(&'a self, name: &'a Name, fingerprint: [u8; 32]) -> Result<Turn<'a>, ApiError> {
        let mut running = self.running();
        if let Some(other) = running.get(name) {
            if other.fingerprint != fingerprint {
                return Err(conflict());
            }
            return Ok(Turn::After(other.ended.clone()));
        }
        let mine = Running {
            fingerprint,
            ended: CancellationToken::new(),
        };
        running.insert(name.clone(), mine);
        Ok(Turn::Mine(Run { all: self, name }))
    }
}

/// Running now could do a second time what was done.
fn unknown(error: &RecordError) -> ApiError {
    tracing::warn!(error = %error, "remembered answers cannot be read");
    ApiError::Busy
}

fn conflict() -> ApiError {
    Outcome::Conflict.count();
    ApiError::KeyReused
}

fn replayed(mut response: Response) -> Response {
    let yes = HeaderValue::from_static("true");
    response.headers_mut().insert(REPLAYED, yes);
    response
}

/// Whether the same request would be answered the same way: not where the server failed, nor
/// where it said "not now".
fn is_final(status: StatusCode) -> bool {
    let passing = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::CONFLICT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    !status.is_server_error() && !passing.contains(&status)
}

/// What must be the same for two requests to be one: everything that decides the answer.
fn fingerprint(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for name in [header::CONTENT_TYPE.as_str(), "x-session-id"] {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        part(&mut digest, value.unwrap_or_default());
    }
    part(&mut digest, query.unwrap_or_default().as_bytes());
    part(&mut digest, body);
    digest.finalize().into()
}

fn part(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}
