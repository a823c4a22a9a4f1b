//! What surrounds every request: its id, its span, who may send it, its time limit,
//! how often, its headers, and one log line and one measurement at its real end.
//!
//! Invariant: exactly one line and one measurement per request, however it ends: when
//! the body was handed over, when the client left, when the handler panicked.

pub(crate) mod address;
mod admission;
pub(crate) mod audit;
pub(crate) mod cache;
mod claims;
pub(crate) mod compression;
pub(crate) mod cors;
pub(crate) mod holding;
pub(crate) mod once;
mod pattern;
pub(crate) mod rate;
mod remembered;
mod window;

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use lyceum_core::RequestId;
use lyceum_observe::Lifecycle;
use metrics::{counter, histogram};
use pin_project_lite::pin_project;
use tokio::time::timeout;
use tracing::{Instrument, Span, field::Empty, info_span};

use crate::{
    auth::{Caller, WEBSOCKET_PROTOCOL, speaks_protocol},
    compat::problem::Dialect,
    error::ApiError,
    gateway::{App, Shared},
    metrics::{DURATION, REQUESTS, SHED},
    routes,
};

use self::{
    address::{Encrypted, Peer},
    audit::Audited,
    cache::Write,
    holding::Hold,
    once::Once,
    rate::Standings,
};

/// The header that names a request, taken from the client when it is a valid id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// nginx's status for a client that left before the answer.
const CLIENT_GONE: u16 = 499;

/// Sent with everything: no page may frame, sniff or script what comes from here.
const SECURITY: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Under TLS browsers are asked to stay there.
const A_YEAR_OF_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The one middleware.
pub(crate) async fn edge(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let is_head = request.method() == Method::HEAD;
    let mut track = Track::start(&app, &request, &id);
    request.extensions_mut().insert(id.clone());
    let dialect = Dialect::of(request.uri().path(), request.headers());
    let http2 = request.version() >= Version::HTTP_2;
    let is_encrypted = request.extensions().get::<Encrypted>().is_some();
    let origin = app.cors.allowed(request.headers());
    let speaks_protocol = speaks_protocol(request.headers());
    let mut passage = Passage::default();
    let shape = (dialect, &id);
    let handled = run(&app, request, next, origin.is_some(), &mut passage, shape);
    let handled = handled.instrument(track.span.clone()).await;
    let mut response = dialect.shape(handled, &id);
    complete_headers(&id, response.headers_mut());
    passage.standings.write(response.headers_mut());
    app.cors.write(origin, response.headers_mut());
    if is_encrypted {
        let headers = response.headers_mut();
        headers.insert(header::STRICT_TRANSPORT_SECURITY, A_YEAR_OF_TLS);
    }
    if app.services.health.lifecycle() == Lifecycle::Draining && !http2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    track.status = response.status().as_u16();
    track
        .span
        .in_scope(|| audit::note(&track.audited(), &passage));
    track.write = passage.write;
    track.held = passage.held;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && speaks_protocol {
        let chosen = HeaderValue::from_static(WEBSOCKET_PROTOCOL);
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    // A stream ends with the key that it was opened with.
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_stream = kind.is_some_and(|kind| {
        let mut streams = ["text/event-stream", "application/x-ndjson"].iter();
        streams.any(|stream| kind.as_bytes().starts_with(stream.as_bytes()))
    });
    let caller = passage.caller.filter(|_| is_stream);
    let lapse = caller.map(|caller| caller.lapse());
    response.map(|body| {
        if is_head || body.is_end_stream() {
            track.outcome = Outcome::Complete;
        }
        Body::new(Tracked { body, lapse, track })
    })
}

async fn run(
    app: &App,
    mut request: Request,
    next: Next,
    is_allowed_origin: bool,
    passage: &mut Passage,
    (dialect, id): (Dialect, &RequestId),
) -> Response {
    if is_allowed_origin && let Some(permission) = cors::preflight(&request) {
        return permission;
    }
    let admitted = admission::admit(app, &mut request, is_allowed_origin, passage).await;
    if let Err(refusal) = admitted {
        return refusal.into_response();
    }
    let _slot = match app.slots.try_acquire() {
        Ok(slot) => Some(slot),
        Err(_) if routes::is_probe(endpoint(&request)) => None,
        Err(_) => {
            counter!(SHED).increment(1);
            return ApiError::Busy.into_response();
        }
    };
    passage.write = app.cache.write(&request, endpoint(&request));
    let within = app.limits.request;
    let handled = AssertUnwindSafe(handle(app, request, next, dialect, id)).catch_unwind();
    match timeout(within, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => ApiError::Internal { what: "panic" }.into_response(),
        Err(_elapsed) => ApiError::Timeout { after: within }.into_response(),
    }
}

/// Has a request answered, once where it has a key for that. What is remembered has the shape
/// in which it is sent.
async fn handle(
    app: &App,
    request: Request,
    next: Next,
    dialect: Dialect,
    id: &RequestId,
) -> Response {
    if cache::is_cached(&request, endpoint(&request)) {
        return app.cache.answer(request, next).await;
    }
    match Once::of(&request, endpoint(&request)) {
        Ok(None) => next.run(request).await,
        Ok(Some(once)) => {
            let run = async |request| dialect.shape(next.run(request).await, id);
            app.idempotency
                .answer(once, request, &app.limits, run)
                .await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// What was found out about a request on its way in.
#[derive(Default)]
struct Passage {
    standings: Standings,
    client: Option<Peer>,
    caller: Option<Caller>,
    /// Its place among what its key has at once.
    held: Option<Arc<Hold>>,
    write: Option<Write>,
}

fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    given
        .and_then(|id| RequestId::new(id).ok())
        .unwrap_or_else(RequestId::random)
}

fn complete_headers(id: &RequestId, headers: &mut HeaderMap) {
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    // A valid id holds visible ASCII only.
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(REQUEST_ID, id);
    }
}

/// The route as written in the router.
fn endpoint(request: &Request) -> &str {
    let matched = request.extensions().get::<MatchedPath>();
    matched.map_or("unmatched", MatchedPath::as_str)
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Complete,
    ClientGone,
    Broken,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::Broken => "broken",
        }
    }
}

