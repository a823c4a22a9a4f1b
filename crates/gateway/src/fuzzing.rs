//! What takes bytes from outside, with what has to hold for any: the entry points of the fuzz targets
//! in `fuzz/`, and of property tests here.
//!
//! Invariant: no input makes any of them panic. Deliberately absent in builds other than tests and
//! fuzzing.

use std::{cell::RefCell, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::body::Body;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use lyceum_core::{
    CallContext, Conversation, Explanation, Memorized, MemoryRecords, Student, TeachError,
    TeachStream,
};
use lyceum_graph::MemorySaver;
use lyceum_observe::{Health, Lifecycle, ProcessStats, ProcessWatch};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    Catalog, ForwardedHeader, Gateway, GatewayConfig, Info, Services, TrustedProxies, auth, body,
    edge::address::Peer,
    langgraph::{self, Platform},
    server::fuzzing as server,
};

/// The deepest JSON that is taken.
const DEPTH: usize = 128;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many requests a gateway answers before a new one takes its place: what they create stays.
const REQUESTS: usize = 2_000;
/// A thread that is there, and one that is not.
const THREAD: &str = "00000000-0000-4000-8000-000000000001";
const EXPLANATION: &str = r#"{"topic":"light","explanation":"It is so.","session_id":"s-1"}"#;

/// Routes that read a body.
const BODIES: [&str; 11] = [
    "/chat",
    "/chat/stream",
    "/memorize",
    "/panel",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
    "/memories/search",
    "/mcp",
];

/// Routes of the LangGraph API; `T` stands for a thread.
const LANGGRAPH: [(Method, &str); 22] = [
    (Method::POST, "/threads"),
    (Method::POST, "/threads/search"),
    (Method::POST, "/threads/count"),
    (Method::POST, "/threads/prune"),
    (Method::GET, "/threads/T"),
    (Method::PATCH, "/threads/T"),
    (Method::POST, "/threads/T/copy"),
    (Method::GET, "/threads/T/state"),
    (Method::POST, "/threads/T/state"),
    (Method::POST, "/threads/T/state/checkpoint"),
    (Method::POST, "/threads/T/history"),
    (Method::POST, "/threads/T/commands"),
    (Method::POST, "/threads/T/runs"),
    (Method::POST, "/runs/batch"),
    (Method::POST, "/runs/cancel"),
    (Method::POST, "/runs/crons"),
    (Method::POST, "/runs/crons/search"),
    (Method::POST, "/assistants/search"),
    (Method::PUT, "/store/items"),
    (Method::GET, "/store/items"),
    (Method::POST, "/store/items/search"),
    (Method::POST, "/store/namespaces"),
];

/// Fields of a request whose values are looked at.
const FIELDS: [&str; 16] = [
    "x-forwarded-for",
    "forwarded",
    "last-event-id",
    "idempotency-key",
    "sec-websocket-protocol",
    "authorization",
    "x-api-key",
    "x-session-id",
    "content-type",
    "content-encoding",
    "content-length",
    "accept",
    "accept-encoding",
    "origin",
    "if-none-match",
    "traceparent",
];

/// Routes on which fields are looked at.
const ROUTES: [(Method, &str); 5] = [
    (Method::POST, "/chat"),
    (Method::POST, "/chat/stream"),
    (Method::GET, "/streams/00000000-0000-4000-8000-000000000001"),
    (
        Method::GET,
        "/threads/00000000-0000-4000-8000-000000000001/stream",
    ),
    (Method::GET, "/"),
];

/// A student that is always away.
#[derive(Debug)]
struct Away;

fn away() -> TeachError {
    TeachError::Storage {
        retryable: true,
        source: "it is away".into(),
    }
}

impl Student for Away {
    fn teach(&self, _: CallContext, _: Explanation) -> TeachStream {
        Box::pin(futures_util::stream::iter([Err(away())]))
    }

    fn memorize<'s, 'f>(
        &'s self,
        _: CallContext,
        _: Conversation,
    ) -> Pin<Box<dyn Future<Output = Result<Memorized, TeachError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async { Err(away()) })
    }
}

