//! A client that knows of HTTP only what these tests look at.
//!
//! Deliberately not the load generator's client: what one of them misreads the other may
//! not.

use std::time::Duration;

use lyceum_sim::{Running, Stats};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What came back on a connection that was then closed by somebody.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// The body without the framing of chunks.
    pub(crate) body: String,
    /// How the connection ended.
    pub(crate) end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The body was complete.
    Whole,
    /// The connection closed before the body was complete.
    Cut,
    /// The connection was reset before the body was complete.
    Reset,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The values of the `data:` lines.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect()
    }
}

/// A request in OpenAI's format.
pub(crate) fn chat(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
}

/// The same, streamed.
pub(crate) fn chat_stream(text: &str) -> Value {
    let mut request = chat(text);
    request["stream"] = json!(true);
    request
}

/// Sends a request on a connection of its own and leaves the answer unread.
pub(crate) async fn send(sim: &Running, path: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: sim\r\nanthropic-version: 2023-06-01\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(sim.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Sends a request and reads its answer to the end of the connection.
pub(crate) async fn post(sim: &Running, path: &str, body: &Value) -> Response {
    let mut stream = send(sim, path, body).await;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let reset = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break false,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(_) => break true,
        }
    };
    parse(&bytes, reset)
}

/// Waits until the counters are as wanted; fails the test rather than hang.
pub(crate) async fn until(sim: &Running, wanted: impl FnMut(&Stats) -> bool) -> Stats {
    let waited = tokio::time::timeout(Duration::from_secs(20), sim.wait_for(wanted)).await;
    waited.unwrap_or_else(|_| panic!("still {:?}", sim.stats()))
}

/// Asks OpenAI's endpoint.
pub(crate) async fn ask(sim: &Running, request: &Value) -> Response {
    post(sim, "/v1/chat/completions", request).await
}

fn parse(bytes: &[u8], reset: bool) -> Response {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let (body, whole) = if chunked {
        dechunk(rest)
    } else {
        (rest.to_owned(), true)
    };
    Response {
        status,
        head: head.to_owned(),
        body,
        end: match (whole, reset) {
            (true, _) => End::Whole,
            (false, true) => End::Reset,
            (false, false) => End::Cut,
        },
    }
}

/// The chunks joined, and whether the last one was there. Texts here are ASCII, so that
/// lengths in bytes are lengths in characters.
fn dechunk(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else {
            break;
        };
        if size == 0 {
            return (body, true);
        }
        body.push_str(&tail[..size.min(tail.len())]);
        rest = tail.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}
