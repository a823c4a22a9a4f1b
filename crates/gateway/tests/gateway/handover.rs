//! Event streams among other answers on one connection of HTTP/1.1.

use futures_util::{StreamExt, stream};
use lyceum_core::{TeachEvent, TeachStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{EXPLANATION, Reply, Running, Scripted, lesson, serve, soon};

/// A request after which the connection stays open.
fn lasting(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn streamed() -> String {
    lasting("POST", "/chat/stream", EXPLANATION)
}

fn probed() -> String {
    lasting("GET", "/livez", "")
}

async fn connected(server: &Running) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// One answer of several on a connection, as the bytes that it has.
async fn next(client: &mut TcpStream, rest: &mut Vec<u8>) -> Reply {
    loop {
        if let Some(end) = end_of_first(rest) {
            let answer: Vec<u8> = rest.drain(..end).collect();
            return Reply::parse(&answer);
        }
        let mut piece = [0; 4_096];
        let read = soon(client.read(&mut piece)).await.unwrap();
        assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(rest));
        rest.extend_from_slice(&piece[..read]);
    }
}

fn end_of_first(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let head = text.find("\r\n\r\n")? + 4;
    let fields = text[..head].to_lowercase();
    if fields.contains("transfer-encoding: chunked") {
        return Some(head + text[head..].find("\r\n0\r\n\r\n")? + 7);
    }
    let length = fields.split("content-length: ").nth(1)?;
    let length: usize = length.split("\r\n").next()?.parse().ok()?;
    (bytes.len() >= head + length).then_some(head + length)
}

fn is_lesson(reply: &Reply) -> bool {
    reply.status == 200
        && reply.header("content-type") == Some("text/event-stream; charset=utf-8")
        && reply.header("date").is_some()
        && reply.header("x-request-id").is_some()
        && reply.body.starts_with("id: 1\n")
        && reply.body.ends_with("data: \"[END_OF_STREAM]\"\n\n")
}

#[tokio::test]
async fn streams_and_other_answers_share_a_connection() {
    let server = serve(Scripted::thorough()).await;
    let (mut client, mut rest) = (connected(&server).await, Vec::new());
    for _ in 0..3 {
        for (asked, is_stream) in [(streamed(), true), (probed(), false)] {
            client.write_all(asked.as_bytes()).await.unwrap();
            let reply = next(&mut client, &mut rest).await;
            assert_eq!(reply.status, 200);
            assert_eq!(is_lesson(&reply), is_stream, "{reply:?}");
        }
    }
    assert!(rest.is_empty());
}

#[tokio::test]
async fn what_is_asked_behind_a_stream_is_answered_after_it() {
    let server = serve(Scripted::thorough()).await;
    let (mut client, mut rest) = (connected(&server).await, Vec::new());
    let asked = [streamed(), streamed(), probed(), streamed(), probed()];
    client.write_all(asked.concat().as_bytes()).await.unwrap();
    for asked in &asked {
        let reply = next(&mut client, &mut rest).await;
        assert_eq!(is_lesson(&reply), *asked == streamed(), "{reply:?}");
    }
}

#[tokio::test]
async fn what_is_asked_while_a_stream_is_silent_is_answered_after_it() {
    let (begun, go_on) = (
        tokio::sync::mpsc::channel(1),
        tokio::sync::Semaphore::new(0),
    );
    let go_on = std::sync::Arc::new(go_on);
    let ((begins, mut begun), gate) = (begun, go_on.clone());
    let student = Scripted::new(move |explanation| {
        let (begins, gate) = (begins.clone(), gate.clone());
        let said = stream::iter([Ok(TeachEvent::Text("hm".into()))]);
        let lesson = stream::once(async move {
            begins.send(()).await.unwrap();
            gate.acquire().await.unwrap().forget();
            Ok(TeachEvent::Finished(Box::new(lesson(&explanation))))
        });
        Box::pin(said.chain(lesson)) as TeachStream
    });
    let server = serve(student).await;
    let (mut client, mut rest) = (connected(&server).await, Vec::new());
    client.write_all(streamed().as_bytes()).await.unwrap();
    soon(begun.recv()).await.unwrap();
    // More than the server reads ahead, in pieces: what it does not read stays with the client.
    let long = lasting("POST", "/chat", &(" ".repeat(20_000) + EXPLANATION));
    let asked = [long, probed()].concat();
    let (mut reader, mut writer) = client.split();
    let send = async {
        for piece in asked.as_bytes().chunks(1_500) {
            writer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        go_on.add_permits(2);
    };
    let receive = async {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains("END_OF_STREAM") {
            let mut piece = [0; 4_096];
            let read = soon(reader.read(&mut piece)).await.unwrap();
            all.extend_from_slice(&piece[..read]);
        }
        all
    };
    let ((), mut all) = tokio::join!(send, receive);
    rest.append(&mut all);
    let statuses = [
        next(&mut client, &mut rest).await.status,
        next(&mut client, &mut rest).await.status,
        next(&mut client, &mut rest).await.status,
    ];
    assert_eq!(statuses, [200, 200, 200]);
}

#[tokio::test]
async fn a_body_that_nobody_read_is_no_request() {
    let server = serve(Scripted::thorough()).await;
    let durable = EXPLANATION.replace('}', r#","durable":true}"#);
    let started = server.post("/chat/stream", &durable).await;
    let place = started.header("content-location").unwrap().to_owned();
    let (mut client, mut rest) = (connected(&server).await, Vec::new());
    let asked = [lasting("GET", &place, &probed()), streamed()].concat();
    client.write_all(asked.as_bytes()).await.unwrap();
    let first = next(&mut client, &mut rest).await;
    assert_eq!(first.status, 200);
    assert_eq!(
        first.body, started.body,
        "the stream again, and nothing else"
    );
    assert!(is_lesson(&next(&mut client, &mut rest).await));
    assert!(rest.is_empty());
}

#[tokio::test]
async fn who_speaks_an_older_version_gets_a_stream_without_chunks() {
    let server = serve(Scripted::thorough()).await;
    let asked = streamed().replace("HTTP/1.1", "HTTP/1.0");
    let reply = server.send(asked).await;
    assert!(is_lesson(&reply), "{reply:?}");
    assert_eq!(reply.header("transfer-encoding"), None);
}

#[tokio::test]
async fn a_client_that_asks_to_close_is_closed_on() {
    let server = serve(Scripted::thorough()).await;
    let reply = server.post("/chat/stream", EXPLANATION).await;
    assert!(is_lesson(&reply), "{reply:?}");
    assert_eq!(reply.header("connection"), Some("close"));
}

/// RFC 9112, section 6.1: whoever reads only one of the two fields sees another end.
#[tokio::test]
async fn a_request_with_two_lengths_is_the_last() {
    let server = serve(Scripted::thorough()).await;
    let size = format!("{:x}", EXPLANATION.len());
    let two = "POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    for fields in [
        "Content-Length: 400\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 400",
    ] {
        let asked = format!(
            "{two}{fields}\r\n\r\n{size}\r\n{EXPLANATION}\r\n0\r\n\r\n{}",
            probed()
        );
        let mut client = connected(&server).await;
        client.write_all(asked.as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        let _ = soon(client.read_to_end(&mut answers)).await;
        let text = String::from_utf8(answers).unwrap();
        assert!(text.contains("connection: close"), "{text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_gets_its_stream() {
    let server = serve(Scripted::thorough()).await;
    let (mut client, mut rest) = (connected(&server).await, Vec::new());
    let asked = streamed().replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    for _ in 0..2 {
        client.write_all(asked.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        soon(client.read_exact(&mut go_on)).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert!(is_lesson(&next(&mut client, &mut rest).await));
    }
}