/// A gateway, and what it runs in.
struct World {
    runtime: Runtime,
    gateway: Gateway,
    left: usize,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn gateway() -> Gateway {
    let health = Health::default();
    health.enter(Lifecycle::Ready);
    let services = Services {
        student: Arc::new(Away),
        models: Catalog::default(),
        health,
        metrics: Box::new(String::new),
        process: Arc::new(ProcessWatch::fixed(ProcessStats::default())),
        info: Info {
            version: "1".to_owned(),
            service_id: "a".to_owned(),
            provider: "none".to_owned(),
            model: None,
        },
    };
    let proxies = TrustedProxies::new(["10.0.0.0/8"], ForwardedHeader::XForwardedFor);
    let config = GatewayConfig {
        proxies: proxies.unwrap_or_default(),
        ..GatewayConfig::default()
    };
    let records = || Arc::new(MemoryRecords::new());
    let platform = Platform::new([], records(), Arc::new(MemorySaver::new()));
    Gateway::new(&config, services)
        .with_responses(records())
        .with_langgraph(platform)
}

impl World {
    fn new() -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .ok()?;
        let gateway = runtime.block_on(async {
            let gateway = gateway();
            let thread = json_of(format!(r#"{{"thread_id":"{THREAD}"}}"#));
            let made = ask(&gateway, Method::POST, "/threads", thread).await;
            assert_eq!(made, Some(StatusCode::OK));
            gateway
        });
        Some(Self {
            runtime,
            gateway,
            left: REQUESTS,
        })
    }
}

/// Does something with the gateway of this thread.
fn with<T: Default>(work: impl AsyncFnOnce(&Gateway) -> T) -> T {
    WORLD.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|world| world.left == 0) {
            *kept = World::new();
        }
        assert!(kept.is_some(), "there is no runtime");
        let Some(world) = kept else {
            return T::default();
        };
        world.left -= 1;
        world.runtime.block_on(work(&world.gateway))
    })
}

/// Fields and a body.
type Asked = (HeaderMap, Body);

fn json_of(body: impl Into<Body>) -> Asked {
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, json)]);
    (headers, body.into())
}

/// The status of the answer, which was read to its end but for a stream of events; nothing where
/// there is no such address.
///
/// Whatever was asked, the answer is not that the server has failed.
async fn ask(
    gateway: &Gateway,
    method: Method,
    target: &str,
    (headers, body): Asked,
) -> Option<StatusCode> {
    let request = Request::builder().method(method).uri(target).body(body);
    let mut request = request.ok()?;
    *request.headers_mut() = headers;
    let peer = std::net::IpAddr::from([10, 0, 0, 1]);
    request.extensions_mut().insert(Peer::Net(peer));
    let response = gateway.answer(request).await;
    let status = response.status();
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{target}");
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if is_stream {
        // It may have no end.
        let _ = response.into_body().frame().now_or_never();
        return Some(status);
    }
    let read = tokio::time::timeout(PATIENCE, response.into_body().collect());
    assert!(read.await.is_ok(), "the answer of {target} does not end");
    Some(status)
}

/// Takes a number off the front.
fn choose<'a, T>(bytes: &'a [u8], from: &'a [T]) -> Option<(&'a T, &'a [u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((from.get(usize::from(*first) % from.len())?, rest))
}

/// What a client sends over a connection without TLS: HTTP/1.1 or HTTP/2.
pub fn connection(bytes: &[u8]) {
    let all = with(async |gateway| server::exchange(gateway, bytes, 0).await);
    let is_http2 = bytes.starts_with(b"PRI * HTTP/2.0");
    assert!(
        all.is_empty() || is_http2 || all.starts_with(b"HTTP/1."),
        "{:?}",
        String::from_utf8_lossy(&all)
    );
}

/// What a proxy says in front of a connection.
pub fn proxy_header(bytes: &[u8]) {
    server::proxy_header(bytes);
}

/// A text message over a WebSocket: something is said to it, or the connection closed.
pub fn web_socket(bytes: &[u8]) {
    const HANDSHAKE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // RFC 6455, section 5.2: a whole text, masked with nothing.
    let mut all = [HANDSHAKE, &[0x81]].concat();
    match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
        (Ok(length @ 0..126), _) => all.push(0x80 | length),
        (_, Ok(length)) => {
            all.push(0xfe);
            all.extend(length.to_be_bytes());
        }
        _ => {
            all.push(0xff);
            all.extend((bytes.len() as u64).to_be_bytes());
        }
    }
    all.extend([0; 4]);
    all.extend(bytes);
    let said = with(async |gateway| server::exchange(gateway, &all, 2).await);
    assert!(
        said.starts_with(b"HTTP/1.1 101"),
        "{:?}",
        String::from_utf8_lossy(&said)
    );
}

