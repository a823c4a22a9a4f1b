//! A scripted student, a gateway around it, and a client that writes raw bytes.
//!
//! The client is no HTTP library on purpose: the tests send what no library would.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream;
use lyceum_core::{
    CallContext, Conversation, Explanation, Gap, GapKind, Lesson, Memorized, QueuePosition, Role,
    Severity, Student, TeachError, TeachEvent, TeachStream, Tokens, ToolTrace, Turn, Usage,
};
use lyceum_gateway::{
    ApiKey, AuthConfig, Bound, Catalog, Gateway, GatewayConfig, Info, KeyRules, Server,
    ServerConfig, Services, Stopped,
};
use lyceum_observe::{Health, Lifecycle, ProcessStats, ProcessWatch};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

type Script = Box<dyn Fn(Explanation) -> TeachStream + Send + Sync>;

/// A student that does what the script says and remembers what it was asked.
pub(crate) struct Scripted {
    script: Script,
    pub(crate) taught: Mutex<Vec<(CallContext, Explanation)>>,
    pub(crate) memorized: Mutex<Vec<Conversation>>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(crate) fn new(
        script: impl Fn(Explanation) -> TeachStream + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            taught: Mutex::default(),
            memorized: Mutex::default(),
        })
    }

    /// Every kind of event, in the order of a real lesson.
    pub(crate) fn thorough() -> Arc<Self> {
        Self::new(|explanation| Box::pin(stream::iter(all_events(&explanation).map(Ok))))
    }

    /// One failure.
    pub(crate) fn failing(error: impl Fn() -> TeachError + Send + Sync + 'static) -> Arc<Self> {
        Self::new(move |_| Box::pin(stream::iter([Err(error())])))
    }
}

#[async_trait]
impl Student for Scripted {
    fn teach(&self, call: CallContext, explanation: Explanation) -> TeachStream {
        self.taught
            .lock()
            .unwrap()
            .push((call, explanation.clone()));
        (self.script)(explanation)
    }

    async fn memorize(
        &self,
        _call: CallContext,
        conversation: Conversation,
    ) -> Result<Memorized, TeachError> {
        let summary = format!(
            "{} turns on {}",
            conversation.history.len(),
            conversation.topic
        );
        self.memorized.lock().unwrap().push(conversation);
        Ok(Memorized {
            id: "m-1".into(),
            summary,
            provider: "scripted".into(),
        })
    }
}

pub(crate) fn lesson(explanation: &Explanation) -> Lesson {
    let turn = |role, content: &str| Turn {
        role,
        content: content.to_owned(),
    };
    let mut memory = explanation.short_term_memory.clone();
    memory.push(turn(Role::User, &explanation.text));
    memory.push(turn(Role::Assistant, "Why?"));
    Lesson {
        session: explanation.session.clone(),
        questions: vec!["Why?".into()],
        gaps: vec![gap()],
        short_term_memory: memory,
        provider: "scripted".into(),
        model: Some("script-1".into()),
        degraded: vec!["memory".into()],
        tools: vec![tool()],
        usage: Usage {
            input: Tokens(7),
            output: Tokens(3),
            cached_input: Tokens(2),
            cache_write: Tokens(0),
        },
    }
}

fn gap() -> Gap {
    Gap {
        confidence: lyceum_core::Confidence::default(),
        kind: GapKind::MissingMechanism,
        quote: "turn light".into(),
        reason: "How?".into(),
        severity: Severity::High,
    }
}

fn tool() -> ToolTrace {
    ToolTrace {
        tool: "calculate".into(),
        arguments: "1+1".into(),
        result: "2".into(),
        ok: true,
    }
}

pub(crate) fn all_events(explanation: &Explanation) -> [TeachEvent; 7] {
    [
        TeachEvent::Queued(QueuePosition {
            position: 2,
            estimated_wait: Some(Duration::from_millis(1_500)),
        }),
        TeachEvent::Node("gap_identifier"),
        TeachEvent::Tool(tool()),
        TeachEvent::Gaps(vec![gap()]),
        TeachEvent::Text("为什么\n".into()),
        TeachEvent::Text("Why?".into()),
        TeachEvent::Finished(Box::new(lesson(explanation))),
    ]
}

/// What the machine under a gateway of these tests is busy with: nothing, so that heartbeats
/// do not depend on what else runs here.
fn idle() -> Arc<ProcessWatch> {
    Arc::new(ProcessWatch::fixed(ProcessStats {
        resident_bytes: 1 << 20,
        memory_limit_bytes: 1 << 30,
        ..ProcessStats::default()
    }))
}

