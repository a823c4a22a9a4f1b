//! Slow, silent and stalled clients and students, in memory under a paused clock.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use lyceum_core::{TeachEvent, TeachStream};
use lyceum_gateway::{GatewayConfig, Limits, Server, ServerConfig};
use lyceum_observe::Health;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::support::{EXPLANATION, Reply, Scripted, gateway, post, soon};

/// A connection to a server with default limits.
fn connect(student: std::sync::Arc<Scripted>, buffer: usize) -> DuplexStream {
    let gateway = gateway(student, &GatewayConfig::default(), Health::default());
    let server = Server::new(gateway, ServerConfig::default());
    let (client, io) = duplex(buffer);
    tokio::spawn(async move { server.connection(io).await });
    client
}

/// A student that follows a timetable: it speaks after each wait, and never ends.
fn speaks_after(waits: &'static [u64]) -> std::sync::Arc<Scripted> {
    Scripted::new(move |_| {
        let words = stream::iter(waits).then(|&seconds| async move {
            sleep(Duration::from_secs(seconds)).await;
            Ok(TeachEvent::Text(format!("{seconds}")))
        });
        Box::pin(words.chain(stream::pending()))
    })
}

async fn streamed(student: std::sync::Arc<Scripted>) -> (String, Duration) {
    let mut client = connect(student, 1 << 20);
    let begun = Instant::now();
    let request = post("/chat/stream", &[], EXPLANATION.as_bytes());
    client.write_all(&request).await.unwrap();
    let reply = Reply::read(&mut client).await;
    (reply.body, begun.elapsed())
}

const TIMED_OUT: &str =
    "\ndata: {\"detail\":\"the model did not answer in time: try again\",\"retryable\":true}\n\n";