/// The value of a field of a request: the first byte says of which, the second on which route, and
/// each line is one value.
pub fn field(bytes: &[u8]) {
    let Some((name, rest)) = choose(bytes, &FIELDS) else {
        return;
    };
    let Some(((method, path), values)) = choose(rest, &ROUTES) else {
        return;
    };
    let (mut headers, body) = match *method {
        Method::POST => json_of(EXPLANATION),
        _ => (HeaderMap::new(), Body::empty()),
    };
    let name = HeaderName::from_static(name);
    headers.remove(&name);
    for value in values.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name.clone(), value);
        }
    }
    for how in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let Ok(proxies) = TrustedProxies::new(["10.0.0.0/8"], how) else {
            continue;
        };
        for peer in [
            Peer::Local,
            Peer::Told([10, 0, 0, 1].into()),
            Peer::Net([192, 0, 2, 1].into()),
        ] {
            assert_eq!(
                proxies.client(peer, &headers),
                peer,
                "a stranger is believed"
            );
        }
        let proxy = Peer::Net([10, 0, 0, 1].into());
        assert!(matches!(proxies.client(proxy, &headers), Peer::Net(_)));
    }
    auth::fuzzing::ticket(values);
    with(async |gateway| ask(gateway, method.clone(), path, (headers, body)).await);
}

/// What is presented as a token of an issuer.
pub fn token(bytes: &[u8]) {
    auth::fuzzing::token(bytes);
}

/// What an issuer's address answers with.
pub fn key_set(bytes: &[u8]) {
    auth::fuzzing::key_set(bytes);
}

/// A body: the first byte says on which route, the second whether it is said to be gzip.
pub fn body(bytes: &[u8]) {
    let Some((path, rest)) = choose(bytes, &BODIES) else {
        return;
    };
    let Some((is_gzip, body)) = choose(rest, &[false, false, false, true]) else {
        return;
    };
    let (mut headers, body) = json_of(body.to_vec());
    if *is_gzip {
        let gzip = HeaderValue::from_static("gzip");
        headers.insert(http::header::CONTENT_ENCODING, gzip);
    }
    with(async |gateway| ask(gateway, Method::POST, path, (headers, body)).await);
}

/// JSON as every body is read: no deeper than [`DEPTH`], no NUL, and all else that is JSON.
pub fn json(bytes: &[u8]) {
    fn is_fine(value: &Value, depth: usize) -> bool {
        match value {
            Value::Array(all) => depth < DEPTH && all.iter().all(|value| is_fine(value, depth + 1)),
            Value::Object(all) => {
                depth < DEPTH
                    && all
                        .iter()
                        .all(|(name, value)| !name.contains('\0') && is_fine(value, depth + 1))
            }
            Value::String(text) => !text.contains('\0'),
            _ => true,
        }
    }
    let read = body::parse::<Value>(bytes);
    let plain = serde_json::from_slice::<Value>(bytes);
    match (read, plain) {
        (Ok(read), Ok(plain)) => {
            assert_eq!(read, plain);
            assert!(is_fine(&read, 0), "what is refused was taken");
        }
        (Ok(_), Err(error)) => assert!(error.is_data(), "what is no JSON was taken: {error}"),
        // Of a name that comes twice the last is kept, so what was refused may not be seen.
        (Err(_), _) => {}
    }
}

/// A request of the LangGraph API: the first byte says on which route, the first line is the query
/// and the rest the body.
pub fn langgraph(bytes: &[u8]) {
    let Some(((method, path), rest)) = choose(bytes, &LANGGRAPH) else {
        return;
    };
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let query = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let body = parts.next().unwrap_or_default();
    langgraph::fuzzing::text(&query);
    if let Ok(body) = body::parse::<Value>(body) {
        langgraph::fuzzing::body(&body);
    }
    let target = format!("{}?{query}", path.replace("/T", &format!("/{THREAD}")));
    let asked = json_of(body.to_vec());
    with(async |gateway| ask(gateway, method.clone(), &target, asked).await);
}

#[cfg(test)]
mod tests;
