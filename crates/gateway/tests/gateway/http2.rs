//! HTTP/2 without TLS, by a client that writes frames no library would.

use std::time::Duration;

use lyceum_gateway::{GatewayConfig, Server, ServerConfig};
use lyceum_observe::Health;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep},
};

use crate::support::{EXPLANATION, Scripted, gateway, serve, soon};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Types of frames: RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// GET / of localhost, by the static table of HPACK.
const GET: &[u8] = b"\x82\x86\x84\x41\x09localhost";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection of which the preface was sent, with these settings.
async fn connect(settings: &[u8], buffer: usize) -> DuplexStream {
    let config = GatewayConfig::default();
    let gateway = gateway(Scripted::thorough(), &config, Health::default());
    let server = Server::new(gateway, ServerConfig::default());
    let (mut client, io) = duplex(buffer);
    tokio::spawn(async move { server.connection(io).await });
    client.write_all(PREFACE).await.unwrap();
    client
        .write_all(&frame(SETTINGS, 0, 0, settings))
        .await
        .unwrap();
    client.write_all(&frame(SETTINGS, 1, 0, b"")).await.unwrap();
    client
}

/// Reads frames until the server closes the connection: their types and payloads.
async fn rest(client: &mut (impl AsyncReadExt + Unpin)) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    let _ = soon(client.read_to_end(&mut bytes)).await;
    let (mut frames, mut left) = (Vec::new(), &bytes[..]);
    while left.len() >= 9 {
        let length = u32::from_be_bytes([0, left[0], left[1], left[2]]) as usize;
        let end = (9 + length).min(left.len());
        frames.push((left[3], left[9..end].to_vec()));
        left = &left[end..];
    }
    frames
}

/// The reason of a GOAWAY, where there is one.
fn reason(frames: &[(u8, Vec<u8>)]) -> Option<u8> {
    let goaway = frames.iter().rfind(|(kind, _)| *kind == GOAWAY)?;
    goaway.1.get(7).copied()
}

const ENHANCE_YOUR_CALM: u8 = 11;

#[tokio::test]
async fn a_client_that_knows_it_may_speak_http2_at_once() {
    let server = serve(Scripted::thorough()).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge();
    let client = client.build().unwrap();
    let url = format!("http://{}", server.address);
    let reply = client.get(format!("{url}/docs")).send().await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), reply.version()),
        (200, http::Version::HTTP_2)
    );
    assert!(!reply.headers().contains_key("strict-transport-security"));
    let post = client.post(format!("{url}/chat/stream")).body(EXPLANATION);
    let stream = post
        .header("content-type", "application/json")
        .send()
        .await
        .unwrap();
    let text = stream.text().await.unwrap();
    assert!(text.ends_with("data: \"[END_OF_STREAM]\"\n\n"), "{text}");
    // A name of another machine is refused in either version.
    let rebound = client
        .get(format!("{url}/docs"))
        .header("host", "evil.example");
    assert_eq!(rebound.send().await.unwrap().status(), 403);
    // Both versions end in order.
    server.shutdown.cancel();
    assert_eq!(soon(server.stopped).await.unwrap().cut, 0);
}

#[tokio::test(start_paused = true)]
async fn half_open_connections_of_http2_are_ended_in_time() {
    let header = frame(HEADERS, END_STREAM, 1, GET);
    for sent in [&b""[..], &header] {
        let mut client = connect(b"", 1 << 16).await;
        let begun = Instant::now();
        client.write_all(sent).await.unwrap();
        rest(&mut client).await;
        assert!(
            (10..=13).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
    }
    // One byte of the preface at a time.
    let config = GatewayConfig::default();
    let gateway = gateway(Scripted::thorough(), &config, Health::default());
    let server = Server::new(gateway, ServerConfig::default());
    let (client, io) = duplex(1 << 16);
    let serving = tokio::spawn(async move { server.connection(io).await });
    let begun = Instant::now();
    let (_reader, mut writer) = tokio::io::split(client);
    tokio::spawn(async move {
        for byte in PREFACE {
            let _ = writer.write_all(&[*byte]).await;
            sleep(Duration::from_secs(1)).await;
        }
    });
    soon(serving).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http2_that_takes_nothing_is_cut_off() {
    // No window at all: an answer is handed over and never fetched.
    let no_window = [0, 4, 0, 0, 0, 0];
    let mut client = connect(&no_window, 1 << 16).await;
    let begun = Instant::now();
    client
        .write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET))
        .await
        .unwrap();
    let frames = rest(&mut client).await;
    assert!(frames.iter().any(|(kind, _)| *kind == HEADERS));
    assert!(
        !frames
            .iter()
            .any(|(kind, data)| *kind == DATA && !data.is_empty())
    );
    assert!(
        (10..=45).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_rapid_reset_flood_ends_with_goaway() {
    let mut client = connect(b"", 1 << 20).await;
    let mut flood = Vec::new();
    for n in 0..2_000_u32 {
        let stream = 2 * n + 1;
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, GET));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let _ = client.write_all(&flood).await;
    let frames = rest(&mut client).await;
    assert_eq!(reason(&frames), Some(ENHANCE_YOUR_CALM), "{frames:?}");
}

#[tokio::test]
async fn a_continuation_flood_ends_with_goaway() {
    let mut client = connect(b"", 1 << 20).await;
    let (mut reader, mut writer) = tokio::io::split(client);
    let writing = tokio::spawn(async move {
        let first = frame(HEADERS, END_STREAM, 1, GET);
        let _ = writer.write_all(&first).await;
        // A header without an index, again and again: 1,000 bytes each.
        let field = [&b"\x00\x01x\x7f\xe9\x06"[..], &[b'y'; 1_000]].concat();
        let more = frame(CONTINUATION, 0, 1, &field);
        for _ in 0..10_000 {
            if writer.write_all(&more).await.is_err() {
                return;
            }
        }
    });
    let frames = rest(&mut reader).await;
    assert_eq!(reason(&frames), Some(ENHANCE_YOUR_CALM), "{frames:?}");
    drop(reader);
    soon(writing).await.unwrap();
    client = connect(b"", 1 << 20).await;
    drop(client);
}

#[tokio::test]
async fn a_header_bomb_over_http2_is_refused() {
    let server = serve(Scripted::thorough()).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge();
    let client = client.build().unwrap();
    let url = format!("http://{}/livez", server.address);
    let bomb = client
        .get(&url)
        .header("x-long", "x".repeat(40 << 10))
        .send()
        .await;
    assert!(bomb.is_err() || bomb.is_ok_and(|reply| reply.status() == 431));
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
}