#[tokio::test(start_paused = true)]
async fn silence_is_filled_with_a_comment_every_fifteen_seconds() {
    let (body, took) = streamed(speaks_after(&[40, 10, 31])).await;
    let limits = Limits::default();
    let beat = ": \n\n";
    let expected = format!(
        "{beat}{beat}id: 1\ndata: \"40\"\n\nid: 2\ndata: \"10\"\n\n{beat}{beat}\
         id: 3\ndata: \"31\"\n\n{beat}{beat}{beat}id: 4\nevent: error{TIMED_OUT}\
         id: 5\ndata: \"[END_OF_STREAM]\"\n\n"
    );
    assert_eq!(body, expected);
    let spoken = Duration::from_secs(40 + 10 + 31);
    assert_eq!(took.as_secs(), (spoken + limits.between_events).as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_student_that_never_begins_is_given_up() {
    let (body, took) = streamed(speaks_after(&[])).await;
    assert!(
        body.contains(&format!("id: 1\nevent: error{TIMED_OUT}")),
        "{body}"
    );
    assert_eq!(took.as_secs(), Limits::default().first_event.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_the_latest_after_its_limit() {
    let student = Scripted::new(|_| {
        Box::pin(stream::repeat(()).then(|()| async {
            sleep(Duration::from_secs(14)).await;
            Ok(TeachEvent::Text("and".into()))
        }))
    });
    let (body, took) = streamed(student).await;
    assert!(body.contains(TIMED_OUT), "{body}");
    assert_eq!(took.as_secs(), Limits::default().stream.as_secs());
}

#[tokio::test(start_paused = true)]
async fn slow_headers_and_idle_connections_are_closed() {
    let limit = ServerConfig::default().header_read;
    for sent in ["GET /livez HTTP/1.1\r\nHost: local", ""] {
        let mut client = connect(Scripted::thorough(), 1_024);
        client.write_all(sent.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let mut read = Vec::new();
        let _ = soon(client.read_to_end(&mut read)).await;
        assert_eq!(begun.elapsed().as_secs(), limit.as_secs(), "{sent:?}");
    }
    // A drop every few seconds gains nothing.
    let mut client = connect(Scripted::thorough(), 1_024);
    let begun = Instant::now();
    let mut drops = 0;
    while client
        .write_all(b"GET / HTTP/1.1\r\n"[..1].as_ref())
        .await
        .is_ok()
    {
        sleep(Duration::from_secs(3)).await;
        drops += 1;
        assert!(drops < 10, "still open after {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_after_a_stream_is_closed() {
    let mut client = connect(Scripted::thorough(), 1 << 20);
    let request = post("/chat/stream", &[], EXPLANATION.as_bytes());
    let request = String::from_utf8(request).unwrap();
    let lasting = request.replace("Connection: close\r\n", "");
    client.write_all(lasting.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let reply = Reply::read(&mut client).await;
    assert!(reply.body.contains("END_OF_STREAM"), "{reply:?}");
    let limit = ServerConfig::default().header_read;
    assert_eq!(begun.elapsed().as_secs(), limit.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_given_up() {
    let mut client = connect(Scripted::thorough(), 1_024);
    let head = "POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 100\r\n\r\n{\"topic\"";
    client.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let reply = Reply::read(&mut client).await;
    assert_eq!(
        begun.elapsed().as_secs(),
        Limits::default().body_read.as_secs()
    );
    assert_eq!(reply.status, 408);
    assert!(reply.detail().contains("did not arrive within 10 s"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_too_long_is_given_up_and_its_work_dropped() {
    let dropped = CancellationToken::new();
    let drops = dropped.clone();
    let student = Scripted::new(move |_| {
        let guard = drops.clone().drop_guard();
        Box::pin(stream::once(async move {
            let _guard = guard;
            std::future::pending().await
        })) as TeachStream
    });
    let mut client = connect(student, 1_024);
    let request = post("/chat", &[], EXPLANATION.as_bytes());
    client.write_all(&request).await.unwrap();
    let begun = Instant::now();
    let reply = Reply::read(&mut client).await;
    assert_eq!(
        begun.elapsed().as_secs(),
        Limits::default().request.as_secs()
    );
    assert_eq!(reply.status, 408);
    assert!(reply.detail().contains("within 120 s"));
    soon(dropped.cancelled()).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off_and_costs_bounded_memory() {
    let dropped = CancellationToken::new();
    let drops = dropped.clone();
    let said = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let saying = said.clone();
    let student = Scripted::new(move |_| {
        let (guard, saying) = (drops.clone().drop_guard(), saying.clone());
        Box::pin(stream::repeat_with(move || {
            let _held = &guard;
            saying.fetch_add(16 << 10, std::sync::atomic::Ordering::Relaxed);
            Ok(TeachEvent::Text("x".repeat(16 << 10)))
        }))
    });
    let mut client = connect(student, 1_024);
    let request = post("/chat/stream", &[], EXPLANATION.as_bytes());
    client.write_all(&request).await.unwrap();
    let begun = Instant::now();
    soon(dropped.cancelled()).await;
    let config = ServerConfig::default();
    assert_eq!(begun.elapsed().as_secs(), config.write_stall.as_secs());
    let said = said.load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        said <= 2 * config.buffer_bytes,
        "{said} bytes were made for nobody"
    );
}

#[tokio::test(start_paused = true)]
async fn limits_without_end_are_taken_as_long_ones() {
    let forever = Duration::MAX;
    let limits = Limits {
        body_read: forever,
        request: forever,
        first_event: forever,
        between_events: forever,
        stream: forever,
        ..Limits::default()
    };
    let config = GatewayConfig {
        limits,
        heartbeat: Duration::ZERO,
        ..GatewayConfig::default()
    };
    let server = ServerConfig {
        header_read: forever,
        write_stall: forever,
        ..ServerConfig::default()
    };
    let gateway = gateway(speaks_after(&[2]), &config, Health::default());
    let server = Server::new(gateway, server);
    let (mut client, io) = duplex(1 << 20);
    tokio::spawn(async move { server.connection(io).await });
    let request = post("/chat/stream", &[], EXPLANATION.as_bytes());
    client.write_all(&request).await.unwrap();
    let mut text = String::new();
    while !text.contains("data: \"2\"") {
        let mut bytes = [0; 1_024];
        let read = soon(client.read(&mut bytes)).await.unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert!(text.matches(": \n\n").count() <= 2, "{text}");
}