/// A request under way; dropping it is its end.
struct Track {
    app: Shared,
    span: Span,
    started: Instant,
    method: &'static str,
    endpoint: String,
    status: u16,
    bytes: u64,
    outcome: Outcome,
    /// What its user sees is uncertain until it ends.
    write: Option<Write>,
    held: Option<Arc<Hold>>,
    id: RequestId,
}

impl Track {
    fn start(app: &Shared, request: &Request, id: &RequestId) -> Self {
        app.active.fetch_add(1, Ordering::Relaxed);
        let (method, endpoint) = (method_label(request.method()), endpoint(request));
        let span = info_span!(
            "request",
            otel.kind = "server",
            otel.name = format_args!("{method} {endpoint}"),
            otel.status_code = Empty,
            http.request.method = method,
            http.route = endpoint,
            http.response.status_code = Empty,
            request_id = id.as_str(),
            trace_id = Empty,
            method,
            endpoint,
            session = Empty,
            key = Empty
        );
        let trace = lyceum_observe::traces::accept(&span, request.headers());
        span.record("trace_id", trace);
        Self {
            app: Arc::clone(app),
            span,
            started: Instant::now(),
            method,
            endpoint: endpoint.to_owned(),
            status: CLIENT_GONE,
            bytes: 0,
            outcome: Outcome::ClientGone,
            write: None,
            held: None,
            id: id.clone(),
        }
    }

    fn audited(&self) -> Audited<'_> {
        Audited {
            method: self.method,
            endpoint: &self.endpoint,
            status: self.status,
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.app.active.fetch_sub(1, Ordering::Relaxed);
        let took = self.started.elapsed();
        let endpoint = std::mem::take(&mut self.endpoint);
        let is_probe = routes::is_probe(&endpoint);
        let _entered = self.span.enter();
        let (status, bytes, outcome) = (self.status, self.bytes, self.outcome.label());
        self.span.record("http.response.status_code", status);
        if status >= 500 {
            self.span.record("otel.status_code", "ERROR");
        }
        let latency_ms = took.as_secs_f64() * 1_000.0;
        if is_probe {
            tracing::debug!(status, latency_ms, bytes, outcome, "request");
        } else {
            tracing::info!(status, latency_ms, bytes, outcome, "request");
            self.app.count(took, status >= 500);
            // What is refused for a while is in the figures, and would push failures out.
            if status >= 500 && status != 503 {
                self.app.failures.note(&endpoint, status, self.id.as_str());
            }
        }
        histogram!(DURATION, "method" => self.method, "endpoint" => endpoint.clone())
            .record(took.as_secs_f64());
        counter!(REQUESTS, "method" => self.method, "endpoint" => endpoint, "status" => status.to_string())
            .increment(1);
    }
}

pin_project! {
    /// A response body that is measured to its real end.
    struct Tracked {
        #[pin]
        body: Body,
        lapse: Option<BoxFuture<'static, ApiError>>,
        track: Track,
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut this = self.project();
        if let Some(lapse) = this.lapse
            && let Poll::Ready(why) = lapse.as_mut().poll(context)
        {
            this.track.outcome = Outcome::Broken;
            *this.lapse = None;
            return Poll::Ready(Some(Err(axum::Error::new(why))));
        }
        let polled = {
            let _entered = this.track.span.enter();
            ready!(this.body.as_mut().poll_frame(context))
        };
        match &polled {
            Some(Ok(frame)) => {
                this.track.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.body.is_end_stream() {
                    this.track.outcome = Outcome::Complete;
                }
            }
            Some(Err(_)) => this.track.outcome = Outcome::Broken,
            None if this.track.outcome == Outcome::Broken => {}
            None => this.track.outcome = Outcome::Complete,
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