/// The gateway of a student, ready, with the given health and configuration.
pub(crate) fn gateway(student: Arc<Scripted>, config: &GatewayConfig, health: Health) -> Gateway {
    lending(Catalog::default(), student, config, health)
}

/// The gateway of a student that lends models too.
pub(crate) fn lending(
    models: Catalog,
    student: Arc<Scripted>,
    config: &GatewayConfig,
    health: Health,
) -> Gateway {
    health.enter(Lifecycle::Ready);
    let services = Services {
        student,
        models,
        health,
        metrics: Box::new(|| "up 1\n".to_owned()),
        process: idle(),
        info: Info {
            version: "1.2.3".into(),
            service_id: "replica-1".into(),
            provider: "scripted".into(),
            model: None,
        },
    };
    Gateway::new(config, services)
}

/// A server that listens on a free port of this machine.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) stopped: JoinHandle<Stopped>,
}

pub(crate) async fn listen(gateway: Gateway, config: ServerConfig) -> Running {
    let any = "127.0.0.1:0".parse().unwrap();
    let bound: Bound = Server::new(gateway, config).bind(any).await.unwrap();
    let (address, shutdown) = (bound.local_addr(), CancellationToken::new());
    let stopped = tokio::spawn(bound.serve(shutdown.clone()));
    Running {
        address,
        shutdown,
        stopped,
    }
}

/// A server with defaults.
pub(crate) async fn serve(student: Arc<Scripted>) -> Running {
    let gateway = gateway(student, &GatewayConfig::default(), Health::default());
    listen(gateway, ServerConfig::default()).await
}

impl Running {
    /// Sends bytes on a connection of their own and reads the answer.
    pub(crate) async fn send(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_ref()).await.unwrap();
        Reply::read(&mut stream).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(request("GET", path, &[], b"")).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.send(post(path, &[], body.as_ref())).await
    }
}

/// A key of the tenant `acme` that is its own name.
pub(crate) fn key(name: &str, rules: KeyRules) -> ApiKey {
    ApiKey {
        name: name.into(),
        tenant: "acme".parse().unwrap(),
        user: name.parse().unwrap(),
        sha256: ApiKey::digest(name),
        replaced: None,
        rules,
    }
}

/// The gateway of a student that needs one of these keys.
pub(crate) fn with_keys(student: Arc<Scripted>, keys: Vec<ApiKey>) -> Gateway {
    let config = GatewayConfig {
        auth: AuthConfig {
            keys,
            ..AuthConfig::default()
        },
        ..GatewayConfig::default()
    };
    gateway(student, &config, Health::default())
}

/// A server of this gateway with defaults.
pub(crate) async fn served(gateway: &Gateway) -> Running {
    listen(gateway.clone(), ServerConfig::default()).await
}

/// Sends a JSON request with a key.
pub(crate) async fn as_key(
    server: &Running,
    key: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Reply {
    let headers = [("x-api-key", key), ("content-type", "application/json")];
    server
        .send(request(method, path, &headers, body.as_bytes()))
        .await
}

/// A request on a connection that is closed after it.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A JSON request.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend_from_slice(headers);
    request("POST", path, &all, body)
}

pub(crate) const EXPLANATION: &str = r#"{"topic":"photosynthesis","explanation":"Plants turn light into sugar.","session_id":"s-1"}"#;

/// What a future gives; a test that would wait for ever fails instead. No limit of the
/// gateway is longer than ten minutes, and under a paused clock they cost nothing.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    let patience = Duration::from_secs(700);
    timeout(patience, future).await.unwrap()
}

/// An answer, its chunks joined.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// Reads an answer until the server closes the connection.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Self {
        let mut bytes = Vec::new();
        // A reset after the answer is how a server closes on a client that still writes.
        let _ = soon(stream.read_to_end(&mut bytes)).await;
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let is_chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
        Self {
            status: status
                .and_then(|status| status.parse().ok())
                .unwrap_or_default(),
            body: if is_chunked {
                join_chunks(body)
            } else {
                body.to_owned()
            },
            headers,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The `detail` of an error.
    pub(crate) fn detail(&self) -> String {
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["detail"].as_str().unwrap().to_owned()
    }
}

fn join_chunks(mut text: &str) -> String {
    let mut joined = Vec::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        joined.extend_from_slice(&rest.as_bytes()[..size]);
        text = rest.get(size + 2..).unwrap_or_default();
    }
    String::from_utf8(joined).unwrap()
}
