//! A provider at the level of bytes: it reads a request and answers as it is told,
//! with every fault a network and a server can have. It knows no dialect.
//!
//! Nothing here waits for a fixed time except [`Step::Trickle`], whose pauses are the
//! fault itself.
#![expect(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of this module"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lyceum_core::{CallContext, ChatStream};
use lyceum_core::{ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, Message, Scope};
use lyceum_llm::{Anthropic, AnthropicConfig, OpenAi, OpenAiConfig, Preset, Timeouts};
use secrecy::SecretString;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
};

pub const KEY: &str = "sk-test-only-0123456789";

/// One thing the server does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes one by one with pauses.
    Trickle(Vec<u8>, Duration),
    /// Sends bytes again and again until the client is gone.
    Flood(Vec<u8>),
    /// Says nothing until the client is gone.
    Hang,
    /// Waits for [`Server::go`].
    Wait,
    /// Breaks the connection with a reset.
    Reset,
    /// Closes the connection properly.
    Close,
}

/// A request as it came.
#[derive(Debug)]
pub struct Request {
    pub head: String,
    pub body: Value,
}

pub struct Server {
    pub url: String,
    pub requests: mpsc::UnboundedReceiver<Request>,
    /// One message for each connection that the client closed.
    pub closed: mpsc::UnboundedReceiver<()>,
    pub connections: Arc<AtomicUsize>,
    pub sent: Arc<AtomicUsize>,
    pub go: Arc<Notify>,
}

impl Server {
    /// Answers the n-th request with the n-th script, and all later ones with the last.
    pub async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (to_requests, requests) = mpsc::unbounded_channel();
        let (to_closed, closed) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let sent = Arc::new(AtomicUsize::new(0));
        let go = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            scripts,
            next: AtomicUsize::new(0),
            requests: to_requests,
            closed: to_closed,
            sent: Arc::clone(&sent),
            go: Arc::clone(&go),
        });
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                tokio::spawn(Arc::clone(&shared).serve(stream));
            }
        });
        Self {
            url,
            requests,
            closed,
            connections,
            sent,
            go,
        }
    }

    /// A server that answers every request with these bytes.
    pub async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        Self::start(vec![vec![Step::Send(answer.into())]]).await
    }

    pub fn openai(&self, timeouts: Timeouts) -> OpenAi {
        OpenAi::new(self.openai_config(timeouts)).unwrap()
    }

    pub fn openai_config(&self, timeouts: Timeouts) -> OpenAiConfig {
        OpenAiConfig {
            base_url: format!("{}/v1", self.url),
            api_key: Some(SecretString::from(KEY)),
            timeouts,
            ..OpenAiConfig::from_preset(Preset::by_name("openai").unwrap(), "test-model")
        }
    }

    pub fn anthropic(&self, timeouts: Timeouts) -> Anthropic {
        Anthropic::new(AnthropicConfig {
            base_url: self.url.clone(),
            api_key: Some(SecretString::from(KEY)),
            timeouts,
            ..AnthropicConfig::from_preset(Preset::by_name("anthropic").unwrap(), "test-model")
        })
        .unwrap()
    }

    /// Waits until the client has closed a connection.
    pub async fn client_gone(&mut self) {
        let gone = tokio::time::timeout(Duration::from_secs(1), self.closed.recv());
        gone.await
            .expect("closed within 1 s")
            .expect("a connection");
    }
}

struct Shared {
    scripts: Vec<Vec<Step>>,
    next: AtomicUsize,
    requests: mpsc::UnboundedSender<Request>,
    closed: mpsc::UnboundedSender<()>,
    sent: Arc<AtomicUsize>,
    go: Arc<Notify>,
}

impl Shared {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut buffer).await {
            let _ = self.requests.send(request);
            let nth = self.next.fetch_add(1, Ordering::SeqCst);
            let script = &self.scripts[nth.min(self.scripts.len() - 1)];
            for step in script {
                if !self.step(step, &mut stream).await {
                    return;
                }
            }
        }
        let _ = self.closed.send(());
    }

    /// Says whether the connection goes on.
    async fn step(&self, step: &Step, stream: &mut TcpStream) -> bool {
        match step {
            Step::Send(bytes) => self.write(bytes, stream).await,
            Step::Trickle(bytes, pause) => {
                let mut pause = tokio::time::interval(*pause);
                for byte in bytes {
                    pause.tick().await;
                    if !self.write(&[*byte], stream).await {
                        return false;
                    }
                }
                true
            }
            Step::Flood(bytes) => {
                while self.write(bytes, stream).await {}
                false
            }
            Step::Hang => {
                let mut rest = [0; 64];
                while let Ok(1..) = stream.read(&mut rest).await {}
                let _ = self.closed.send(());
                false
            }
            Step::Wait => {
                self.go.notified().await;
                true
            }
            Step::Reset => {
                stream.set_zero_linger().unwrap();
                false
            }
            Step::Close => false,
        }
    }

    async fn write(&self, bytes: &[u8], stream: &mut TcpStream) -> bool {
        let written = stream.write_all(bytes).await.is_ok();
        if written {
            self.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        } else {
            let _ = self.closed.send(());
        }
        written
    }
}

/// Reads one request; `None` when the client is gone.
pub async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..head_end).collect()).unwrap();
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body: Vec<u8> = buffer.drain(..length).collect();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Request { head, body })
}

/// A complete answer with a length.
pub fn plain(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// The head of an event stream in chunks.
pub fn stream_head() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    head.as_bytes().to_vec()
}

/// One chunk of a body in chunks.
pub fn chunk(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut framed = format!("{:x}\r\n", body.len()).into_bytes();
    framed.extend_from_slice(body);
    framed.extend_from_slice(b"\r\n");
    framed
}

/// The end of a body in chunks.
pub const END: &[u8] = b"0\r\n\r\n";

/// A complete event stream.
pub fn events(body: &str) -> Vec<u8> {
    [stream_head(), chunk(body), END.to_vec()].concat()
}

pub fn call() -> CallContext {
    CallContext::new(Scope::local())
}

pub fn hello() -> Arc<ChatRequest> {
    Arc::new(ChatRequest::new([Message::user("hello")]))
}

pub fn ask(model: &dyn ChatModel) -> ChatStream {
    model.stream(call(), hello())
}

pub async fn collect(model: &dyn ChatModel) -> Result<ChatAnswer, ChatError> {
    ChatAnswer::collect(ask(model)).await
}

/// All events, and the error that ended them.
pub async fn drain(mut stream: ChatStream) -> (Vec<ChatEvent>, Option<ChatError>) {
    use futures_util::StreamExt;
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

/// Limits that let a test of a time-out end soon, and are long enough for a busy machine.
pub fn short() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        first_token: Duration::from_millis(1_000),
        between_chunks: Duration::from_millis(400),
        total: Duration::from_secs(20),
    }
}
